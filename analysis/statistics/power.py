"""How many blocks, and what they can show: power of the paired t test (docs/methodology.md)."""

from __future__ import annotations

import functools
import math
from itertools import pairwise

import numpy as np
from scipy import special, stats

_PRECISION = 1e-6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(100)


def paired_power(difference: float, sd: float, blocks: int, *, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t test.

    sd: of the differences between the arms, block by block.
    """
    if blocks < 2:
        return 0.0
    if sd <= 0:
        return 1.0 if difference else 0.0
    return power_of_t(abs(difference) / sd * math.sqrt(blocks), blocks - 1, alpha=alpha)


def power_of_t(noncentrality: float, df: int, *, alpha: float = 0.05) -> float:
    """P(|T| > t_crit), T noncentral t: the normal's tails beyond t_crit times the spread s, averaged over s.

    s^2 is chi-squared over its degrees of freedom. Not by scipy's nct.cdf, which returns nan for large noncentralities;
    and with two or three blocks t_crit itself is large, so that power there is not simply 1.
    """
    critical, top = _critical(df, alpha)
    constant = math.log(2) + df / 2 * math.log(df / 2) - float(special.gammaln(df / 2))
    # The tail changes around noncentrality / t_crit, within a few 1 / t_crit; the density has its peak near 1.
    middle, width = noncentrality / critical, 8 / critical
    edges = sorted({min(max(edge, 0.0), top) for edge in (0.0, middle - width, middle, middle + width, 1.0, top)})
    total = 0.0
    for low, high in pairwise(edges):
        s = (high - low) / 2 * _NODES + (high + low) / 2
        density = np.exp(constant + (df - 1) * np.log(s) - df * s**2 / 2)
        tails = special.ndtr(noncentrality - critical * s) + special.ndtr(-critical * s - noncentrality)
        total += (high - low) / 2 * float(_WEIGHTS @ (density * tails))
    return min(1.0, total)


@functools.cache
def _critical(df: int, alpha: float) -> tuple[float, float]:
    """t_crit, and a spread that is practically never exceeded."""
    return float(stats.t.ppf(1 - alpha / 2, df)), math.sqrt(float(stats.chi2.isf(1e-14, df)) / df)


def smallest_detectable(sd: float, blocks: int, *, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """The smallest difference that a plan of so many blocks shows with this power; None for less than two blocks."""
    if blocks < 2:
        return None
    low, high = 0.0, sd
    while paired_power(high, sd, blocks, alpha=alpha) < power:
        low, high = high, 2 * high
    while high - low > _PRECISION * sd:
        middle = (low + high) / 2
        low, high = (middle, high) if paired_power(middle, sd, blocks, alpha=alpha) < power else (low, middle)
    return high


def blocks_needed(
    difference: float, sd: float, *, power: float = 0.8, alpha: float = 0.05, most: int = 1000
) -> int | None:
    """The fewest blocks that show `difference` with this power; None when `most` do not."""
    low, high = 1, 2
    while paired_power(difference, sd, high, alpha=alpha) < power:
        if high >= most:
            return None
        low, high = high, min(most, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if paired_power(difference, sd, middle, alpha=alpha) < power else (low, middle)
    return high
