"""Intervals of rates. The run is the unit: requests within a run depend on each other (methodology §1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec import structs
from scipy import special, stats

from analysis.statistics import clustered
from analysis.statistics.clustered import Counts
from fave.campaign.results import Estimate

# Assumed where too few runs hold an event to estimate it; design effects of 2 to 124 were seen.
MIN_DESIGN_EFFECT = 10.0
# With an event in fewer runs than this neither a variance nor a design effect can be had from them.
_FEW_RUNS = 3


def pooled_rate_interval(counts: Sequence[Counts], confidence: float = 0.95) -> Estimate:
    """Pooled share of all runs, its variance clustered by run (`clustered`), interval on the logit.

    counts: (events, trials) per run. Where fewer than three runs hold an event (or fewer than three hold anything else)
    there is no variance to work with, or next to none: the interval reaches from that end at least to a one-sided
    Clopper-Pearson bound on the effective counts (methodology §2.6).
    """
    known = [run for run in counts if run[1]]
    if not known:
        return Estimate(estimate=None, low=None, high=None, n_runs=0, method="none", reason="no run with a known rate")
    found = _on_the_logit(known, confidence)
    if len(known) < 2:
        return structs.replace(found, reason="one run: requests within a run are no replicates")
    for end in (0.0, 1.0):
        odd = sum(events != end * trials for events, trials in known)
        if odd == 0 or odd < _FEW_RUNS <= len(known):
            return _from_an_end(end, found, known, confidence)
    return found


def _on_the_logit(known: Sequence[Counts], confidence: float) -> Estimate:
    """Logit p ± t V^(1/2) / (p (1 - p)), back. Null ends where there is no variance."""
    found = clustered.share(known) if len(known) > 1 else None
    if found is None or not found.error:
        reason = "all runs have the same rate: no variance to compute an interval from"
        rate = clustered.pooled_rate(known)
        return Estimate(estimate=rate, low=None, high=None, n_runs=len(known), method="pooled", reason=reason)
    rate, odds = found.estimate, math.log(found.estimate / (1 - found.estimate))
    half = float(stats.t.ppf((1 + confidence) / 2, found.df)) * found.error / (rate * (1 - rate))
    low, high = (float(special.expit(odds + sign * half)) for sign in (-1, 1))
    return Estimate(
        estimate=rate, low=low, high=high, n_runs=len(known), method="CR2 on the logit", confidence=confidence
    )


def _from_an_end(end: float, found: Estimate, counts: Sequence[Counts], confidence: float) -> Estimate:
    trials = sum(n for _, n in counts)
    odd = sum(x if end == 0.0 else n - x for x, n in counts)
    assumed = max(design_effect(counts) or 0.0, MIN_DESIGN_EFFECT)
    bound = effective_upper(odd, trials, assumed, confidence)
    low, high = (0.0, bound) if end == 0.0 else (1.0 - bound, 1.0)
    method = f"one-sided Clopper-Pearson, design effect {assumed:.3g}"
    if found.low is not None and found.high is not None:
        low, high, method = min(low, found.low), max(high, found.high), f"{method}, or {found.method}"
    return Estimate(
        estimate=found.estimate, low=low, high=high, n_runs=found.n_runs, method=method, confidence=confidence
    )


def effective_upper(events: float, trials: float, design_effect: float, confidence: float = 0.95) -> float:
    """One-sided Clopper-Pearson upper bound on counts that are worth events / D of trials / D."""
    if events >= trials:
        return 1.0
    x, n = events / design_effect, trials / design_effect
    return float(stats.beta.ppf(confidence, x + 1, n - x))


def runs_upper(runs: int, confidence: float = 0.95) -> float:
    """Upper bound for the share of runs with an event when none of so many had one."""
    return degenerate_upper(runs, 1.0, confidence)


def degenerate_upper(trials: float, design_effect: float, confidence: float = 0.95) -> float:
    """Upper bound for 0 events in `trials` that are worth trials / D: 1 - (1 - confidence)^(D / trials)."""
    return float(1.0 - (1.0 - confidence) ** (design_effect / trials))


def design_effect(counts: Sequence[Counts]) -> float | None:
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


def intraclass_correlation(counts: Sequence[Counts]) -> float | None:
    """Of events within runs, by analysis of variance (Fleiss); None where undefined. Negative: spread evenly.

    (MSB - MSW) / (MSB + (n0 - 1) MSW), n0 = (N - sum n^2 / N) / (R - 1).
    """
    runs, events, trials = len(counts), sum(x for x, _ in counts), sum(n for _, n in counts)
    if runs < 2 or trials <= runs or events in (0, trials):
        return None
    pooled = events / trials
    between = sum(n * (x / n - pooled) ** 2 for x, n in counts if n) / (runs - 1)
    within = sum(x * (n - x) / n for x, n in counts if n) / (trials - runs)
    n0 = (trials - sum(n * n for _, n in counts) / trials) / (runs - 1)
    return (between - within) / (between + (n0 - 1) * within)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean of run figures with a t interval over runs; null ends with fewer than two, or where all are the same."""
    if not values:
        return Estimate(estimate=None, low=None, high=None, n_runs=0, method="none", reason="no run")
    mean, method = float(np.mean(values)), "t over runs"
    if len(values) < 2 or np.ptp(values) < 1e-12:
        reason = "one run" if len(values) < 2 else "all runs are the same"
        return Estimate(estimate=mean, low=None, high=None, n_runs=len(values), method="mean", reason=reason)
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return Estimate(
        estimate=mean, low=mean - half, high=mean + half, n_runs=len(values), method=method, confidence=confidence
    )
