"""Clustered variances: against the oracles, against the matrices they come from, against the t test, by simulation."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import clustered, compare, intervals

pytestmark = pytest.mark.unit

ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())
CLUSTERED = ORACLES["clustered_rates"]
A, B = ([tuple(run) for run in CLUSTERED[arm]] for arm in ("a", "b"))
# (cold of a, cold of b, arrivals) of a block.
BLOCKS = st.lists(st.integers(1, 40).flatmap(lambda n: st.tuples(*[st.integers(0, n)] * 2, st.just(n))), min_size=3)


def test_pooled_rates_and_their_variances_are_the_oracles():
    found = [clustered.share(A), clustered.share(B)]
    assert [each.estimate for each in found] == pytest.approx(CLUSTERED["pooled_rate"])
    assert [each.error**2 for each in found] == pytest.approx(CLUSTERED["cr2"]["variance"], rel=1e-6)


def test_the_difference_of_runs_that_share_no_blocks_is_the_oracles():
    found, expected = clustered.unpaired_difference(A, B), CLUSTERED["cr2"]
    assert found.estimate == pytest.approx(expected["risk_difference"])
    assert (found.error, found.df) == pytest.approx((expected["se"], expected["df"]), rel=1e-5)
    result = compare.unpaired(A, B, margin=0.3)
    assert result.ci95 == pytest.approx(expected["ci95"], rel=1e-5)
    assert result.p == compare.unpaired_p(A, B) == pytest.approx(expected["p"], rel=1e-5)


def by_matrices(arms):
    """CR2 request by request: residuals, hat matrix, its inverse roots. Difference of the first arm to the second."""
    rows = [(arm, block, i < x) for arm, runs in enumerate(arms) for block, (x, n) in enumerate(runs) for i in range(n)]
    arm, block, cold = (np.array(column) for column in zip(*rows, strict=True))
    design = np.eye(len(arms))[arm]
    bread = np.linalg.inv(design.T @ design)
    contrast = np.array([1.0, -1.0][: len(arms)])
    fitted = bread @ design.T @ cold
    annihilate = np.eye(len(rows)) - design @ bread @ design.T
    weights = []
    for each in np.unique(block):
        mine = block == each
        values, vectors = np.linalg.eigh(annihilate[np.ix_(mine, mine)])
        root = vectors @ np.diag(1 / np.sqrt(values)) @ vectors.T
        # What the residuals of all requests are multiplied by for this cluster's term.
        weights.append(contrast @ bread @ design[mine].T @ root @ annihilate[mine])
    terms = np.array(weights) @ cold
    working = np.array(weights) @ np.array(weights).T
    return contrast @ fitted, np.sqrt(terms @ terms), np.trace(working) ** 2 / (working**2).sum()


def test_estimate_error_and_degrees_of_freedom_follow_from_the_matrices():
    assert tuple(clustered.share(A)) == pytest.approx(by_matrices([A]))
    other = [(x, n - 3 * i) for i, (x, n) in enumerate(B)]
    assert tuple(clustered.combination([A, other], (1, -1))) == pytest.approx(by_matrices([A, other]))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=12))
def test_with_equal_counts_it_is_the_paired_t_test(cold):
    a, b = ([(runs[arm], 30) for runs in cold] for arm in (0, 1))
    result = compare.paired(a, b, margin=0.05)
    rates = [[x / n for x, n in arm] for arm in (a, b)]
    if result.degenerate:
        assert np.ptp(np.subtract(*rates)) == pytest.approx(0, abs=1e-9)
        return
    expected = stats.ttest_rel(*rates)
    interval = expected.confidence_interval(0.95)
    assert result.df == pytest.approx(len(cold) - 1)
    assert result.p == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    assert result.ci95 == pytest.approx((max(-1, interval.low), min(1, interval.high)), rel=1e-6, abs=1e-9)


@settings(max_examples=30)
@given(BLOCKS)
def test_intervals_stay_where_rates_and_differences_are_and_hold_their_estimate(blocks):
    a, b = ([(block[arm], block[2]) for block in blocks] for arm in (0, 1))
    rate, result = intervals.pooled_rate_interval(a), compare.paired(a, b, margin=0.05)
    if rate.low is not None:
        assert 0 <= rate.low <= rate.estimate + 1e-12
        assert rate.estimate <= rate.high + 1e-12 <= 1 + 2e-12
    if result.ci95 is not None:
        assert -1 <= result.ci95[0] <= result.mean <= result.ci95[1] <= 1
        assert 1 - 1e-9 <= result.df <= len(blocks) - 1 + 1e-9


def test_what_counts_is_the_arrival_and_not_the_run():
    """A busy run at 10 % and a quiet one at 90 %: of 110 arrivals 19 were cold."""
    found = intervals.pooled_rate_interval([(10, 100), (9, 10)])
    assert found.estimate == pytest.approx(19 / 110)


def on_off(rng, campaigns, runs):
    """Runs whose counts vary with their number of bursts, each of which begins cold: a busy run has the lower rate."""
    bursts = 1 + rng.poisson(3, size=(campaigns, runs))
    size = rng.lognormal(2.6, 0.7, size=(campaigns, runs))
    trials = np.maximum(bursts, np.round(bursts * size)).astype(int)
    return np.minimum(trials, rng.binomial(trials, 0.03) + bursts), trials


def held(ends, truth):
    return np.mean([low <= truth <= high for low, high in ends])


def test_an_interval_of_the_pooled_rate_holds_it_where_the_t_over_run_rates_did_not():
    """1,500 campaigns of ten runs; the truth from a million runs."""
    rng = np.random.default_rng(20261126)
    cold, trials = on_off(rng, 1, 1_000_000)
    truth = cold.sum() / trials.sum()
    ours, former = [], []
    for x, n in zip(*on_off(rng, 1500, 10), strict=True):
        found = intervals.pooled_rate_interval(list(zip(x.tolist(), n.tolist(), strict=True)))
        t = intervals.mean_interval((x / n).tolist())
        ours.append((found.low, found.high))
        former.append((t.low, t.high))
    assert 0.93 <= held(ours, truth) <= 0.97
    assert held(former, truth) < 0.91


def test_a_paired_difference_of_pooled_rates_is_held_by_its_interval():
    """The other arm is warm for a part of what is cold in the first, over the same arrivals."""
    rng = np.random.default_rng(20261126)

    def arms(campaigns, runs):
        cold, trials = on_off(rng, campaigns, runs)
        return cold, rng.binomial(cold, 0.6), trials

    cold, fewer, trials = arms(1, 1_000_000)
    truth = (cold - fewer).sum() / trials.sum()
    found = []
    for x, y, n in zip(*arms(1500, 8), strict=True):
        pair = clustered.combination([np.stack((each, n), 1).tolist() for each in (x, y)], (1, -1))
        half = stats.t.ppf(0.975, pair.df) * pair.error
        found.append((pair.estimate - half, pair.estimate + half))
    assert 0.93 <= held(found, truth) <= 0.97
