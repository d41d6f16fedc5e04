"""`mine`: what of the shipped experiment becomes another one by a workload, a trace, regimes and a duration."""

import pytest

from experiments import own
from fave.errors import ConfigError
from fave.settings import ROOT

pytestmark = pytest.mark.unit

HELLO = str(ROOT / "examples" / "hello")


def test_the_shipped_experiment_is_about_the_workload_that_is_given():
    made = own.of(HELLO)
    assert (made.work.description, made.regimes, list(made.loads)) == (
        "a server from Python's standard library that says hello",
        ("cold", "warm"),
        ["steady", "bursty"],
    )


def test_every_pair_of_the_regimes_that_are_named_is_compared():
    made = own.of(HELLO, regimes="warm, burst-ready long-idle")
    assert made.contrasts == (("warm", "burst-ready"), ("warm", "long-idle"), ("burst-ready", "long-idle"))
    assert made.loads["steady"].overrides == {}


def test_a_longer_run_has_the_same_rate_and_the_same_bursts():
    steady, bursty = (own.of(HELLO, duration="56s").loads[name].traffic for name in ("steady", "bursty"))
    assert (steady.requests, steady.duration) == (112, 56)
    assert (bursty.requests, bursty.bursts, bursty.burst_length) == (112, 16, 1)


def test_a_trace_takes_the_place_of_both_loads(tmp_path):
    (tmp_path / "times.csv").write_text("timestamp\n" + "\n".join(str(0.5 * k) for k in range(200)))
    made = own.of(HELLO, trace=str(tmp_path / "times.csv"), duration="60s")
    (load,) = made.loads.values()
    assert (load.traffic.model, load.traffic.duration, load.blocks) == ("replay", 60, 3)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"duration": "soon"}, "duration: 'soon'"),
        ({"duration": "0s"}, "must be longer than 0"),
        ({"regimes": "cold lukewarm"}, "unknown 'lukewarm'"),
        ({"regimes": "cold cold"}, "a name stands twice"),
    ],
)
def test_what_cannot_be_is_refused(given, says):
    with pytest.raises(ConfigError) as caught:
        own.of(HELLO, **given)
    assert says in str(caught.value)
