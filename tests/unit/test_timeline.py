"""A run in phases: parsed from text or YAML, one seeded schedule over all phases."""

import pytest

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic.timeline import parse

pytestmark = pytest.mark.unit

TEXT = "cold/steady@2:60s, warm/bursty@4:30s"
YAML = """\
phases:
  - {regime: cold, load: steady, rate: 2, duration: 60s}
  - {regime: warm, load: bursty, rate: 4, duration: 30s}
"""


def test_text_and_yaml_say_the_same(tmp_path):
    path = tmp_path / "t.yml"
    path.write_text(YAML, encoding="utf-8")
    assert parse(TEXT) == parse(str(path))


def test_phases_follow_each_other_and_have_their_own_arrivals():
    timeline = parse(TEXT)
    assert timeline.starts_us == [0, 60_000_000]
    schedule = list(timeline.arrivals(1))
    assert schedule == sorted(schedule)
    assert [sum(at_us < 60e6 for at_us in schedule), sum(at_us >= 60e6 for at_us in schedule)] == [120, 120]
    assert schedule == list(timeline.arrivals(1)) != list(timeline.arrivals(2))


def test_two_phases_of_the_same_load_differ():
    schedule = list(parse("cold/steady@2:60s,cold/steady@2:60s").arrivals(1))
    assert [at_us - 60_000_000 for at_us in schedule[120:]] != schedule[:120]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("cold", ["'cold' is not regime/load@rate:duration"]),
        ("cold/stedy@2:60s, cold/steady@0:60s", ["did you mean 'steady'", "rate 0/s"]),
        ("cold/steady@2:soon", ["'soon' is not a duration"]),
        ("", ["'' is not regime"]),
        ("cold/steady@2000:1h, warm/steady@2000:1h", ["--timeline: phases: 14,400,000 arrivals; a run may have"]),
        ("cold/steady@20000:1h", ["72,000,000 arrivals; a run may have 10,000,000"]),
        ("cold/steady@2:99999999999h", ["is longer than 10,000 days"]),
        ("nowhere.yml", ["nowhere.yml: cannot be read"]),
    ],
)
def test_every_mistake_is_named(text, messages):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert all(message in str(error.value) for message in messages)


def test_yaml_is_strict(tmp_path):
    path = tmp_path / "t.yml"
    path.write_text(YAML.replace("rate: 2", "rat: 2"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"did you mean 'rate'"):
        parse(str(path))
    assert parse(TEXT).phases[0].duration == Duration(60)
