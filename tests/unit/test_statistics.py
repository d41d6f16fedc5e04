"""The statistics against published values (`tests/data/oracles.json`), to six digits where they are given so."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis import words
from analysis.report import summary
from analysis.rows import measures
from analysis.rows.folder import Run, used_runs
from analysis.statistics import alternatives, clustered, compare, intervals
from fave.campaign.experiment import Experiment
from fave.campaign.outcomes import MIN_REQUESTS
from fave.campaign.validity import Verdict
from fave.settings import from_plain
from tests.support.campaigns import experiment, load, results_of

pytestmark = pytest.mark.unit

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())
CLUSTERED = ORACLES["clustered_rates"]
RATES = {arm: [x / n for x, n in CLUSTERED[arm]] for arm in ("a", "b")}


def runs(rates, n=1000):
    """Runs of equal counts with these rates."""
    return [(rate * n, n) for rate in rates]


def test_the_paired_t_test_is_the_published_one():
    sleep = ORACLES["welch_t_sleep"]
    result = compare.paired(runs(sleep["a"]), runs(sleep["b"]), margin=1.0)
    assert result.p == pytest.approx(sleep["paired"]["p"], rel=1e-5)


def test_runs_of_equal_counts_give_the_oracles_difference_interval_and_p():
    expected = CLUSTERED["run_rates_paired"]
    result = compare.paired(runs(RATES["a"]), runs(RATES["b"]), margin=0.30)
    assert result.mean == pytest.approx(expected["mean"], rel=1e-6)
    assert result.p == pytest.approx(expected["p"], rel=1e-5)
    assert result.ci95 == pytest.approx(expected["ci95"], rel=1e-5)
    assert result.p_sign_flip == CLUSTERED["sign_flip"]
    assert result.p_equivalence == pytest.approx(CLUSTERED["tost_margin_0.30_p"], rel=1e-5)


def test_the_sign_flip_test_is_exact():
    darwin = ORACLES["sign_flip_darwin"]
    assert compare.sign_flip_p(darwin["differences"]) == pytest.approx(darwin["p_sign_flip_exact"], rel=1e-5)


def test_holm_is_holms():
    assert compare.holm(ORACLES["holm"]["p"]) == pytest.approx(ORACLES["holm"]["adjusted"])


def test_design_effects_are_the_oracles():
    found = [intervals.design_effect([tuple(run) for run in CLUSTERED[arm]]) for arm in ("a", "b")]
    assert found == pytest.approx(CLUSTERED["design_effect"], rel=1e-5)


@pytest.mark.parametrize("case", ORACLES["degenerate_bounds_one_sided_95"])
def test_bounds_for_no_event_are_the_oracles(case):
    trials, effect = (case["n"], case["design_effect"]) if "n" in case else (case["runs"], 1)
    assert intervals.degenerate_upper(trials, effect) == pytest.approx(case["upper"], abs=6e-4)


def test_an_arm_constant_at_zero_is_still_tested():
    """Warm at 0 in all runs is not degenerate: the differences vary."""
    result = compare.paired(runs([0.3, 0.4, 0.5]), runs([0.0] * 3), margin=0.05)
    assert compare.verdict(result.p, None, 3) == "different"


def test_constant_differences_are_degenerate_and_never_significant():
    same = compare.paired(runs([0.5] * 3), runs([0.0] * 3), margin=0.05)
    assert (same.p, same.ci95, same.p_sign_flip) == (None, None, 0.25)
    assert compare.verdict(same.p, same.p_equivalence, 3) == "degenerate"
    assert compare.paired(runs([0.0] * 2), runs([0.0] * 2), margin=0.05).p_sign_flip == 1.0


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.30, 0.32, 0.28, 0.31] * 2, "different"),
        ([0.001, -0.002, 0.0015, -0.001] * 2, "equivalent"),
        ([0.010, 0.011, 0.0105, 0.0102] * 2, "different-within-margin"),
        ([0.3, -0.2, 0.1, -0.3] * 2, "inconclusive"),
        ([0.001, -0.002, 0.0015, -0.001, 0.0, 0.001, -0.001], "inconclusive"),
        ([0.010, 0.011, 0.0105, 0.0102, 0.01, 0.0101, 0.0105], "different"),
    ],
)
def test_verdicts_and_that_seven_blocks_are_not_enough_to_call_regimes_equivalent(differences, expected):
    result = compare.paired(runs(differences), runs([0.0] * len(differences)), margin=0.05)
    assert compare.verdict(result.p, result.p_equivalence, result.blocks) == expected


def test_among_six_contrasts_on_the_margin_one_in_twenty_is_called_equivalent_and_not_one_in_four():
    """Five per cent of 1,000 campaigns of ten blocks, and three standard errors; unadjusted 1 - .95^6."""
    rng = np.random.default_rng(20261126)
    none = runs([0.0] * 10)
    wrong = unadjusted = 0
    for _ in range(1000):
        pairs = [clustered.combination([runs(rng.normal(0.05, 0.04, 10)), none], (1, -1)) for _ in range(6)]
        p = [compare.tost_p(pair, 0.05) for pair in pairs]
        unadjusted += min(p) < 0.05
        wrong += any(compare.verdict(1.0, each, 10) == "equivalent" for each in compare.holm(p))
    assert wrong <= 71
    assert 220 <= unadjusted <= 310


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8),
    st.randoms(use_true_random=False),
)
def test_the_order_of_blocks_does_not_matter_and_swapping_arms_changes_the_sign(pairs, random):
    shuffled = list(pairs)
    random.shuffle(shuffled)
    one = compare.paired(runs(a for a, _ in pairs), runs(b for _, b in pairs), margin=0.05)
    other = compare.paired(runs(b for _, b in shuffled), runs(a for a, _ in shuffled), margin=0.05)
    assert one.mean == pytest.approx(-other.mean, abs=1e-12)
    assert one.degenerate == other.degenerate
    if one.p is not None:
        assert one.p == pytest.approx(other.p, rel=1e-6, abs=1e-12)


def test_a_cells_interval_is_symmetric_on_the_logit():
    estimate = intervals.pooled_rate_interval([(4, 20), (3, 20), (6, 20), (5, 20)])
    error = np.std([0.2, 0.15, 0.3, 0.25], ddof=1) / 2
    half = 3.182446 * error / (0.225 * 0.775)
    logits = [math.log(p / (1 - p)) for p in (estimate.low, estimate.estimate, estimate.high)]
    assert estimate.estimate == pytest.approx(0.225)
    assert np.diff(logits) == pytest.approx([half, half], rel=1e-5)


def test_an_event_in_few_runs_is_no_reason_for_a_shorter_interval_than_none_at_all():
    none = intervals.pooled_rate_interval([(0, 120)] * 8)
    one = intervals.pooled_rate_interval([(1, 120)] + [(0, 120)] * 7)
    assert one.low == 0.0
    assert one.high > none.high
    full = intervals.pooled_rate_interval([(119, 120)] + [(120, 120)] * 7)
    assert (full.low, full.high) == (pytest.approx(1 - one.high), 1.0)


def test_runs_that_all_agree_on_zero_get_a_bound_and_not_a_false_certainty():
    estimate = intervals.pooled_rate_interval([(0, 20)] * 3)
    assert (estimate.estimate, estimate.low) == (0.0, 0.0)
    assert estimate.high == pytest.approx(1 - 0.05 ** (10 / 60))
    all_cold = intervals.pooled_rate_interval([(20, 20)] * 3)
    assert (all_cold.low, all_cold.high) == (pytest.approx(0.05 ** (10 / 60)), 1.0)


@pytest.mark.parametrize("run", [(3, 20), (0, 20), (20, 20)])
def test_one_run_has_no_interval_and_says_why(run):
    estimate = intervals.pooled_rate_interval([run])
    assert (estimate.low, estimate.high) == (None, None)
    assert "no replicates" in estimate.reason


def test_runs_that_agree_on_a_rate_between_have_no_interval_of_width_zero():
    estimate = intervals.pooled_rate_interval([(5, 20)] * 3)
    assert (estimate.estimate, estimate.low, estimate.high) == (0.25, None, None)
    assert "no variance" in estimate.reason


def a_run(block, regime, attempt=1, valid=True, load="l"):
    return Run(block, load, regime, attempt, "t", Verdict(valid=valid, findings=()), {}, {}, 0, 0, "")


EXPERIMENT = from_plain(experiment(), Experiment)


def test_an_invalid_run_takes_its_whole_block_with_it_and_the_last_try_counts():
    runs = [
        *(a_run(0, "a"), a_run(0, "b", valid=False)),
        *(a_run(1, "a", valid=False), a_run(1, "b"), a_run(1, "a", 2), a_run(1, "b", 2)),
        a_run(2, "a"),
    ]
    assert [(run.block, run.regime, run.attempt) for run in used_runs(runs, EXPERIMENT)] == [(1, "a", 2), (1, "b", 2)]


def test_held_seconds_count_starting_and_draining_replicas_and_those_that_were_there():
    """One stood at the start and ended at 2 s, one stood throughout, one lived from 3 to 4 s and one from 9 s on."""
    s = 1_000_000_000
    events = [("x", "stop", 2), ("y", "start", 3), ("y", "ready", 3.5), ("y", "stop", 4), ("z", "start", 9)]
    table = pl.DataFrame(
        [
            {"source": "gateway", "function": "f", "replica_id": replica, "event": event, "at_ns": int(at_s * s)}
            for replica, event, at_s in events
        ]
    )
    spans = measures.spans_from_events(table, {"f": 2}, 0, 10 * s)["f"]
    assert sum(until - since for since, until in spans) == pytest.approx(2 + 10 + 1 + 1)
    assert measures.union_s(spans) == pytest.approx(10)


def test_run_percentiles_are_averaged_geometrically():
    estimate = intervals.geometric_mean_interval([1.0, 4.0])
    assert estimate.estimate == pytest.approx(2.0)
    assert estimate.low < 2.0 < estimate.high


NOBODY = np.array([])


def test_a_quantile_is_left_out_with_its_reason_when_n_does_not_support_it():
    quantile = measures.latency_quantile(np.ones(99), NOBODY, 99, 0.95)
    assert (quantile.value, quantile.reason) == (None, "p95 needs 100 requests a run, these have 99")
    values = np.linspace(0.1, 2.0, 100)
    assert measures.latency_quantile(values, NOBODY, 100, 0.95).value == pytest.approx(np.quantile(values, 0.95))


@pytest.mark.parametrize(("q", "case"), [(0.95, "p95"), (0.99, "p99")])
def test_the_least_number_of_requests_is_at_least_what_an_interval_of_the_quantile_needs(q, case):
    """A run's largest value lies above the quantile with 95 % from this n on (the published 59 and 299)."""
    needed = next(n for n in range(1, 1000) if 1 - q**n >= 0.95)
    assert needed == ORACLES["minimum_n_for_quantile_ci"][case]["one_sided"]
    two_sided = next(n for n in range(1, 1000) if 1 - q**n >= 0.975)
    assert two_sided == ORACLES["minimum_n_for_quantile_ci"][case]["two_sided"]
    assert MIN_REQUESTS[q] >= needed


