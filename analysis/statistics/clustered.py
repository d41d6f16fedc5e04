"""Pooled shares, and differences of them, with variances clustered by run: CR2, Satterthwaite's degrees of freedom.

The pooled share p = sum x / sum n is the least-squares mean of zeros and ones, the runs are its clusters. CR2
multiplies a cluster's residuals by (I - H)^(-1/2), H its part of the hat matrix (Bell and McCaffrey, Survey Methodology
28(2), 2002; Pustejovsky and Tipton, Journal of Business & Economic Statistics 36(4), 2018). For a mean all of H is
1 / N, so that a run's sum of residuals counts as

    t_r = (x_r - p n_r) / (N sqrt(1 - h_r)),  h_r = n_r / N,  V(p) = sum_r t_r^2.

For a combination sum_a w_a p_a of arms over the same blocks (a difference, say) the block is the cluster and H has one
part for each arm: V = sum_b (sum_a w_a t_ab)^2.

Degrees of freedom: (sum_r c_rr)^2 / sum_rs c_rs^2, c the covariances of the terms if requests were independent, all of
one variance: c_rs = (h_r [r = s] - h_r h_s) / (N sqrt((1 - h_r) (1 - h_s))), times w_a^2 added up over the arms. With
the same count in every run this is the (paired) t: V is the variance of the run rates over R, the degrees of freedom
are R - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# (events, trials) of a run.
Counts = tuple[float, float]
Array = np.ndarray[Any, Any]
# Less is rounding: nothing varies.
_NOTHING = 1e-12


class Clustered(NamedTuple):
    """error: standard error, 0 where nothing varies; df: its degrees of freedom."""

    estimate: float
    error: float
    df: float


class _Terms(NamedTuple):
    """t_r and c_rs of the module's head."""

    share: float
    values: Array
    covariance: Array


def pooled_rate(counts: Sequence[Counts]) -> float:
    return math.fsum(x for x, _ in counts) / math.fsum(n for _, n in counts)


def share(counts: Sequence[Counts]) -> Clustered:
    """counts: of at least two runs with trials."""
    terms = _terms(counts)
    return _clustered(terms.share, terms.values, terms.covariance)


def combination(arms: Sequence[Sequence[Counts]], weights: Sequence[float]) -> Clustered:
    """Of arms over the same blocks in the same order; at least two, each with trials."""
    terms = [_terms(arm) for arm in arms]
    share = math.fsum(w * each.share for w, each in zip(weights, terms, strict=True))
    values = sum((w * each.values for w, each in zip(weights, terms, strict=True)), np.zeros(len(arms[0])))
    covariance = sum(w * w * each.covariance for w, each in zip(weights, terms, strict=True))
    return _clustered(share, values, np.asarray(covariance))


def unpaired_difference(a: Sequence[Counts], b: Sequence[Counts]) -> Clustered:
    """A - b, of runs that share no blocks: variances add up, degrees of freedom by Satterthwaite once more."""
    one, other = share(a), share(b)
    variances = [(each.error**2, each.df) for each in (one, other) if each.error]
    total = sum(variance for variance, _ in variances)
    df = total**2 / sum(variance**2 / df for variance, df in variances) if total else 0.0
    return Clustered(one.estimate - other.estimate, math.sqrt(total), df)


def _terms(counts: Sequence[Counts]) -> _Terms:
    events, trials = np.asarray(counts, float).T
    total = trials.sum()
    rate, h = events.sum() / total, trials / total
    root = np.sqrt(1 - h)
    covariance = (np.diag(h) - np.outer(h, h)) / np.outer(root, root) / total
    return _Terms(float(rate), (events - rate * trials) / (total * root), covariance)


def _clustered(estimate: float, values: Array, covariance: Array) -> Clustered:
    error = float(np.sqrt(values @ values))
    df = float(np.trace(covariance) ** 2 / (covariance**2).sum())
    return Clustered(float(estimate), error if error > _NOTHING else 0.0, df)
