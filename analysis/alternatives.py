"""Methods that FAVE does not decide by, for `calibrate` to show what they would do on such data, and why not.

They take the request for the unit, or ask for the mean of run rates, which is not the cold-start rate where counts
vary (docs/methodology.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

Counts = Sequence[tuple[int, int]]


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


def welch_p(a: Counts, b: Counts) -> float | None:
    """Of Welch's t test on run rates: of another estimand where counts vary. None where neither arm varies."""
    one, other = ([x / n for x, n in arm] for arm in (a, b))
    if np.ptp(one) < 1e-12 and np.ptp(other) < 1e-12:
        return None
    return float(stats.ttest_ind(one, other, equal_var=False).pvalue)


def _pooled(counts: Counts) -> tuple[int, int]:
    return sum(x for x, _ in counts), sum(n for _, n in counts)
