"""YAML files say what they seem to say, or are refused with file and line."""

import contextlib
import math
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import experiments.model as experiments
import regimes.model as regimes
from fave import yaml_file
from fave.errors import ConfigError
from fave.settings import ROOT
from fave.traffic import timeline
from fave.yaml_file import load_yaml
from platforms import stack

pytestmark = pytest.mark.unit


def parsed(text):
    return yaml_file.parse(text, "f.yml")


def refused(text):
    """What is wrong with the text, a line each."""
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("on", "off", "yes", "no", "y", "N", "On", "1:30", "190:20:30", "1_000", "0b11")),
        *((word, word) for word in ("2024-11-24", "2024-11-24T10:00:00Z", "=", "<<", "+.nan", "0x", "1e", ".", "0o9")),
        ("'010'", "010"), ("!!str 12", "12"), ("|\n  12\n", "12\n"),
        ("true", True), ("FALSE", False), ("~", None), ("", None), ("Null", None),
        ("10", 10), ("-3", -3), ("+3", 3), ("0", 0), ("0o17", 15), ("0xfF", 255),
        ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-3", -0.0015), ("0.07", 0.07),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = parsed(f"key: {text}").data["key"]
    assert (type(found), found) == (type(value), value)


# Without what no YAML file may hold as it is, and what PyYAML still takes for ends of lines.
TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\x7f\x85\u2028\u2029\ufeff\ufffe\uffff")
)


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-10**12, 10**12) | st.floats(-1e300, 1e300) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
))  # fmt: skip
def test_whatever_is_json_is_read_as_json(value):
    """JSON is YAML 1.2: numbers, quotes, escapes and nesting mean the same."""
    text = msgspec.json.encode({"key": value}).decode()
    assert parsed(text).data["key"] == value


def test_a_key_that_stands_twice_is_refused_with_both_lines():
    text = "seed: 1\nloads:\n  steady: {blocks: 1}\n  bursty: {blocks: 2}\n  steady:\n    blocks: 3\nseed: 2\n"
    assert refused(text) == [
        "f.yml:5: loads.steady: stands twice, first on line 3; keep one",
        "f.yml:7: seed: stands twice, first on line 1; keep one",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2024: a", "'2024' is read as a number"),
        ("1.5: a", "'1.5' is read as a number"),
        ("true: a", "'true' is read as true or false"),
        ("~: a", "'~' is read as nothing"),
        ("? [a, b]\n  : c", "a list"),
        ("? {a: b}\n  : c", "keys and values"),
    ],
)
def test_a_key_that_is_no_text_is_refused_with_its_line_and_the_remedy(line, said):
    assert refused(f"a: 1\nb:\n  {line}\n") == [f"f.yml:3: b: a key must be text, {said}; write it in quotes"]


def test_keys_that_yaml_1_1_reads_otherwise_are_text():
    assert parsed("on: 1\nno: 2\n2024-11-24: 3\n").data == {"on": 1, "no": 2, "2024-11-24": 3}


@pytest.mark.parametrize("text", ["010", "-007", "00", "0123456789", "09"])
def test_a_leading_zero_is_refused_because_it_has_two_meanings(text):
    (problem,) = refused(f"a: 1\nrequests: {text}\n")
    assert problem.startswith(f"f.yml:2: requests: {text} begins with 0: write ")
    assert f"write {abs(int(text, 10))}," in problem


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "1e999", "9" * 5000, "0x" + "f" * 5000])
def test_numbers_that_nobody_can_mean_are_refused(text):
    (problem,) = refused(f"a: {text}")
    assert "is no number that could be meant" in problem
    assert len(problem) < 120


@pytest.mark.parametrize(
    "text", ["!!python/object:os.system x", "!!set {a, b}", "!mine 1", "!!int x", "!!bool yes",
             "!!timestamp 2024-01-01", "!!omap [a: 1]", "!!binary aGk="],
)  # fmt: skip
def test_a_tag_beyond_json_is_refused_with_its_line(text):
    (problem,) = refused(f"a:\n- 1\n- {text}\n")
    assert problem.startswith("f.yml:3: a[1]: ")
    assert "which is not supported" in problem


