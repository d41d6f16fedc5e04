"""Methods that FAVE does not decide by, for `calibrate` to show what they would do on such data, and why not.

All of them take the request for the unit, or runs for more than they are (methodology §2.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

Counts = Sequence[tuple[int, int]]


class Difference(NamedTuple):
    """Of two rates. p: None where there is no variance."""

    estimate: float
    low: float
    high: float
    p: float | None


def pooled_chi_square(a: Counts, b: Counts) -> float | None:
    """P of the 2 x 2 table of all requests, without continuity correction; None where a margin is empty."""
    (x1, n1), (x2, n2) = _pooled(a), _pooled(b)
    if x1 + x2 in (0, n1 + n2):
        return None
    return float(stats.chi2_contingency([[x1, n1 - x1], [x2, n2 - x2]], correction=False).pvalue)


def newcombe(a: Counts, b: Counts, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of pooled rates from Wilson's intervals (Newcombe 1998, method 10)."""
    (x1, n1), (x2, n2) = _pooled(a), _pooled(b)
    p1, p2 = x1 / n1, x2 / n2
    (l1, u1), (l2, u2) = wilson(x1, n1, confidence), wilson(x2, n2, confidence)
    return p1 - p2 - math.hypot(p1 - l1, u2 - p2), p1 - p2 + math.hypot(u1 - p1, p2 - l2)


def wilson(events: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    interval = stats.binomtest(events, trials).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def cr2(a: Counts, b: Counts) -> Difference:
    """Difference of pooled rates with clustered variances, corrected for few clusters (CR2), Satterthwaite's df."""
    (va, dfa), (vb, dfb) = _cr2(a), _cr2(b)
    (x1, n1), (x2, n2) = _pooled(a), _pooled(b)
    estimate, error = x1 / n1 - x2 / n2, math.sqrt(va + vb)
    if not error:
        return Difference(estimate, estimate, estimate, None)
    df = (va + vb) ** 2 / ((va**2 / dfa if va else 0.0) + (vb**2 / dfb if vb else 0.0))
    half = float(stats.t.ppf(0.975, df)) * error
    return Difference(estimate, estimate - half, estimate + half, float(2 * stats.t.sf(abs(estimate) / error, df)))


def _cr2(counts: Counts) -> tuple[float, float]:
    """Variance of the pooled rate, sum (x - p n)^2 / (1 - h) / N^2 with h = n / N, and its degrees of freedom.

    df by Bell and McCaffrey for a mean with unequal clusters, under independent requests of one variance.
    """
    events, total = _pooled(counts)
    pooled = events / total
    shares = [n / total for _, n in counts]
    variance = sum((x - pooled * n) ** 2 / (1 - h) for (x, n), h in zip(counts, shares, strict=True)) / total**2
    # Residual sums r_i = e_i - h_i sum e: their covariances in units of N sigma^2, weighted by 1 / (1 - h_i).
    trace = sum(shares)
    squares = sum(h**2 for h in shares) + sum(
        (hi * hj) ** 2 / ((1 - hi) * (1 - hj)) for i, hi in enumerate(shares) for j, hj in enumerate(shares) if i != j
    )
    return variance, trace**2 / squares


def _pooled(counts: Counts) -> tuple[int, int]:
    return sum(x for x, _ in counts), sum(n for _, n in counts)
