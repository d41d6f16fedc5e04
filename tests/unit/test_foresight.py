"""What was not measured, from what was: other settings, other rates; the front; slow requests."""

import random
from functools import partial

import numpy as np
import pytest
from msgspec import structs

from analysis.answers import advice, foresight
from analysis.answers.results import results
from analysis.report import plots
from analysis.rows import digest, measures
from analysis.rows.simulate import Function, Measured, Predicted, Times, simulate
from experiments.model import Experiment
from fave.campaign.results import Share
from fave.settings import decode, to_plain
from fave.wire.records import ReplicaRow
from tests.support.campaigns import answers, campaign, experiment, invocation, typed
from tests.support.campaigns import load as a_load

pytestmark = pytest.mark.unit

TIMES = Times.same(0.04, 0.5)
NONE_SLOW = {"estimate": 0.0, "low": 0.0, "high": 0.1, "cold": 0, "of": 160}


def observed(function, *, rate_per_s=2.0, seconds=60, limit_s=None, seed=1):
    chance = random.Random(seed)
    arrivals_s = np.sort([chance.uniform(0, seconds) for _ in range(int(rate_per_s * seconds))])
    arrivals_s -= arrivals_s[0]
    found = simulate(arrivals_s, function, TIMES, until_s=seconds)
    return Predicted(
        Measured((0.04,), (0.5,), 0.0), arrivals_s, function, TIMES, function.min_replicas, seconds, limit_s, found
    )


def test_below_the_break_even_rate_scaling_to_zero_holds_less_and_at_it_as_much():
    kept = Function(0.1, 1, 4)
    one = observed(Function(3.0, 0, 4))
    found = foresight.equal_holding(one, kept)
    assert 0.1 < found.rate_per_s < found.up_to_per_s == pytest.approx(0.9 * 4 / 0.04)
    assert one.held_at(found.rate_per_s / 2, one.function) < one.held_at(found.rate_per_s / 2, kept)
    there = one.held_at(found.rate_per_s, kept)
    assert one.held_at(found.rate_per_s, one.function) == pytest.approx(there, rel=0.1)


def test_with_equal_maxima_and_a_longer_timeout_the_kept_one_never_holds_less():
    assert foresight.equal_holding(observed(Function(1.0, 0, 2)), Function(60.0, 1, 2)).rate_per_s is None


def test_break_even_does_not_move_with_the_rate_that_was_offered():
    """The formula's did: it took what a request costs at the offered rate for what it costs at any."""
    kept = Function(0.1, 1, 4)
    rates = [
        np.mean(
            [
                foresight.equal_holding(observed(Function(3.0, 0, 4), rate_per_s=rate, seed=seed), kept).rate_per_s
                for seed in range(12)
            ]
        )
        for rate in (1.0, 4.0)
    ]
    assert rates[0] == pytest.approx(rates[1], rel=0.25)


def test_until_the_planned_end_a_silence_counts_and_a_replica_that_goes_in_it_does_not():
    alone, kept = Function(1.0, 0, 1), Function(1.0, 1, 1)
    assert simulate([0.0], alone, TIMES, until_s=10).provisioned_s == pytest.approx(0.5 + 0.04 + 1.0)
    assert simulate([0.0], alone, TIMES, until_s=1).provisioned_s == pytest.approx(1.0)
    assert simulate([0.0], alone, TIMES).provisioned_s == pytest.approx(0.54)
    assert simulate([0.0], kept, TIMES, until_s=10).provisioned_s == pytest.approx(10)


def a_start(took_s=0.5):
    event = partial(ReplicaRow, source="gateway", function="f", replica_id="x")
    return [event(at_ns=0, event="start"), event(at_ns=int(took_s * 1e9), event="ready")]


