"""Arms that switch: when, what stood from when to when, what cannot be; traffic in phases, and recovery from it."""

import math
from itertools import pairwise

import pytest

from analysis.report import tables
from experiments import forecast, model, switching
from experiments.collect import Rows
from experiments.observe import Conditions, _switching, in_force, observe
from experiments.plan import plan
from experiments.switching import Step, bursts, closest_s, steps
from fave.campaign.experiment import Experiment
from fave.campaign.record import Change, Generated
from fave.errors import ConfigError
from fave.settings import from_plain, to_plain
from fave.strain import CpuUse
from fave.traffic.arrivals import Traffic, generate, seed_for
from fave.wire.records import ReplicaRow
from platforms.model import Seen
from tests.support.campaigns import (
    POLICIES,
    S,
    answers,
    campaign,
    experiment,
    invocation,
    load,
    request_of,
    typed,
)

pytestmark = pytest.mark.unit

US = 1_000_000
AHEAD = {"before_bursts": "3s", "regime": "warm", "otherwise": "cold"}


def made(**change):
    base = {"regimes": ["cold", "s"], "contrasts": [["cold", "s"]], "loads": {"l": load(blocks=3)}}
    return from_plain(experiment(**(base | change)), Experiment)


LONG = {"l": load(traffic={"model": "paced", "requests": 9, "duration": "60s"}, blocks=3)}


def at(*seconds):
    return tuple(round(s * US) for s in seconds)


def test_a_silence_ends_a_burst_and_anything_shorter_does_not():
    assert bursts(at(0, 0.5, 1, 4, 4.1, 9), 2.0) == [(0.0, 1.0), (4.0, 4.1), (9.0, 9.0)]
    assert bursts(at(0, 1.9, 3.8), 2.0) == [(0.0, 3.8)]
    assert bursts((), 2.0) == []


def test_the_regime_is_there_before_each_burst_and_gone_after_it():
    found = steps(made(prewarming={"s": AHEAD}, loads=LONG), "l", "s", at(10, 10.5, 20))
    assert found == [Step(0, "cold"), Step(7, "warm"), Step(10.5, "cold"), Step(17, "warm"), Step(20, "cold")]


def test_a_burst_at_the_beginning_finds_the_regime_standing_and_near_ones_keep_it():
    found = steps(made(prewarming={"s": AHEAD | {"after_bursts": "1s"}}, loads=LONG), "l", "s", at(1, 1.2, 4, 20))
    assert found == [Step(0, "warm"), Step(5, "cold"), Step(17, "warm"), Step(21, "cold")]


def test_a_schedule_goes_by_the_clock_and_other_arms_do_not_switch():
    clock = [{"at": "0s", "regime": "cold"}, {"at": "4s", "regime": "warm"}]
    assert steps(made(switching={"s": clock}), "l", "s", at(1)) == [Step(0, "cold"), Step(4, "warm")]
    assert steps(made(switching={"s": clock}), "l", "cold", at(1)) == [Step(0, "cold")]
    assert closest_s([Step(0, "a"), Step(1, "b"), Step(9, "a"), Step(12, "b")]) == 3
    assert closest_s([Step(0, "a"), Step(1, "b")]) is None