def test_failures_stay_in_the_denominator_of_latency():
    found = measures.latency_quantile(np.array([1.0, 2.0]), NOBODY, 5, 0.5)
    assert found.reason == "p50 falls among failed requests"
    assert found.at_least_s == 2.0, "longer than everything that was answered"


def test_requests_that_were_given_up_bound_a_quantile_from_below():
    found = measures.latency_quantile(np.array([1.0, 2.0]), np.array([30.0, 30.0, 30.0]), 5, 0.5)
    assert (found.value, found.at_least_s) == (None, 30.0)


def test_replica_seconds_are_the_integral_of_a_step_function():
    s = 1_000_000_000
    table = pl.DataFrame(
        {"source": ["prometheus"] * 4, "function": ["f"] * 4, "at_ns": [0, 2 * s, 3 * s, 9 * s]}
        | {"ready": [1, 3, 0, 9], "desired": [1, 3, 0, 9]}
    )
    spans = measures.spans_from_samples(table, s, 4 * s)["f"]
    assert sum(until - since for since, until in spans) == 1 + 3 + 0


def test_an_inconclusive_finding_claims_nothing_about_its_interval():
    """After Holm a contrast may be inconclusive although its own interval leaves 0 out."""
    row = {
        "load": "l",
        "outcome": "invocation_cold_rate",
        "a": "x",
        "b": "y",
        "difference": 0.4,
        "ci95": [0.15, 0.65],
        "p_holm": 0.081,
    }
    row |= {"p_sign_flip": 0.25, "margin": 0.05, "verdict": "inconclusive", "exploratory": True, "reason": ""}
    row |= {"with_excluded": None, "bounds": None}
    (sentence,) = summary.sentences(results_of(contrasts=[row]))
    assert "no verdict: +40.0 [+15.0, +65.0], Holm p = .081" in sentence


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0004, "< .001"), (0.0126, ".013"), (0.25, ".250"), (1.0, "1")]
)
def test_p_values_read_as_in_print(value, text):
    assert words.p_value(value) == text


