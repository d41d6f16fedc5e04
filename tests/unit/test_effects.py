"""Effect sizes, ratios, bounds, methods that are only compared with: published values and what must always hold."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics import alternatives, compare, intervals

pytestmark = pytest.mark.unit

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())
CLUSTERED = ORACLES["clustered_rates"]
COUNTS = {arm: [tuple(run) for run in CLUSTERED[arm]] for arm in ("a", "b")}
RATES = {arm: [x / n for x, n in runs] for arm, runs in COUNTS.items()}
POSITIVE = st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=3, max_size=12)


def test_sizes_of_a_difference_are_the_oracles():
    sizes = compare.sizes(RATES["a"], RATES["b"])
    assert sizes.hodges_lehmann == pytest.approx(CLUSTERED["hodges_lehmann_paired"], abs=1e-6)
    assert compare.hodges_lehmann(RATES["a"], RATES["b"]) == pytest.approx(
        CLUSTERED["hodges_lehmann_two_sample"], abs=1e-6
    )
    assert sizes.cliffs_delta == pytest.approx(CLUSTERED["cliffs_delta"])


def test_the_rate_ratio_is_the_oracles():
    ratio = compare.sizes(RATES["a"], RATES["b"]).rate_ratio
    expected = CLUSTERED["paired_rate_ratio"]
    assert ratio.estimate == pytest.approx(expected["ratio"], rel=1e-5)
    assert (ratio.low, ratio.high) == pytest.approx(expected["ci95"], rel=1e-5)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([0.2, 0.0], [0.1, 0.1], "a run with 0: there is no ratio"),
        ([0.2], [0.1], "one block"),
        ([0.2, 0.4], [0.1, 0.2], "no variance"),
        ([], [], "no block"),
    ],
)
def test_a_ratio_without_an_interval_says_why(a, b, reason):
    ratio = compare.paired_ratio(a, b)
    assert ratio.low is None
    assert ratio.reason == reason


@given(POSITIVE, st.floats(0.1, 10), st.randoms(use_true_random=False))
def test_a_ratio_does_not_depend_on_units_or_order_and_inverts_with_the_arms(pairs, unit, random):
    shuffled = random.sample(pairs, len(pairs))
    ratio = compare.paired_ratio([a for a, _ in pairs], [b for _, b in pairs])
    scaled = compare.paired_ratio([unit * a for a, _ in shuffled], [unit * b for _, b in shuffled])
    inverse = compare.paired_ratio([b for _, b in pairs], [a for a, _ in pairs])
    assert scaled.estimate == pytest.approx(ratio.estimate)
    assert inverse.estimate == pytest.approx(1 / ratio.estimate)
    if ratio.low is not None and scaled.low is not None:
        assert (scaled.low, scaled.high) == pytest.approx((ratio.low, ratio.high))
        assert (inverse.low, inverse.high) == pytest.approx((1 / ratio.high, 1 / ratio.low))


@given(POSITIVE)
def test_sizes_change_their_sign_with_the_arms(pairs):
    a, b = [a for a, _ in pairs], [b for _, b in pairs]
    one, other = compare.sizes(a, b), compare.sizes(b, a)
    assert one.hodges_lehmann == pytest.approx(-other.hodges_lehmann)
    assert one.cliffs_delta == pytest.approx(-other.cliffs_delta)
    assert min(x - y for x, y in pairs) - 1e-12 <= one.hodges_lehmann <= max(x - y for x, y in pairs) + 1e-12


def test_simultaneous_intervals_hold_the_single_ones_and_are_them_for_one_contrast():
    result = compare.paired(COUNTS["a"], COUNTS["b"], margin=0.05)
    assert compare.simultaneous_interval(result, 1) == pytest.approx(result.ci95)
    low, high = compare.simultaneous_interval(result, 6)
    assert low < result.ci95[0] < result.ci95[1] < high
    assert compare.simultaneous_interval(compare.paired([(1, 10)] * 2, [(0, 10)] * 2, margin=0.05), 6) is None


@pytest.mark.parametrize("case", ORACLES["wilson_and_clopper_pearson_95"])
def test_bounds_on_whole_counts_are_the_published_ones(case):
    x, n = case["x"], case["n"]
    assert intervals.effective_upper(x, n, 1.0, confidence=0.975) == pytest.approx(case["clopper_pearson"][1], abs=1e-5)
    assert 1 - intervals.effective_upper(n - x, n, 1.0, confidence=0.975) == pytest.approx(
        case["clopper_pearson"][0], abs=1e-5
    )


@pytest.mark.parametrize("runs", [5, 8, 10])
def test_the_statement_about_runs_is_the_oracles(runs):
    (case,) = [each for each in ORACLES["degenerate_bounds_one_sided_95"] if each.get("runs") == runs]
    assert intervals.runs_upper(runs) == pytest.approx(case["upper"], abs=1e-3)


@given(st.integers(0, 50), st.integers(1, 50), st.floats(1, 50))
def test_a_bound_lies_above_its_rate_and_grows_with_events_and_design_effect(events, more, effect):
    trials = events + more
    bound = intervals.effective_upper(events, trials, effect)
    assert events / trials <= bound <= 1
    assert bound <= intervals.effective_upper(events + 1, trials + 1, effect) + 1e-9
    assert bound <= intervals.effective_upper(0, trials, effect * 2) + 1e-9 or events


def test_the_pooled_test_is_what_it_would_have_said():
    assert alternatives.pooled_chi_square(COUNTS["a"], COUNTS["b"]) == pytest.approx(
        CLUSTERED["naive_pooled_chi_square_p_for_contrast"], rel=1e-4
    )
    assert alternatives.pooled_chi_square([(0, 9)], [(0, 9)]) is None


def test_intraclass_correlation_is_0_for_even_runs_and_1_for_runs_that_agree_within():
    assert intervals.intraclass_correlation([(20, 20), (0, 20), (20, 20), (0, 20)]) == pytest.approx(1.0)
    spread = intervals.intraclass_correlation([(5, 20)] * 4)
    assert spread == pytest.approx(-1 / 19)
    assert intervals.intraclass_correlation([(0, 20), (0, 20)]) is None


def test_intraclass_correlation_and_design_effect_tell_of_the_same_clustering():
    """D is about 1 + (n - 1) rho (Kish), for runs of the same length."""
    rng = np.random.default_rng(1)
    counts = [(int(rng.binomial(100, rate)), 100) for rate in rng.beta(4, 6, size=400)]
    rho, effect = intervals.intraclass_correlation(counts), intervals.design_effect(counts)
    assert effect == pytest.approx(1 + 99 * rho, rel=0.05)
    assert rho == pytest.approx(1 / (4 + 6 + 1), rel=0.2)


@given(st.lists(st.floats(0.001, 100), min_size=2, max_size=12), st.floats(0.01, 100))
def test_a_mean_and_its_interval_scale_with_their_unit(values, unit):
    one, other = intervals.mean_interval(values), intervals.mean_interval([unit * value for value in values])
    assert other.estimate == pytest.approx(unit * one.estimate)
    if one.low is not None and other.low is not None:
        assert (other.low, other.high) == pytest.approx((unit * one.low, unit * one.high), rel=1e-6, abs=1e-6 * unit)
    assert math.isfinite(one.estimate)