def test_no_switch_has_less_than_two_seconds_and_none_comes_after_the_end():
    """Whatever the arrivals are: what cannot be done would make every run invalid."""
    rule = AHEAD | {"before_bursts": "1s", "silence": "500ms", "after_bursts": "2s"}
    arm = made(prewarming={"s": rule}, loads=LONG)
    for seconds in ((0.5, 1.2, 4, 7.5, 8), (3, 9, 59), (2.9, 58.5), tuple(range(0, 60, 4))):
        found = steps(arm, "l", "s", at(*seconds))
        assert found[0].at_s == 0
        assert found[-1].at_s < 60
        assert all(b.at_s - a.at_s >= 2 - 1e-9 for a, b in pairwise(found)), found
        assert all(a.regime != b.regime for a, b in pairwise(found))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"switching": {"s": [{"at": "0s", "regime": "cold"}]}}, "two regimes or more"),
        ({"switching": {"s": [{"at": "1s", "regime": "cold"}, {"at": "5s", "regime": "warm"}]}}, "the first at 0s"),
        ({"switching": {"s": [{"at": "0s", "regime": "cold"}, {"at": "1s", "regime": "warm"}]}}, "2 s apart at least"),
        ({"switching": {"s": [{"at": "0s", "regime": "cold"}, {"at": "4s", "regime": "cold"}]}}, "stands already"),
        ({"switching": {"s": [{"at": "0s", "regime": "cold"}, {"at": "10s", "regime": "warm"}]}}, "load l lasts 10"),
        ({"prewarming": {"s": AHEAD}, "aliases": {"s": "warm"}}, "prewarming.s: the arm is aliases already"),
        ({"prewarming": {"s": AHEAD | {"otherwise": "warm"}}}, "is the regime that bursts have"),
        ({"prewarming": {"x": AHEAD}}, "prewarming: 'x' is not among the regimes"),
        ({"prewarming": {"s": AHEAD}, "loads": {"l": load(initial_replicas={"s": 1})}}, "begins as its first regime"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(change, problem):
    with pytest.raises(ValueError, match=problem):
        made(**change)


FILE = """
description: d
expected_duration: x
seed: 1
regimes: [cold, ahead]
primary_outcome: invocation_cold_rate
contrasts: [[cold, ahead]]
prewarming: {ahead: {before_bursts: 3s, regime: %s, otherwise: cold}}
loads:
  l:
    target: stage-object-detector
    traffic: {model: bursts, requests: 9, duration: 30s, bursts: 3, burst_length: 1s}
    blocks: 3
    overrides: {ahead: {%s}}
"""


@pytest.mark.parametrize(
    ("regime", "override", "problem"),
    [
        ("hot", "idle_timeout: 1s", "regimes: unknown 'hot'"),
        ("warm", "idle_timeout: 1s, min_replicas: 1", "leave nothing to switch"),
    ],
)
def test_regimes_that_are_not_there_or_are_the_same_are_refused(tmp_path, regime, override, problem):
    (tmp_path / "e.yml").write_text(FILE % (regime, override))
    with pytest.raises(ConfigError, match=problem):
        model.load(str(tmp_path / "e.yml"))


def test_overrides_hold_in_all_regimes_of_an_arm(tmp_path):
    (tmp_path / "e.yml").write_text(FILE % ("warm", "idle_timeout: 1s"))
    found = model.load(str(tmp_path / "e.yml"))
    policies = [found.policies("l", "ahead", regime)["stage-object-detector"] for regime in ("cold", "warm")]
    assert [(each.min_replicas, each.idle_timeout) for each in policies] == [(0, 1), (1, 1)]


def test_what_is_switched_faster_than_replicas_started_is_refused_with_both_times(tmp_path):
    (tmp_path / "e.yml").write_text(FILE % ("warm", "idle_timeout: 1s"))
    found = model.load(str(tmp_path / "e.yml"))
    groups = plan(found)
    assert forecast.too_fast(found, groups, None) == []
    assert forecast.too_fast(found, groups, forecast.Pilot("p", {}, start_s=2.9)) == []
    (said,) = forecast.too_fast(found, groups, forecast.Pilot("p", {}, start_s=3.5))
    assert said == "ahead, l: a switch has 3 s, a replica took 3.5 s to start (p)"


def change(regime, asked_s, there_s=0.0, late_s=0.0, error=""):
    return Change(
        regime=regime,
        by="schedule",
        planned_at_ns=round((asked_s - late_s) * S),
        requested_at_ns=round(asked_s * S),
        effective_at_ns=round(there_s * S),
        error=error,
    )


def conditions(*switches, missed=0):
    switched_to = {"warm": POLICIES, "cold": POLICIES}
    return Conditions({"f": 0}, 0, True, True, CpuUse(0, 0, 0), None, POLICIES, switches, missed, switched_to)


def test_a_policy_is_held_against_replicas_only_while_it_is_in_force():
    found = in_force(conditions(change("warm", 4, 5), change("cold", 8, 8.5)), 10 * S)
    assert [(since / S, until / S) for _, since, until in found] == [(0, 4), (5, 8), (8.5, 10)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (conditions(change("warm", 4, 5)), ""),
        (conditions(change("warm", 4, 0, error="no answer")), "regime warm: no answer"),
        (conditions(change("warm", 4, 5, late_s=1.2)), "regime warm was asked for 1.2 s late"),
        (conditions(missed=2), "2 switches were never asked for"),
    ],
)
def test_a_run_whose_regime_was_not_what_the_arm_says_is_not_valid(given, said):
    assert _switching(given).startswith(said) if said else not _switching(given)


