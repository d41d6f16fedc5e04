"""Intervals of rates. The run is the unit: requests within a run depend on each other (methodology §1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from scipy import stats

# Assumed where too few runs hold an event to estimate it; design effects of 2 to 124 were seen.
MIN_DESIGN_EFFECT = 10.0


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """low and high are null when the data do not support an interval; `reason` says why."""

    estimate: float | None
    low: float | None
    high: float | None
    n_runs: int
    method: str
    confidence: float = 0.95
    reason: str = ""


def run_rate_interval(counts: Sequence[tuple[int, int]], confidence: float = 0.95) -> Estimate:
    """Mean of run rates with a t interval over runs, clipped to [0, 1]. counts: (events, trials) per run.

    When all runs agree on 0 or on 1 there is no variance to work with: a one-sided Clopper-Pearson bound on the
    effective counts stands in its place (methodology §2.6).
    """
    rates = [events / trials for events, trials in counts if trials]
    if not rates:
        return Estimate(estimate=None, low=None, high=None, n_runs=0, method="none", reason="no run with a known rate")
    mean = float(np.mean(rates))
    if len(rates) < 2:
        reason = "one run: requests within a run are no replicates"
        return Estimate(estimate=mean, low=None, high=None, n_runs=1, method="mean", reason=reason)
    if np.ptp(rates) < 1e-12:
        if mean in (0.0, 1.0):
            return _all_agree(mean, [run for run in counts if run[1]], confidence)
        reason = "all runs have the same rate: no variance to compute an interval from"
        return Estimate(estimate=mean, low=None, high=None, n_runs=len(rates), method="mean", reason=reason)
    half = stats.t.ppf((1 + confidence) / 2, len(rates) - 1) * np.std(rates, ddof=1) / math.sqrt(len(rates))
    return Estimate(
        estimate=mean,
        low=max(0.0, float(mean - half)),
        high=min(1.0, float(mean + half)),
        n_runs=len(rates),
        method="t over run rates",
        confidence=confidence,
    )


def _all_agree(rate: float, counts: Sequence[tuple[int, int]], confidence: float) -> Estimate:
    bound = degenerate_upper(sum(trials for _, trials in counts), MIN_DESIGN_EFFECT, confidence)
    low, high = (0.0, bound) if rate == 0.0 else (1.0 - bound, 1.0)
    return Estimate(
        estimate=rate,
        low=low,
        high=high,
        n_runs=len(counts),
        method=f"one-sided Clopper-Pearson, design effect {MIN_DESIGN_EFFECT:g}",
        confidence=confidence,
    )


def degenerate_upper(trials: float, design_effect: float, confidence: float = 0.95) -> float:
    """Upper bound for 0 events in `trials` that are worth trials / D: 1 - (1 - confidence)^(D / trials)."""
    return float(1.0 - (1.0 - confidence) ** (design_effect / trials))


def design_effect(counts: Sequence[tuple[int, int]]) -> float | None:
    """Variance of the pooled rate between runs over its binomial variance (ratio estimator); None where undefined.

    (R / (R-1)) * sum (x_r - p n_r)^2 / n^2  over  p (1-p) / n.
    """
    runs, events, trials = len(counts), sum(x for x, _ in counts), sum(n for _, n in counts)
    if runs < 2 or not trials or events in (0, trials):
        return None
    pooled = events / trials
    between = runs / (runs - 1) * sum((x - pooled * n) ** 2 for x, n in counts) / trials**2
    return between / (pooled * (1 - pooled) / trials)


def geometric_mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Log, t over runs, exp: for run percentiles, which are positive and skewed."""
    method = "t over log run percentiles"
    if not values:
        return Estimate(estimate=None, low=None, high=None, n_runs=0, method=method, reason="no run")
    logs = np.log(values)
    centre = float(np.exp(np.mean(logs)))
    if len(values) < 2:
        return Estimate(estimate=centre, low=None, high=None, n_runs=1, method="value", reason="one run")
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(logs, ddof=1) / math.sqrt(len(values))
    low, high = float(np.exp(np.mean(logs) - half)), float(np.exp(np.mean(logs) + half))
    return Estimate(estimate=centre, low=low, high=high, n_runs=len(values), method=method, confidence=confidence)