def test_a_load_that_runs_in_some_regimes_needs_only_those():
    some = from_plain(experiment(loads={"l": load(regimes=["a"])}, contrasts=[]), Experiment)
    assert [run.regime for run in used_runs([a_run(0, "a")], some)] == ["a"]


def test_welchs_test_which_decides_nothing_is_the_published_one():
    sleep, expected = ORACLES["welch_t_sleep"], ORACLES["welch_t_sleep"]["welch"]
    assert alternatives.welch_p(runs(sleep["a"]), runs(sleep["b"])) == pytest.approx(expected["p"], rel=1e-5)


def test_runs_of_equal_counts_that_share_no_blocks_give_welchs_result_and_the_permutation_test_beside_it():
    rates = compare.unpaired(runs(RATES["a"]), runs(RATES["b"]), margin=0.3)
    assert rates.p == pytest.approx(CLUSTERED["run_rates_welch"]["p"], rel=1e-5)
    assert rates.ci95 == pytest.approx(CLUSTERED["run_rates_welch"]["ci95"], rel=1e-5)
    assert rates.p_permutation == pytest.approx(CLUSTERED["permutation_two_sample"], abs=1e-6)


def test_the_90_percent_interval_touches_the_margin_where_equivalence_has_p_05():
    a, b = [0.1, 0.2, 0.15, 0.12], [0.11, 0.18, 0.16, 0.13]
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.90)
    margin = max(interval.high, -interval.low)
    assert compare.unpaired(runs(a), runs(b), margin=margin).p_equivalence == pytest.approx(0.05, abs=1e-9)


def test_two_arms_that_do_not_vary_are_degenerate():
    result = compare.unpaired(runs([0.0] * 2), runs([1.0] * 2), margin=0.05)
    assert (result.mean, result.p) == (-1.0, None)
