"""Methods that FAVE does not decide by, for `calibrate` to show what they would do on such data, and why not.

They take the request for the unit, or ask for the mean of run rates, which is not the cold-start rate where counts
vary (docs/methodology.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from analysis.statistics import clustered

Counts = Sequence[clustered.Counts]


def pooled_chi_square(a: Counts, b: Counts) -> float | None:
    """P of the 2 x 2 table of all requests, without continuity correction; None where a margin is empty."""
    (x1, n1), (x2, n2) = _pooled(a), _pooled(b)
    if x1 + x2 in (0, n1 + n2):
        return None
    return float(stats.chi2_contingency([[x1, n1 - x1], [x2, n2 - x2]], correction=False).pvalue)


def welch_p(a: Counts, b: Counts) -> float | None:
    """Of Welch's t test on run rates: of another estimand where counts vary. None where neither arm varies."""
    one, other = ([x / n for x, n in arm] for arm in (a, b))
    if np.ptp(one) < 1e-12 and np.ptp(other) < 1e-12:
        return None
    moments = (value for arm in (one, other) for value in (np.mean(arm), np.std(arm, ddof=1), len(arm)))
    return float(stats.ttest_ind_from_stats(*moments, equal_var=False).pvalue)


def _pooled(counts: Counts) -> tuple[float, float]:
    return sum(x for x, _ in counts), sum(n for _, n in counts)