def slow_campaign(starts="", **change):
    """Of 20 requests a run of a takes a second for 8 to 10, and one of b for none; the limit is half of one.

    starts: the regimes in which a replica was started.
    """
    made = experiment(loads={"l": a_load(blocks=8, slo="500ms")}, **change)
    cells = {
        (block, "l", regime): (
            [invocation(i, i / 2, held_s=1.0 if regime == "a" and i < 8 + block % 3 else 0.1) for i in range(20)],
            a_start() if regime in starts else [],
        )
        for block in range(8)
        for regime in "ab"
    }
    cells[0, "l", "b"][0][0].status = "failed"
    return campaign(made, cells)


def test_the_share_of_slow_requests_stands_beside_the_primary_outcome_and_what_failed_was_slow():
    found = answers(slow_campaign())
    a, b = (each["slow_rate"] for each in found["cells"])
    assert (a["limit_s"], a["rate"]["estimate"]) == (0.5, pytest.approx((3 * 8 + 3 * 9 + 2 * 10) / 160))
    assert a["rate"]["low"] < a["rate"]["estimate"] < a["rate"]["high"]
    assert (b["rate"]["cold"], b["rate"]["of"]) == (1, 160)
    (row,) = found["secondary_contrasts"]
    assert (row["outcome"], row["verdict"], row["unlabelled"]) == ("slow_request_rate", "different", 0.0)
    assert found["contrasts"][0]["outcome"] == "invocation_cold_rate"


def test_latency_can_be_the_primary_outcome_and_cold_starts_stand_beside_it():
    found = answers(slow_campaign(primary_outcome="slow_request_rate"))
    assert found["contrasts"][0]["outcome"] == "slow_request_rate"
    assert found["contrasts"][0]["verdict"] == "different"
    assert found["secondary_contrasts"][0]["outcome"] == "invocation_cold_rate"
    assert found["cells"][0]["cold_rate"]["outcome"] == "invocation_cold_rate"


def test_without_a_limit_no_share_of_slow_requests_is_made_up():
    found = answers(campaign(experiment(), {(0, "l", "a"): ([invocation(0, 0)], [])}))
    assert found["cells"][0]["slow_rate"] is None
    assert found["secondary_contrasts"] == []


def test_an_experiment_about_slow_requests_needs_a_limit_that_can_be_passed():
    plain = to_plain(_quick())
    del plain["loads"]["steady"]["slo"]
    with pytest.raises(Exception, match=r"loads\.steady\.slo: slow_request_rate is the share"):
        decode(plain | {"primary_outcome": "slow_request_rate"}, Experiment, "quick")
    plain["loads"]["steady"]["slo"] = "31s"
    with pytest.raises(Exception, match=r"slo: 31s must lie between 0 and request_timeout \(30s\)"):
        decode(plain, Experiment, "quick")


def _quick():
    from experiments.model import load

    return load("quick")


def test_a_regime_that_another_one_beats_in_everything_is_not_on_the_front():
    points = {"dear": (0.0, 0.1, 3.0), "cheap": (0.2, 0.3, 1.0), "worse": (0.2, 0.3, 1.1), "same": (0.0, 0.1, 3.0)}
    found = {each.regime: each.beaten_by for each in foresight._on_front(points, "slow_rate")}
    assert found == {"cheap": "", "worse": "cheap", "dear": "", "same": ""}


def test_a_percentile_between_warm_runs_and_cold_ones_is_marked_wherever_it_stands():
    """One run has 10 of 120 cold, another 2: their p95 is a cold start in one, and none in the other."""
    made = experiment(loads={"l": a_load(blocks=2)})
    cells = {
        (block, "l", regime): (
            [invocation(i, i / 12, cold=i < cold, held_s=1.0 if i < cold else 0.1) for i in range(120)],
            [],
        )
        for block, cold in enumerate((10, 2))
        for regime in "ab"
    }
    found = answers(campaign(made, cells))
    assert found["cells"][0]["latency_s"]["near_jump"] == ["p90", "p95"], "10 of 120 are 8 %"
    from analysis.report import summary, tables

    assert [row[7][-1] for row in summary.cell_rows(typed(found))] == ["?", "?"]
    (shown,) = [t for t in tables.tables(typed(found)) if t.title == "Latency and cost as ratios"]
    assert "p95?" in [row[2] for row in shown.rows]


