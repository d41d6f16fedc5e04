"""The theory control: systems that are as the simulator has them pass, planted wrong ones do not."""

import random

import pytest
from msgspec import structs

from analysis.answers import controls
from analysis.rows import digest
from fave.settings import Duration
from fave.wire.records import ReplicaRow
from tests.support import event_simulator
from tests.support.campaigns import POLICIES, S, campaign, experiment, invocation, load

pytestmark = pytest.mark.unit

ARRIVALS, SERVICE_S, COLD_START_S = 1100, 0.04, 0.5
SINGLE = {"rate_per_s": 6.1, "idle_timeout_s": 0.4, "max_replicas": 1}
SHORT = SINGLE | {"idle_timeout_s": 0.2}
SEVERAL = {"rate_per_s": 12.0, "idle_timeout_s": 0.7, "max_replicas": 4}


def system(about, seed, *, n=ARRIVALS, events_late_s=0.0, lost=0.0, **wrong):
    """A run of a platform that has the settings, but for what is `wrong`; stamps are off by up to 2 ms."""
    chance = random.Random(seed)
    real = {"idle_timeout_s": about["idle_timeout_s"], "max_replicas": about["max_replicas"]} | wrong
    arrivals_s, at_s = [], 0.0
    for _ in range(n):
        at_s += chance.expovariate(about["rate_per_s"])
        arrivals_s.append(at_s)
    function = event_simulator.Function(SERVICE_S, COLD_START_S, min_replicas=0, **real)
    found = event_simulator.simulate(arrivals_s, function)
    rows, events = [], []
    for i, arrived_s in enumerate(arrivals_s):
        queue_s = found.start_s[i] - arrived_s
        row = invocation(
            i,
            arrived_s,
            cold=found.affected[i] and chance.random() >= lost,
            queue_s=queue_s,
            held_s=found.done_s[i] - arrived_s + chance.uniform(0, 0.002),
        )
        rows.append(row)
        if found.triggered[i]:
            for event, late_s in (("start", 0.0), ("ready", COLD_START_S + events_late_s)):
                events.append(event_of(i, event, arrived_s + late_s))
    settings = {"idle_timeout": Duration(about["idle_timeout_s"]), "max_replicas": about["max_replicas"]}
    return rows, events, settings


def event_of(i, event, at_s):
    return ReplicaRow(
        at_ns=int(at_s * S),
        source="gateway",
        function="f",
        event=event,
        replica_id=f"x{i}",
        request_id=f"r{i}" if event == "start" else "",
    )


def judged(about, seed, **wrong):
    rows, events, settings = system(about, seed, **wrong)
    traffic = {"model": "poisson", "requests": ARRIVALS, "duration": "500s"}
    control = {"kind": "theory", "load": "l", "regimes": ["a"]}
    made = experiment(regimes=["a"], contrasts=[], loads={"l": load(traffic=traffic)}, controls=[control])
    whole = campaign(made, {(0, "l", "a"): (rows, events)})
    run = whole.runs[0]._replace(settings={"f": structs.replace(POLICIES["f"], **settings)}, planned_end_ns=500 * S)
    return controls.check(whole._replace(runs=[run]), [digest.of(whole, run)], [])


def passes(about, seed, **wrong):
    return all(each.state == "passed" for each in judged(about, seed, **wrong))


@pytest.mark.parametrize("about", [SINGLE, SEVERAL])
def test_a_system_that_is_as_theory_has_it_passes(about):
    assert sum(passes(about, seed) for seed in range(12)) >= 10


@pytest.mark.parametrize(
    ("about", "wrong"),
    [
        (SHORT, {"idle_timeout_s": 0.23}),
        (SHORT, {"idle_timeout_s": 0.17}),
        (SHORT, {"events_late_s": -0.1}),
        (SHORT, {"lost": 0.1}),
        (SEVERAL, {"takes_turns": True}),
        (SEVERAL, {"max_replicas": 2}),
    ],
    ids=["timeout longer", "timeout shorter", "start time", "a label in ten lost", "routing", "maximum"],
)
def test_a_planted_wrong_system_does_not_pass(about, wrong):
    """The former test let a timeout that was 30 ms off pass 150 times of 150."""
    assert sum(passes(about, seed, **wrong) for seed in range(12)) <= 1


def test_what_was_expected_and_measured_is_told_with_margin_and_interval():
    triggered, affected = judged(SINGLE, 1, idle_timeout_s=0.8)
    assert triggered.state == affected.state == "failed"
    assert triggered.expected.startswith("triggered")
    assert "± 2 points" in triggered.expected
    assert affected.reason.startswith("affected: measured - simulated -")


def test_too_few_arrivals_decide_nothing():
    assert {each.state for each in judged(SINGLE, 1, n=300)} == {"undecided"}
    found = judged(SINGLE, 1, idle_timeout_s=1e6, n=2)
    assert {each.state for each in found} == {"undecided"}
