"""Two regimes, paired by block: the difference of their pooled rates, its interval, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import structs
from scipy import stats

from analysis.statistics import clustered
from analysis.statistics.clustered import Array, Clustered, Counts
from fave.campaign.results import Ratio
from fave.campaign.validity import below

_Result = TypeVar("_Result", "Paired", "Unpaired")
VerdictName = Literal["different", "equivalent", "different-within-margin", "inconclusive", "degenerate"]
CONFIRMATORY_BLOCKS = 8
_ALPHA = 0.05


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """a - b, pooled over blocks. p, interval and TOST are null when all differences are the same (degenerate).

    error, df: the standard error of the difference and its degrees of freedom.
    """

    mean: float
    ci95: tuple[float, float] | None
    p: float | None
    p_sign_flip: float
    p_equivalence: float | None
    blocks: int
    method: str = "paired CR2"
    error: float | None = None
    df: float | None = None

    @property
    def degenerate(self) -> bool:
        return self.p is None


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How large a difference of run rates is, in other words than the risk difference (methodology §2.4).

    hodges_lehmann: median of the averages of all pairs of block differences. cliffs_delta: P(a > b) - P(a < b) over
    all pairs of runs.
    """

    hodges_lehmann: float
    cliffs_delta: float
    rate_ratio: Ratio


def sizes(a: Sequence[float], b: Sequence[float]) -> Sizes:
    """a, b: rates of the same blocks in the same order."""
    differences = np.asarray(a, float) - np.asarray(b, float)
    i, j = np.triu_indices(len(differences))
    return Sizes(
        hodges_lehmann=float(np.median((differences[i] + differences[j]) / 2)),
        cliffs_delta=cliffs_delta(a, b),
        rate_ratio=paired_ratio(a, b),
    )


def cliffs_delta(a: Sequence[float], b: Sequence[float]) -> float:
    return float(np.sign(np.subtract.outer(np.asarray(a, float), np.asarray(b, float))).mean())


def hodges_lehmann(a: Sequence[float], b: Sequence[float]) -> float:
    """Of two samples that share no blocks: median of all differences."""
    return float(np.median(np.subtract.outer(np.asarray(a, float), np.asarray(b, float))))


