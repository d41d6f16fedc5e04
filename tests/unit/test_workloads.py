"""What a workload's file may say, what is sent for it, and which answers are right."""

import json
from collections import Counter

import pytest

from fave.errors import ConfigError
from fave.settings import ROOT
from tests.support.videosearcher import STAGES
from workloads.__main__ import workload as first_lines
from workloads.asking import Asking
from workloads.model import load, names, of_record, recorded, shipped

pytestmark = pytest.mark.unit

HELLO = """
description: hello
functions:
  hello: {command: "./server {port}", environment: {LEVEL: high, API_KEY: sesame}}
requests:
  ask: {function: hello, body: {name: "caller {k}", id: "{request_id}", n: "{k}", to: "{who}"}, variables: {who: [a]}}
"""


def written(tmp_path, text):
    path = tmp_path / "my.yml"
    path.write_text(text)
    return load(str(path))


def test_fields_take_the_place_of_their_names_and_a_whole_text_keeps_its_kind(tmp_path):
    asking = Asking(written(tmp_path, HELLO), "")
    sent = asking.for_arrival(7, "r-7")
    assert json.loads(sent.body) == {"name": "caller 7", "id": "r-7", "n": 7, "to": ["a"]}
    assert (sent.function, sent.method, sent.headers) == ("hello", "POST", {"Content-Type": "application/json"})
    other = Asking(written(tmp_path, HELLO), "ask", variables={"who": "c"}).for_arrival(0, "r-0")
    assert json.loads(other.body)["to"] == "c"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("{k}", "{nobody}"), "requests.ask: body: no field is called 'nobody' (there are: bucket, function, k, reg"),
        (('{name: "caller {k}"', '{name: "@x"'), ""),
        (("function: hello", "function: hullo"), "requests.ask.function: 'hullo' is none of hello"),
        (("variables:", "expect: {text: '('}, variables:"), "'(' is no regular expression"),
        (("variables:", "expect: {json: {a: 1}}, variables:"), "'a' is no JSON pointer: it begins with /"),
        (("variables:", "weight: 0, variables:"), "requests: at least one with a weight over 0"),
        (("variables:", "path: greet, variables:"), "path: 'greet' must begin with /"),
        (('command: "./server {port}", ', ""), "functions.hello: needs a handler, a command or an image"),
        (("environment", "memory_limit_mb: 0, environment"), "memory_limit_mb: 0 must be over 0"),
    ],
)
def test_what_cannot_be_is_told_with_value_and_place(tmp_path, change, says):
    if not says:
        Asking(written(tmp_path, HELLO.replace(*change)), "")
        return
    with pytest.raises(ConfigError) as caught:
        Asking(written(tmp_path, HELLO.replace(*change)), "")
    assert says in str(caught.value)


def test_a_body_is_a_file_beside_the_workload_and_one_that_is_missing_is_named(tmp_path):
    text = HELLO.replace('{name: "caller {k}", id: "{request_id}", n: "{k}", to: "{who}"}', '"@in.png"')
    with pytest.raises(ConfigError, match=r"requests\.ask: body: .*in\.png: No such file"):
        Asking(written(tmp_path, text), "")
    (tmp_path / "in.png").write_bytes(b"\x89PNG")
    sent = Asking(written(tmp_path, text), "").for_arrival(0, "r")
    assert (sent.body, sent.headers) == (b"\x89PNG", {"Content-Type": "image/png"})


def test_the_seed_draws_bodies_and_requests_and_the_same_arrival_asks_the_same_in_every_regime(tmp_path):
    (tmp_path / "inputs").mkdir()
    for name in "abc":
        (tmp_path / "inputs" / name).write_text(name)
    mix = """
description: a mix
functions: {f: {command: x}, g: {command: x}}
requests:
  often: {function: f, weight: 3, bodies: ["@inputs"]}
  seldom: {function: g, method: GET, path: "/{k}?regime={regime}"}
  never: {function: g, weight: 0}
"""
    cold, warm = (Asking(written(tmp_path, mix), "", seed=5, regime=name) for name in ("cold", "warm"))
    drawn = [cold.for_arrival(k, "r") for k in range(400)]
    assert [each.body for each in drawn] == [warm.for_arrival(k, "r").body for k in range(400)]
    counts = Counter(each.request for each in drawn)
    assert set(counts) == {"often", "seldom"}
    assert 250 < counts["often"] < 350
    assert {each.body for each in drawn if each.request == "often"} == {b"a", b"b", b"c"}
    assert next(each.path for each in drawn if each.request == "seldom").endswith("?regime=cold")
    assert cold.functions == ("f", "g")
    assert [each.body for each in drawn] != [
        Asking(written(tmp_path, mix), "", seed=6).for_arrival(k, "r").body for k in range(400)
    ]


