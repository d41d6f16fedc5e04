"""How many blocks, and what they can show: power of the paired t test, Stein's two-stage rule (methodology §4)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

# Beyond this noncentrality power is 1 for every n here, and scipy's nct.cdf returns nan.
_CERTAIN = 12.0
_PRECISION = 1e-6


def paired_power(difference: float, sd: float, blocks: int, *, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t test: P(|T| > t_crit), T noncentral t with blocks - 1 degrees of freedom.

    sd: of the differences between the arms, block by block.
    """
    if blocks < 2:
        return 0.0
    if sd <= 0:
        return 1.0 if difference else 0.0
    return _power(abs(difference) / sd * math.sqrt(blocks), blocks - 1, alpha)


def two_sample_power(difference: float, sd: float, runs_per_arm: int, *, alpha: float = 0.05) -> float:
    """Power of the two-sided two-sample t test with equal arms and the same sd within each."""
    if runs_per_arm < 2 or sd <= 0:
        return 0.0 if runs_per_arm < 2 or not difference else 1.0
    return _power(abs(difference) / sd * math.sqrt(runs_per_arm / 2), 2 * runs_per_arm - 2, alpha)


def _power(noncentrality: float, df: int, alpha: float) -> float:
    if noncentrality > _CERTAIN:
        return 1.0
    critical = stats.t.ppf(1 - alpha / 2, df)
    # The far tail may come out as nan where it is 0.
    below = float(np.nan_to_num(stats.nct.cdf(-critical, df, noncentrality)))
    return float(1 - stats.nct.cdf(critical, df, noncentrality)) + below


def smallest_detectable(sd: float, blocks: int, *, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The smallest difference that a plan of so many blocks shows with this power; None for less than two blocks."""
    if blocks < 2:
        return None
    low, high = 0.0, _CERTAIN * max(sd, _PRECISION)
    while high - low > _PRECISION * max(sd, _PRECISION):
        middle = (low + high) / 2
        low, high = (middle, high) if paired_power(middle, sd, blocks, alpha=alpha) < power else (low, middle)
    return high


def blocks_needed(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05, most: int = 1000
) -> int | None:
    """The fewest blocks that show `difference` with this power; None when `most` do not."""
    return next((n for n in range(2, most + 1) if paired_power(difference, sd, n, alpha=alpha) >= power), None)


def stein_blocks(pilot_differences: Sequence[float], half_width: float, *, confidence: float = 0.95) -> int:
    """Stein's two-stage rule: N = max(n0, ceil((t_{n0-1} s0 / h)^2)) (Stein, Ann. Math. Stat. 16, 1945)."""
    n0 = len(pilot_differences)
    t = float(stats.t.ppf((1 + confidence) / 2, n0 - 1))
    return max(n0, math.ceil((t * float(np.std(pilot_differences, ddof=1)) / half_width) ** 2))
