import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fave.errors import ConfigError
from fave.settings import Duration, decode, to_plain
from fave.yaml_file import load_yaml

pytestmark = pytest.mark.unit


class Inner(msgspec.Struct, frozen=True, kw_only=True):
    idle_timeout: Duration
    count: int = 1


class Outer(msgspec.Struct, frozen=True, kw_only=True):
    inner: Inner
    named: dict[str, Inner] = {}
    pairs: tuple[tuple[str, str], ...] = ()


def test_every_mistake_is_reported_at_once_with_place_and_suggestion():
    data = {"inner": {"idle_timeot": "4s", "count": "x"}, "named": {"a": {"idle_timeout": "4 bananas"}}, "more": 1}
    with pytest.raises(ConfigError) as caught:
        decode(data, Outer, "file.yml")
    text = str(caught.value)
    assert "file.yml: inner: unknown key 'idle_timeot' (did you mean 'idle_timeout'?)" in text
    assert "file.yml: inner: key 'idle_timeout' is missing" in text
    assert "file.yml: inner.count: Expected `int`" in text
    assert "file.yml: named.a.idle_timeout: '4 bananas' is not a duration" in text
    assert "file.yml: unknown key 'more'" in text


def test_unreadable_and_malformed_files_are_config_errors(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path / "absent.yml", Outer)
    broken = tmp_path / "broken.yml"
    broken.write_text("a: [1", encoding="utf-8")
    with pytest.raises(ConfigError, match="not YAML"):
        load_yaml(broken, Outer)


@pytest.mark.parametrize(("text", "seconds"), [("500ms", 0.5), ("4s", 4), ("15m", 900), ("1h30m", 5400), ("0.5s", 0.5)])
def test_durations_carry_their_unit(text, seconds):
    assert Duration.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "4", "s", "4 s", "-1s", "4d", 4, None])
def test_durations_without_a_unit_are_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        Duration.parse(text)


@given(st.integers(1, 10**7), st.integers(0, 9))
def test_configuration_survives_a_round_trip(milliseconds, count):
    value = Outer(inner=Inner(idle_timeout=Duration(milliseconds / 1000), count=count), pairs=(("a", "b"),))
    again = decode(to_plain(value), Outer, "x")
    assert again.inner.count == count
    assert again.pairs == value.pairs
    assert again.inner.idle_timeout == pytest.approx(milliseconds / 1000, rel=1e-5)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.0005, 0.5, 1.5, 600.0, 1_000_000.0, 1_234_567.25])
def test_a_duration_is_written_so_that_it_is_read_as_the_same(seconds):
    assert Duration.parse(str(Duration(seconds))) == seconds