def test_all_mistakes_are_told_at_once():
    found = refused("a: 010\nb: {1: x}\nc: !x y\na: 2\n")
    assert [problem.partition(": ")[0] for problem in found] == ["f.yml:1", "f.yml:2", "f.yml:3", "f.yml:4"]


def test_merge_keys_bring_what_a_mapping_does_not_say_itself():
    text = "base: &b {x: 1, y: 2, z: {on: yes}}\nmore: &m {y: 5, w: 6}\nown: {<<: [*b, *m], x: 7}\nagain: {<<: *b}\n"
    assert parsed(text).data["own"] == {"x": 7, "y": 2, "z": {"on": "yes"}, "w": 6}
    assert parsed(text).data["again"] == {"x": 1, "y": 2, "z": {"on": "yes"}}
    inner = "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}\n"
    assert parsed(inner).data["c"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {<<: 1}", "merges what has no keys"),
        ("a: {<<: [1]}", "merges what has no keys"),
        ("a: &a {<<: *a, x: 1}", "merges itself"),
        ("b: &b {y: 1}\na: {<<: *b, <<: *b}", "stands twice"),
    ],
)
def test_a_merge_that_makes_no_sense_is_refused(text, said):
    assert any(said in problem for problem in refused(text))


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 60))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "aliases make more than 100,000 values"),
        (MERGES, "aliases make more than 100,000 values"),
        ("a: &a [*a]", "f.yml:1: a[0]: holds itself"),
        ("a: &a {b: {c: *a}}", "holds itself"),
        ("a: " + "[" * 200 + "]" * 200, "nested more than 100 deep"),
        ("a: " + "[" * 20_000 + "]" * 20_000, "nested too deeply"),
        ("a: " + "{b: " * 20_000, "nested too deeply"),
        ("a: *nowhere", "f.yml:1: not YAML: found undefined alias"),
        ("a: [1", "f.yml:1: not YAML"),
        ("a: 1\n\tb: 2", "f.yml:2: not YAML"),
        ("a: 1\n---\nb: 2", "f.yml:2: not YAML"),
        ("a: 1\nb: \x07", "f.yml:2: not YAML: special characters are not allowed (U+0007)"),
        ("", "f.yml: is empty; it should have keys and values"),
        ("# nothing\n", "f.yml: is empty"),
        ("just text", "f.yml: is text"),
        ("- a\n- b\n", "f.yml: is a list"),
        ("42", "f.yml: is a number"),
    ],
    ids=lambda value: value[:20].replace("\n", " "),
)
def test_hostile_and_mistaken_files_are_refused_in_one_message(text, said):
    assert any(said in problem for problem in refused(text))


@given(st.text(alphabet="ab:&*<[]{},-?|>!'\"#% \n\t01.~", max_size=60))
def test_no_text_at_all_makes_a_traceback(text):
    with contextlib.suppress(ConfigError):
        assert isinstance(parsed(text).data, dict)