@pytest.mark.parametrize(
    ("expect", "status", "content", "says"),
    [
        ("{}", 204, b"", ""),
        ("{}", 500, b"oops", "500: oops"),
        ("{status: 418}", 418, b"", ""),
        ("{status: 418}", 200, b"", "200: "),
        ("{text: 'gr[ae]y'}", 200, b"a grey cat", ""),
        ("{text: 'gr[ae]y'}", 200, b"a cat", "wrong answer: 'gr[ae]y' is not in it: a cat"),
        ("{json: {/a/1/b~1c: 2}}", 200, b'{"a": [0, {"b/c": 2}]}', ""),
        ("{json: {/a/1/b~1c: 2}}", 200, b'{"a": [0]}', "wrong answer: /a/1/b~1c is null, expected 2"),
        ("{json: {/a: 2}}", 200, b"<html>", "wrong answer: no JSON: <html>"),
    ],
)
def test_a_reply_with_a_wrong_body_is_a_failure(tmp_path, expect, status, content, says):
    asking = Asking(written(tmp_path, HELLO.replace("variables:", f"expect: {expect}, variables:")), "")
    assert asking.wrong("ask", status, content) == says


def test_what_is_kept_of_a_workload_holds_no_body_no_folder_and_no_secret(tmp_path):
    kept = of_record(
        written(tmp_path, HELLO.replace("variables:", "headers: {Authorization: Bearer sesame}, variables:"))
    )
    assert kept["functions"]["hello"]["environment"]["LEVEL"] == "high"
    text = json.dumps(kept)
    assert "sesame" not in text
    assert "caller" not in text
    assert str(tmp_path) not in text
    assert kept["requests"]["ask"]["body"].startswith("sha256:")


def test_an_unknown_workload_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"(?s)unknown workload 'nothing'.*videosearcher"):
        load("nothing")
    with pytest.raises(ConfigError, match=r"nothing\.yml: there is no such file"):
        load("nothing.yml")


def test_a_folder_stands_for_the_workload_in_it(tmp_path):
    (tmp_path / "workload.yml").write_text(HELLO)
    assert load(str(tmp_path)).description == "hello"


def test_the_graph_of_the_shipped_workload_is_one_and_directs_its_pipeline():
    work = shipped()
    assert names() == ["videosearcher"]
    assert work.directed("pipeline")
    assert not work.directed("stage-object-detector")
    assert set(work.functions_of("pipeline")) == set(work.functions)
    assert list(work.functions_of("stage-object-detector")) == ["stage-object-detector"]


@pytest.mark.parametrize(
    ("graph", "says"),
    [
        (
            "{director: d, nodes: [{function: f, inputs: [{of: g}]}]}",
            "f takes what 'g' makes, which is no function before it",
        ),
        ("{director: f, nodes: [{function: f, inputs: [{of: input}]}]}", "'f' stands twice, directs"),
        ("{director: d, nodes: [{function: f, inputs: [], per_item: true}]}", "f runs per item; items says of which"),
        ("{director: d, nodes: []}", "nodes: at least one"),
        ("{director: x, nodes: [{function: f, inputs: []}]}", "graph: 'x' is none of d, f"),
    ],
)
def test_a_graph_that_cannot_be_walked_is_refused(tmp_path, graph, says):
    text = "description: g\nfunctions: {d: {command: x}, f: {command: x}}\nrequests: {r: {function: d}}\ngraph: "
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, text + graph)
    assert says in str(caught.value)


# Rooms that are about the shipped workload, and one regime of it.
ABOUT_IT = ("workloads/", "functions/", "orchestrator/", "search/", "experiments/", "regimes/warm-librosa.yml")