def switched_campaign():
    """Twenty calls, one a half second; warm from 4 to 6 s, where the first two are cold."""
    stages = [invocation(i, i / 2, cold=i < 2 or i in (8, 9), held_s=0.1) for i in range(20)]
    cells = {(block, "l", regime): (stages, []) for block in range(3) for regime in ("cold", "s")}
    found = campaign(
        experiment(
            regimes=["cold", "s"], contrasts=[["cold", "s"]], prewarming={"s": AHEAD}, loads={"l": load(blocks=3)}
        ),
        cells,
    )
    changes = (change("warm", 4, 5), change("cold", 6, 6.2))
    runs = [
        run._replace(applied_regime="cold", switches=changes * (run.regime == "s"), policies={"warm": POLICIES})
        for run in found.runs
    ]
    return found._replace(runs=runs)


def test_switches_and_phases_are_told_of_arms_that_have_them():
    found = typed(answers(switched_campaign()))
    to_warm, to_cold = found.switches
    assert (to_warm.regime, to_warm.switch, to_warm.switches) == ("s", "cold to warm", 3)
    assert (to_warm.in_force_s.estimate, to_warm.longest_s) == (pytest.approx(1), pytest.approx(1))
    assert (to_warm.cold.cold, to_warm.cold.of) == (6, 6), "two in each run were sent on the way, and both were cold"
    assert to_cold.cold.of == 3
    phases = {each.phase: each for each in found.phases}
    assert list(phases) == ["cold", "to warm", "warm", "to cold"]
    assert (phases["cold"].requests, phases["cold"].cold.cold) == (3 * (8 + 7), 3 * 2), "before and after, together"
    assert phases["warm"].mean_latency_s.estimate == pytest.approx(0.1)
    assert sum(each.seconds for each in found.phases) == pytest.approx(9.6), "to the last reply"
    titles = [each.title for each in tables.tables(found)]
    assert {"Switches", "Phases of a run"} <= set(titles)


def test_nothing_is_simulated_and_nothing_breaks_even_where_the_regime_changed():
    found = answers(switched_campaign())
    assert [each["predicted"] is None for each in found["cells"]] == [False, True]
    assert found["break_even"] == []


PHASES = {
    "model": "phases",
    "phases": [
        {"model": "paced", "requests": 4, "duration": "4s"},
        {"model": "bursts", "requests": 6, "duration": "4s", "bursts": 2, "burst_length": "1s"},
        {"model": "paced", "requests": 4, "duration": "4s"},
    ],
}


def test_traffic_in_phases_is_one_kind_after_another_each_with_a_seed_of_its_own():
    traffic = from_plain(PHASES, Traffic)
    assert (traffic.duration, traffic.requests) == (12, 14)
    schedule = generate(traffic, 7)
    assert list(schedule) == sorted(schedule)
    assert schedule[:4] == at(0, 1, 2, 3)
    assert schedule[-4:] == at(8, 9, 10, 11)
    assert from_plain(to_plain(traffic), Traffic) == traffic, "as campaign.json has it"
    assert schedule[4:10] == tuple(4 * US + us for us in generate(traffic.phases[1], seed_for(7, "bursts", 1)))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (PHASES | {"requests": 3}, "each phase has its own"),
        ({"model": "phases", "phases": PHASES["phases"][:1]}, "two or more"),
        ({"model": "phases", "phases": [PHASES, PHASES]}, "none of which has phases itself"),
        ({"model": "poisson", "requests": 3, "duration": "3s", "phases": PHASES["phases"]}, "only for model 'phases'"),
        ({"model": "poisson", "requests": 3}, "duration: must be longer than 0"),
    ],
)
def test_phases_that_cannot_be_are_refused(given, problem):
    with pytest.raises(ValueError, match=problem):
        from_plain(given, Traffic)