def test_the_window_ends_as_planned_or_where_old_rows_end():
    requests = campaign(experiment(), {(0, "l", "a"): ([invocation(i, 1 + i) for i in range(3)], [])})
    rows = requests.rows(requests.runs[0]).requests
    assert measures.window_ns(rows, 9_000_000_000) == (1_000_000_000, 9_000_000_000)
    assert measures.window_ns(rows, 2_000_000_000) == (1_000_000_000, 3_000_000_000)


def test_a_percentile_of_a_single_run_is_drawn_without_complaint():
    """Its axis had no height: the run's figure and the report's differ in the last digits."""
    bar = plots.Bars("a", 0.2152932761, None, None)
    assert plots.percentiles({"p95": {"a": ([0.21529327609999993], bar)}}, ["a"], "l").startswith("<svg")


@pytest.mark.parametrize(("slow", "quick"), [(0.0, True), (0.01, True), (0.02, False)])
def test_a_setting_is_advised_only_if_it_is_about_as_quick_as_the_best_measured_regime(slow, quick):
    """The regime with most cold starts is slow, and no measure of what is quick."""
    cells = results(made := slow_campaign(), digest.of_all(made)).cells
    fast = [structs.replace(cell, slow_rate=structs.replace(cell.slow_rate, rate=Share(**NONE_SLOW))) for cell in cells]
    sweep = foresight.sweeps(made, digest.of_all(made))[0]
    assert advice._as_quick(structs.replace(sweep.settings[0], slow_rate=slow), sweep, [cells[0], fast[1]]) is quick


def test_where_no_replica_is_surplus_no_idle_timeout_is_advised():
    settings = foresight.sweeps(made := slow_campaign("a"), digest.of_all(made))[0].settings
    kept, surplus = (next(s for s in settings if (s.min_replicas == s.max_replicas) is same) for same in (True, False))
    assert "idle timeout of" in advice._named(surplus)
    assert advice._named(kept).endswith("whatever the idle timeout")


def test_how_long_a_start_takes_is_asked_of_a_regime_that_started_replicas():
    """A regime of a fixed number had none, and all settings were simulated with starts of no time: 0 % cold."""
    for starts, regime in (("", "a"), ("a", "a"), ("b", "b"), ("ab", "a")):
        (sweep,) = foresight.sweeps(made := slow_campaign(starts), digest.of_all(made))
        assert sweep.regime == regime
        assert {s.min_replicas == s.max_replicas for s in sweep.settings} == ({True, False} if starts else {True})
        to_zero = [s for s in sweep.settings if s.min_replicas == 0]
        assert all(s.cold_rate > 0 for s in to_zero)


def test_what_a_regime_does_to_service_times_counts_against_the_sweep():
    """With the times of a, of which nearly half are slow, it says of b what nobody measured there."""
    (sweep,) = foresight.sweeps(made := slow_campaign("a"), digest.of_all(made))
    assert sweep.off_slow > 9 / 20
    assert advice._credible(0.04, 0.1)
    assert not advice._credible(0.06, 0.1)
    assert not advice._credible(sweep.off_slow, 1.0)
    assert not any("is simulated to be" in each["text"] for each in answers(made)["recommendations"])


def test_where_no_timeout_was_swept_there_is_no_panel_of_timeouts():
    points = [("l", 0.2, plots.Bars("a", 0.2, 0.1, 0.3))]
    swept = {"l": tuple(np.array(v) for v in ([1.0, 2.0], [0.5, 0.1], [0.7, 0.9]))}
    assert "idle timeout" in plots.against_theory(points, swept)
    assert "idle timeout" not in plots.against_theory(points, {})