def paired_ratio(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> Ratio:
    """a, b: figures of the same blocks in the same order."""
    return combined_ratio([a, b], (1.0, -1.0), confidence)


def combined_ratio(arms: Sequence[Sequence[float]], weights: Sequence[float], confidence: float = 0.95) -> Ratio:
    """Product of the arms' figures to the power of their weights: of two, a over b. arms: over the same blocks."""
    blocks = len(arms[0])
    if any(value <= 0 for arm in arms for value in arm):
        return Ratio(estimate=None, n=blocks, reason="a run with 0: there is no ratio")
    if not blocks:
        return Ratio(estimate=None, n=0, reason="no block")
    logs = np.asarray(weights) @ np.log(arms)
    centre = float(np.exp(logs.mean()))
    if blocks < 2 or np.ptp(logs) < 1e-12:
        return Ratio(estimate=centre, n=blocks, reason="one block" if blocks < 2 else "no variance")
    test = stats.ttest_1samp(logs, 0.0)
    interval = test.confidence_interval(confidence)
    low, high = float(np.exp(interval.low)), float(np.exp(interval.high))
    return Ratio(estimate=centre, low=low, high=high, p=float(test.pvalue), n=blocks, confidence=confidence)


def simultaneous_interval(
    result: Paired, contrasts: int, alpha: float = _ALPHA, most: float = 1.0
) -> tuple[float, float] | None:
    """Of a contrast among so many, by Bonferroni: all of them hold together. None where there is no single one.

    most: what a difference cannot exceed.
    """
    if result.ci95 is None or result.error is None or result.df is None:
        return None
    half = float(stats.t.ppf(1 - alpha / (2 * contrasts), result.df)) * result.error
    return max(-most, result.mean - half), min(most, result.mean + half)


class Extra(NamedTuple):
    """What an adjustment of the counts adds to the variance of the estimate, and how many coefficients it estimated."""

    variance: float = 0.0
    coefficients: int = 0


def paired(
    a: Sequence[Counts], b: Sequence[Counts], *, margin: float, alpha: float = _ALPHA, extra: Extra = Extra()
) -> Paired:
    """The difference a - b, of the same blocks in the same order; see `combined`.

    With the same counts in all runs this is the paired t test on run rates.
    """
    return combined([a, b], (1.0, -1.0), margin=margin, alpha=alpha, extra=extra)


def combined(
    arms: Sequence[Sequence[Counts]],
    weights: Sequence[float],
    *,
    margin: float,
    alpha: float = _ALPHA,
    extra: Extra = Extra(),
    most: float = 1.0,
) -> Paired:
    """CR2 combination of pooled rates, its interval (clipped to ±most), exact sign-flip permutation test, TOST.

    arms: (events, trials) of the same blocks in the same order; at least two. weights: of arms, that sum to 0. alpha:
    the interval's level is 1 - alpha.
    """
    found, blocks = clustered.combination(arms, weights), len(arms[0])
    p_sign_flip = sign_flip_p(_weighted_differences(arms, weights))
    if not found.error:
        return Paired(
            mean=found.estimate, ci95=None, p=None, p_sign_flip=p_sign_flip, p_equivalence=None, blocks=blocks
        )
    found = with_extra(found, extra)
    return Paired(
        mean=found.estimate,
        ci95=interval(found, 1 - alpha, most),
        p=two_sided(found),
        p_sign_flip=p_sign_flip,
        p_equivalence=tost_p(found, margin),
        blocks=blocks,
        error=found.error,
        df=found.df,
    )


def with_extra(found: Clustered, extra: Extra) -> Clustered:
    error = math.hypot(found.error, math.sqrt(extra.variance))
    return Clustered(found.estimate, error, max(1.0, found.df - extra.coefficients))


def unpaired_p(a: Sequence[Counts], b: Sequence[Counts]) -> float | None:
    """Of `unpaired`, without the permutation test; None where neither arm varies."""
    found = clustered.unpaired_difference(a, b)
    return two_sided(found) if found.error else None


def _weighted_differences(arms: Sequence[Sequence[Counts]], weights: Sequence[float]) -> Array:
    """Of run rates, each by its block's share of all arrivals: with one schedule a block they sum to the estimate."""
    events, trials = np.asarray(arms, float).transpose(2, 0, 1)
    shares = (trials / trials.sum(axis=1, keepdims=True)).mean(axis=0)
    weighted: Array = shares * (np.asarray(weights) @ (events / trials))
    return weighted


def interval(found: Clustered, confidence: float, most: float = 1.0) -> tuple[float, float]:
    half = float(stats.t.ppf((1 + confidence) / 2, found.df)) * found.error
    return max(-most, found.estimate - half), min(most, found.estimate + half)


def two_sided(found: Clustered) -> float:
    return float(2 * stats.t.sf(abs(found.estimate) / found.error, found.df))


def tost_p(found: Clustered, margin: float) -> float:
    """Two one-sided t tests against ±margin: the larger p. Below .05 the 90 % interval lies within the margin."""
    over, under = (found.estimate + margin) / found.error, (margin - found.estimate) / found.error
    return float(max(stats.t.sf(over, found.df), stats.t.sf(under, found.df)))


def surviving(labelled: _Result, ends: Sequence[_Result], margin: float) -> _Result:
    """What of a result holds also at both ends: had all arrivals without a label been warm in one arm and cold in the
    other, and the reverse.

    The interval holds all of them, each p is the greatest. Ends of different signs show no difference (p = 1).
    """
    every = [labelled]
    every += ends
    if not ends or all(each.degenerate and each.mean == labelled.mean for each in every):
        return labelled
    one_sign = all(each.mean > 0 for each in every) or all(each.mean < 0 for each in every)
    known = [each.p for each in every if each.p is not None]
    # A constant difference has no p: it is within the margin, or it is not.
    equivalence = [
        float(abs(each.mean) >= margin) if each.p_equivalence is None else each.p_equivalence for each in every
    ]
    intervals = [each.ci95 or (each.mean, each.mean) for each in every]
    return structs.replace(
        labelled,
        ci95=(min(low for low, _ in intervals), max(high for _, high in intervals)),
        p=max(known) if one_sign and known else 1.0,
        p_equivalence=max(equivalence),
    )


class Unpaired(msgspec.Struct, frozen=True, kw_only=True):
    """Difference a - b of pooled rates of runs that share no blocks. All but it is null when neither arm varies."""

    mean: float
    ci95: tuple[float, float] | None
    p: float | None
    p_permutation: float | None
    p_equivalence: float | None
    runs: tuple[int, int]

    @property
    def degenerate(self) -> bool:
        return self.p is None


def unpaired(a: Sequence[Counts], b: Sequence[Counts], *, margin: float) -> Unpaired:
    """CR2 difference of pooled rates, its interval, a permutation test of the runs beside it, TOST.

    a, b: (events, trials) of at least two runs each.
    """
    found, runs = clustered.unpaired_difference(a, b), (len(a), len(b))
    if not found.error:
        return Unpaired(mean=found.estimate, ci95=None, p=None, p_permutation=None, p_equivalence=None, runs=runs)
    events, trials = np.asarray([*a, *b], float).T

    def difference(one: Array, other: Array, axis: int) -> Array:
        rates = [events[i].sum(axis=axis) / trials[i].sum(axis=axis) for i in (one, other)]
        found: Array = rates[0] - rates[1]
        return found

    permuted = stats.permutation_test(
        np.split(np.arange(sum(runs)), [runs[0]]),
        difference,
        permutation_type="independent",
        vectorized=True,
        n_resamples=np.inf if math.comb(sum(runs), runs[0]) <= 200_000 else 100_000,
        rng=np.random.default_rng(0),
    )
    return Unpaired(
        mean=found.estimate,
        ci95=interval(found, 0.95),
        p=two_sided(found),
        p_permutation=float(permuted.pvalue),
        p_equivalence=tost_p(found, margin),
        runs=runs,
    )


def sign_flip_p(differences: Sequence[float] | Array) -> float:
    """Exact two-sided p of the sign-flip permutation test on the sum; all 2^R flips up to R = 20, else 10^5 draws."""
    values = np.asarray(differences, float)
    if not np.any(values):
        return 1.0
    exact = len(values) <= 20
    result = stats.permutation_test(
        (values,),
        lambda x, axis: np.sum(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if exact else 100_000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment, in the order given.

    What could not be tested stays in the family (as p = 1): what the data look like must not make the others'
    correction milder.
    """
    known = [1.0 if each is None else each for each in p]
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, index in enumerate(np.argsort(known)):
        highest = max(highest, min(1.0, (len(p) - rank) * known[index]))
        adjusted[index] = None if p[index] is None else highest
    return adjusted


def verdict(p_holm: float | None, p_equivalence_holm: float | None, blocks: int) -> VerdictName:
    """p_holm: null where the differences do not vary. Both adjusted over the planned contrasts; see `holm`.

    Below eight blocks nothing is called equivalent: the t interval of so few depends on their being normal.
    """
    if p_holm is None:
        return "degenerate"
    different = below(p_holm, _ALPHA)
    enough = blocks >= CONFIRMATORY_BLOCKS
    equivalent = enough and p_equivalence_holm is not None and below(p_equivalence_holm, _ALPHA)
    if different and equivalent:
        return "different-within-margin"
    if different:
        return "different"
    return "equivalent" if equivalent else "inconclusive"
