"""Two regimes, paired by block: the difference of their run rates, its interval, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from scipy import stats

from fave.validity import below

VerdictName = Literal["different", "equivalent", "different-within-margin", "inconclusive", "degenerate"]
CONFIRMATORY_BLOCKS = 8
_ALPHA = 0.05


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Differences a - b per block. p, interval and TOST are null when all differences are the same (degenerate).

    method: `paired t`, or `Stein, n0 = ...` when the number of blocks followed from a pilot. error, df: the standard
    error of the mean and its degrees of freedom.
    """

    mean: float
    ci95: tuple[float, float] | None
    p: float | None
    p_sign_flip: float
    p_equivalence: float | None
    blocks: int
    method: str = "paired t"
    error: float | None = None
    df: int | None = None

    @property
    def degenerate(self) -> bool:
        return self.p is None


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """a over b, of positive figures of the same blocks: exp of the mean log ratio, paired t on the logs.

    low, high: null where all ratios are the same, with less than two blocks, and where a figure is 0.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int
    confidence: float = 0.95
    method: str = "paired t over log ratios"
    reason: str = ""


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How large a difference is, in other words than the risk difference (methodology §2.4).

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
    if any(value <= 0 for value in (*a, *b)):
        return Ratio(estimate=None, n=len(a), reason="a run with 0: there is no ratio")
    logs = np.log(a) - np.log(b)
    if not len(logs):
        return Ratio(estimate=None, n=0, reason="no block")
    centre = float(np.exp(logs.mean()))
    if len(logs) < 2 or np.ptp(logs) < 1e-12:
        return Ratio(estimate=centre, n=len(logs), reason="one block" if len(logs) < 2 else "no variance")
    test = stats.ttest_1samp(logs, 0.0)
    interval = test.confidence_interval(confidence)
    low, high = float(np.exp(interval.low)), float(np.exp(interval.high))
    return Ratio(estimate=centre, low=low, high=high, p=float(test.pvalue), n=len(logs), confidence=confidence)


def simultaneous_interval(result: Paired, contrasts: int) -> tuple[float, float] | None:
    """Of a contrast among so many, by Bonferroni: all of them hold together with 95 %. None where there is no 95 % one.

    From the stored interval, whose half width is t times the error: also right for Stein's.
    """
    if result.ci95 is None or result.error is None or result.df is None:
        return None
    half = float(stats.t.ppf(1 - _ALPHA / (2 * contrasts), result.df)) * result.error
    return max(-1.0, result.mean - half), min(1.0, result.mean + half)


def paired(a: Sequence[float], b: Sequence[float], *, margin: float, pilot: int = 0) -> Paired:
    """Paired t test, its interval (clipped to [-1, 1]), exact sign-flip permutation test, TOST at `margin`.

    a, b: rates of the same blocks in the same order; at least two. pilot: so many of the first decided how many blocks
    there are (0: the number was fixed beforehand).
    """
    differences = np.asarray(a, float) - np.asarray(b, float)
    p_sign_flip = sign_flip_p(differences)
    if np.ptp(differences) < 1e-12:
        return Paired(
            mean=float(differences.mean()),
            ci95=None,
            p=None,
            p_sign_flip=p_sign_flip,
            p_equivalence=None,
            blocks=len(differences),
        )
    spread = np.ptp(differences[:pilot]) >= 1e-12 if pilot else False
    if spread:
        return _two_stage(differences, pilot, margin, p_sign_flip)
    test = stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    return Paired(
        mean=float(differences.mean()),
        ci95=(max(-1.0, float(interval.low)), min(1.0, float(interval.high))),
        p=float(test.pvalue),
        p_sign_flip=p_sign_flip,
        p_equivalence=tost_p(differences, margin),
        blocks=len(differences),
        error=float(np.std(differences, ddof=1)) / math.sqrt(len(differences)),
        df=len(differences) - 1,
        # This contrast's own pilot asked for nothing; another one's did.
        method="paired t (the pilot had no spread)" if pilot else "paired t",
    )


def _two_stage(
    differences: np.ndarray[tuple[int], np.dtype[np.float64]], pilot: int, margin: float, p_sign_flip: float
) -> Paired:
    """Stein's interval: mean of all blocks, spread and degrees of freedom of the pilot's alone.

    With the spread of all blocks the interval would be too short: their number was chosen by looking at it.
    """
    mean, error = float(differences.mean()), float(np.std(differences[:pilot], ddof=1)) / math.sqrt(len(differences))
    df = pilot - 1
    half = float(stats.t.ppf(0.975, df)) * error
    return Paired(
        mean=mean,
        ci95=(max(-1.0, mean - half), min(1.0, mean + half)),
        p=float(2 * stats.t.sf(abs(mean) / error, df)),
        p_sign_flip=p_sign_flip,
        p_equivalence=float(max(stats.t.sf((mean + margin) / error, df), stats.t.sf((margin - mean) / error, df))),
        blocks=len(differences),
        error=error,
        df=df,
        method=f"Stein, n0 = {pilot}",
    )


class Unpaired(msgspec.Struct, frozen=True, kw_only=True):
    """Difference of means a - b of runs that share no blocks. All but the mean is null when neither arm varies."""

    mean: float
    ci95: tuple[float, float] | None
    p: float | None
    p_permutation: float | None
    p_equivalence: float | None
    runs: tuple[int, int]

    @property
    def degenerate(self) -> bool:
        return self.p is None


def unpaired(a: Sequence[float], b: Sequence[float], *, margin: float) -> Unpaired:
    """Welch's t test on run rates, its interval, a two-sample permutation test beside it, TOST by Welch's t.

    a, b: at least two runs each.
    """
    mean, runs = float(np.mean(a) - np.mean(b)), (len(a), len(b))
    if np.ptp(a) < 1e-12 and np.ptp(b) < 1e-12:
        return Unpaired(mean=mean, ci95=None, p=None, p_permutation=None, p_equivalence=None, runs=runs)
    test = stats.ttest_ind(a, b, equal_var=False)
    interval = test.confidence_interval(0.95)
    permuted = stats.permutation_test(
        (np.asarray(a, float), np.asarray(b, float)),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        permutation_type="independent",
        vectorized=True,
        n_resamples=np.inf if math.comb(sum(runs), runs[0]) <= 200_000 else 100_000,
        rng=np.random.default_rng(0),
    )
    shifted = np.asarray(b, float)
    over = stats.ttest_ind(a, shifted - margin, equal_var=False, alternative="greater").pvalue
    under = stats.ttest_ind(a, shifted + margin, equal_var=False, alternative="less").pvalue
    return Unpaired(
        mean=mean,
        ci95=(max(-1.0, float(interval.low)), min(1.0, float(interval.high))),
        p=float(test.pvalue),
        p_permutation=float(permuted.pvalue),
        p_equivalence=float(max(over, under)),
        runs=runs,
    )


def welch_p(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Of Welch's t test; None where neither arm varies."""
    if np.ptp(a) < 1e-12 and np.ptp(b) < 1e-12:
        return None
    return float(stats.ttest_ind(a, b, equal_var=False).pvalue)


def sign_flip_p(differences: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Exact two-sided p of the sign-flip permutation test on the mean; all 2^R flips up to R = 20, else 10^5 draws."""
    values = np.asarray(differences, float)
    if not np.any(values):
        return 1.0
    exact = len(values) <= 20
    result = stats.permutation_test(
        (values,),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if exact else 100_000,
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def tost_p(differences: np.ndarray[tuple[int], np.dtype[np.float64]], margin: float) -> float:
    """Two one-sided t tests against ±margin: the larger p. Below .05 the 90 % interval lies within the margin."""
    lower = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    upper = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(lower, upper))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given."""
    order = np.argsort(p)
    adjusted = [0.0] * len(p)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted


def verdict(result: Paired | Unpaired, p_holm: float | None) -> VerdictName:
    if result.degenerate or p_holm is None:
        return "degenerate"
    different = below(p_holm, _ALPHA)
    equivalent = result.p_equivalence is not None and below(result.p_equivalence, _ALPHA)
    if different and equivalent:
        return "different-within-margin"
    if different:
        return "different"
    return "equivalent" if equivalent else "inconclusive"