class Values(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    share: float = 0.0
    pair: tuple[str, str] = ("a", "b")


@pytest.mark.parametrize("head", [b"", b"\xef\xbb\xbf"], ids=["plain", "with a byte-order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_utf_8_is_read_with_or_without_a_mark(tmp_path, head, end):
    path = tmp_path / "f.yml"
    path.write_bytes(head + end.join(["name: schön".encode(), b"share: 1", b""]))
    assert load_yaml(path, Values) == Values(name="schön", share=1.0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\nname: schön\n".encode("latin-1"), r"f\.yml:2: byte 0xf6 is not UTF-8 \(is it Latin-1\?\)"),
        ("name: x\n".encode("utf-16"), r"f\.yml: is UTF-16"),
        ("name: x\n".encode("utf-32"), r"f\.yml: is UTF-32"),
        ("a: 1\nname: x\n".encode("utf-16-le"), r"f\.yml:1: holds a NUL byte"),
        (b"name: x\nshare: \0\n", r"f\.yml:2: holds a NUL byte"),
        (b"a: " + b"x" * 2**20, "longer than 1048576 bytes"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_text_in_utf_8_is_refused_with_the_remedy(tmp_path, content, said):
    path = tmp_path / "f.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        load_yaml(path, Values)
    assert "traceback" not in str(caught.value).lower()
    assert caught.value.hint or "longer" in said or "empty" in said


def test_what_cannot_be_opened_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.yml", tmp_path / "nul\0.yml"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_yaml(path, Values)
    with pytest.raises(ConfigError, match="NUL byte"):
        load_yaml(Path("/dev/zero"), Values)


def test_mistakes_in_values_have_the_line_of_their_key(tmp_path):
    path = tmp_path / "f.yml"
    path.write_text("# a comment\nname: x\nnmae: y\nshare:\n  a: b\npair: [a, b, c]\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_yaml(path, Values)
    assert caught.value.problems == [
        f"{path}:3: unknown key 'nmae' (did you mean 'name'?)",
        f"{path}:4: share: Expected `float`, got `object`",
        f"{path}:6: pair: 2 values are needed, not 3",
    ]


@pytest.mark.parametrize("value", [10**299, -(10**299), math.pi])
def test_a_large_whole_number_may_stand_for_a_fraction(tmp_path, value):
    path = tmp_path / "f.yml"
    path.write_text(f"name: x\nshare: {value}\n", encoding="utf-8")
    assert load_yaml(path, Values).share == float(value)


def test_an_experiment_tells_the_line_of_every_mistake(tmp_path):
    """Those of single values, those between keys, and those that only the named regimes show."""
    text = (ROOT / "experiments" / "quick.yml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yml"
    line = text[: text.index("\nseed:")].count("\n") + 2
    path.write_text(re.sub(r"\nseed: .*", "\nseed: 007", text), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"mine\.yml:{line}: seed: 007 begins with 0"):
        experiments.load(str(path))
    path.write_text(text.replace("\nseed:", "\nattempts: 0\nseed:"), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"mine\.yml:{line}: attempts: 0 must be"):
        experiments.load(str(path))
    path.write_text(text.replace("\nregimes:", "\naliases: {cold: warm}\nregimes:"), encoding="utf-8")
    line = path.read_text(encoding="utf-8").split("\naliases")[0].count("\n") + 2
    with pytest.raises(ConfigError, match=rf"mine\.yml:{line}: aliases: 'cold' is the name of a regime"):
        experiments.load(str(path))


def test_a_regime_a_timeline_and_a_stack_are_read_by_the_same_rules(tmp_path):
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("description: a\ndescription: b\n", encoding="utf-8")
    for read in (
        lambda: regimes.load("wrong", tmp_path),
        lambda: timeline.parse(str(wrong)),
        lambda: stack.load(wrong, {}),
    ):
        with pytest.raises(ConfigError, match=r"wrong\.yml:2: description: stands twice, first on line 1"):
            read()


def test_all_mistakes_of_a_stack_file_are_told_with_their_lines(tmp_path):
    path = tmp_path / "stack.yml"
    path.write_text(
        "functions:\n  a: {image: 7,\n    readonly_root_filesystem: no}\n  b: text\n  c:\n    image: x\n"
        "    environment: {ONE: 1.10, TWO: 2, ON: on}\n    annotations: {port: 8080}\n    secrets: one\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as caught:
        stack.load(path, {})
    assert [problem.removeprefix(str(path)) for problem in caught.value.problems] == [
        ":2: functions.a.image: must be the address of an image",
        ":3: functions.a.readonly_root_filesystem: must be true or false",
        ":4: functions.b: expected keys and values",
        ":9: functions.c.secrets: expected a list",
        ":7: functions.c.environment.ONE: 1.1 must be text; write it in quotes",
        ":8: functions.c.annotations.port: 8080 must be text; write it in quotes",
    ]


def test_nothing_else_reads_yaml():
    """A second reader would have other rules."""
    code = [path for path in ROOT.glob("[a-z]*/**/*.py") if not path.is_relative_to(ROOT / "tests")]
    assert len(code) > 50
    assert {
        path.name for path in code if re.search(r"yaml\.\w*(load|compose|parse|scan)\w*\(", path.read_text("utf-8"))
    } == {"yaml_file.py"}