@pytest.mark.parametrize(("slow", "recovered"), [((), 0.0), ((8, 9), 1.0), ((8, 11), math.nan)])
def test_recovery_is_until_the_last_slow_request_of_the_next_phase_was_due(slow, recovered):
    stages = [invocation(i, i, held_s=2.0 if i in slow else 0.1) for i in range(12)]
    made_of = experiment(loads={"l": load(traffic=PHASES, blocks=3, slo="1s")})
    found = typed(answers(campaign(made_of, {(b, "l", r): (stages, []) for b in range(3) for r in "ab"})))
    first, _, last = (each for each in found.phases if each.regime == "a")
    assert first.recovery_s is None
    assert (first.phase, last.phase) == ("1 paced", "3 paced")
    if math.isnan(recovered):
        assert (last.unrecovered, last.recovery_s.estimate) == (3, None)
    else:
        assert (last.unrecovered, last.recovery_s.estimate) == (0, pytest.approx(recovered))


def test_a_replica_that_a_switch_brings_up_before_the_first_arrival_is_no_wrong_initial_state():
    rows = [
        ReplicaRow(source="prometheus", function="f", at_ns=at_s * S, ready=ready, desired=ready)
        for at_s, ready in ((1, 0), (5, 1), (7, 1))
    ]
    seen = Seen(rows=rows, routable_at_ns={}, strain=None, until_ns=10 * S)
    arrival = request_of(0, invocation(0, 8), "l", "s")
    made_of = conditions(change("warm", 4, 5))
    found = observe(Rows([arrival], [], []), seen, Generated(scheduled=1), made_of._replace(verified_at_ns=0))
    assert found.initial_state_ok
    assert not observe(Rows([arrival], [], []), seen, Generated(scheduled=1), conditions()).initial_state_ok


class Platform:
    """Answers what a switch asks, and notes what it was told."""

    def __init__(self):
        self.told = []

    def standing(self, functions):
        return {name: {"regime": self.told[-1]} for name in functions}


def test_a_switch_is_asked_for_when_its_time_has_come_and_not_before_the_load_began(tmp_path, monkeypatch):
    from types import SimpleNamespace

    from fave.campaign import record
    from fave.campaign.rundir import CellDir
    from fave.clock import utc_ns
    from fave.errors import PlatformError
    from fave.processes import wait_until
    from regimes.apply import Switched

    platform, asked = Platform(), []

    def switch(platform, workload, regime, policies, say):
        asked.append((regime, policies, utc_ns()))
        platform.told.append(regime)
        if regime == "broken":
            raise PlatformError("no such thing")
        return Switched(regime=regime, requested_at_ns=asked[-1][2], effective_at_ns=utc_ns(), ready={"f": 1})

    monkeypatch.setattr(switching, "switch", switch)
    plan_of = [Step(0.05, "warm"), Step(0.1, "broken"), Step(3600, "never")]
    with switching.followed(
        platform, SimpleNamespace(), plan_of, lambda regime: {"f": regime}, CellDir(tmp_path), print
    ) as found:
        assert not asked, "nobody sends yet"
        zero_ns = utc_ns()
        record.write(tmp_path, "started.json", record.Started(zero_ns))
        assert wait_until(lambda: len(found) == 2, timeout_s=10)
    assert [(regime, policies["f"]) for regime, policies, _ in asked] == [("warm", "warm"), ("broken", "broken")]
    assert asked[0][2] - zero_ns >= 0.05e9
    assert [each.change.error for each in found] == ["", "no such thing"]
    assert found[0].standing == {"f": {"regime": "warm"}}