def test_no_other_room_knows_a_stage_of_the_shipped_workload():
    """The specimen lay in the foundation, and 26 modules knew it."""
    names = {form for name in STAGES for form in (name, name.replace("-", "_"))}
    rooms = ("analysis", "assets", "fave", "generator", "local", "locustfiles", "prom", "regimes")
    files = [
        path for room in rooms for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".yml", ".j2", ".js")
    ]
    assert len(files) > 120
    told = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        if not str(path.relative_to(ROOT)).startswith(ABOUT_IT)
        for name in names
        if name in path.read_text(encoding="utf-8")
    ]
    assert told == []


@pytest.mark.parametrize(
    ("given", "function", "about"),
    [
        ({"run": "python3 server.py {port}"}, "python3", {"command": "python3 server.py {port}"}),
        ({"run": "./my server: {port}", "name": "mine"}, "mine", {"command": "./my server: {port}"}),
        ({"image": "registry:5000/me/greeter:1.2"}, "greeter", {"image": "registry:5000/me/greeter:1.2"}),
        ({"url": "http://gateway:8080/function/greeter/v1"}, "greeter", {}),
    ],
)
def test_the_first_lines_of_a_workload_are_one(tmp_path, given, function, about):
    made = written(tmp_path, first_lines(**given))
    assert list(made.functions) == [function]
    assert all(getattr(made.functions[function], name) == value for name, value in about.items())
    assert made.deploy is not ("url" in given)
    assert Asking(made, "").for_arrival(3, "r").body == b"hello 3"


def test_an_address_that_is_no_functions_is_refused():
    with pytest.raises(ConfigError, match="is no http://GATEWAY/function/NAME"):
        first_lines(url="http://example.org/")


def test_values_are_quoted_in_a_path_and_what_an_address_cannot_hold_is_refused(tmp_path):
    text = HELLO.replace(
        "variables: {who: [a]}", "path: '/find?q={q}&k={k}', variables: {who: [a], q: 'cars & dogs {k}'}"
    )
    assert Asking(written(tmp_path, text), "").for_arrival(7, "r").path == "/find?q=cars%20%26%20dogs%207&k=7"
    with pytest.raises(ConfigError, match="path: '/日本': only printable ASCII without blanks"):
        Asking(written(tmp_path, HELLO.replace("variables:", "path: /日本, variables:")), "")


def test_a_body_that_is_one_variable_has_that_variables_kind(tmp_path):
    text = (
        "description: d\nfunctions: {f: {command: x}}\n"
        "requests: {r: {function: f, body: '{all}', variables: {all: {n: '{k}'}}}}"
    )
    sent = Asking(written(tmp_path, text), "").for_arrival(3, "r")
    assert (sent.body, sent.headers) == (b'{"n":3}', {"Content-Type": "application/json"})
    within = text.replace("'{all}'", "'all: {all}'")
    assert Asking(written(tmp_path, within), "").for_arrival(3, "r").body == b'all: {"n":"3"}'
    with pytest.raises(ConfigError, match="a key holds no fields"):
        Asking(written(tmp_path, text.replace("n: '{k}'", "'{k}': 1")), "")


def test_another_content_of_a_file_is_another_workload(tmp_path):
    (tmp_path / "p.json").write_text("1")
    text = "description: d\nfunctions: {f: {command: x}}\nrequests: {r: {function: f, body: '@p.json'}}"
    before = of_record(written(tmp_path, text))
    assert of_record(written(tmp_path, text)) == before
    (tmp_path / "p.json").write_text("2")
    assert of_record(written(tmp_path, text)) != before


def test_a_mix_without_the_requests_of_no_weight_is_what_its_report_is_about():
    found = recorded(of_record(shipped()))
    assert found.entries_of("") == ("orchestrator",)
    assert found.graph.director == "orchestrator"


def test_what_is_kept_is_the_same_when_it_is_read_back():
    """Else every campaign would seem to be about another workload than it began with."""
    assert json.loads(json.dumps(of_record(shipped()))) == of_record(shipped())


def test_what_is_kept_does_not_name_this_accounts_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    text = HELLO.replace('"./server {port}"', "/home/someone/bin/x --log=/home/someone/log /home/someoneelse/y")
    kept = json.dumps(of_record(written(tmp_path, text)))
    assert "~/bin/x --log=~/log /home/someoneelse/y" in kept
    assert "/home/someone/" not in kept
