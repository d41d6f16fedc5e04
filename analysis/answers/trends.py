"""Did something change while the campaign ran? Rank correlation of what runs showed with their place in time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from analysis.rows.digest import Digest
from analysis.statistics.compare import holm
from fave.campaign.results import Anomaly
from fave.campaign.validity import below

# With four runs even a perfect order has p = 1/12.
_FEWEST = 5
# All orders of up to eight runs; of more, so many by chance.
_ALL_ORDERS = 8
_ORDERS = 20_000
_SHOWN_P = 0.05
Array = np.ndarray[Any, Any]


class Trend(NamedTuple):
    """values: in order of time, one a run, or one a block as a mean over regimes of value / the regime's mean.

    p: two-sided, by permutation.
    """

    what: str
    load: str
    regimes: str
    unit: str
    values: Sequence[float]
    rho: float
    p: float


def anomalies(used: Sequence[Digest], outcome: str) -> list[Anomaly]:
    """Trends with p < .05, by p: the clearest one of a load and quantity. Whether they are more than chance makes of so
    many tests stands beside them.
    """
    tested = trends(used, outcome)
    adjusted = holm([trend.p for trend in tested])
    shown = sorted(zip(tested, adjusted, strict=True), key=lambda each: (each[0].p, each[0].load, each[0].regimes))
    clearest = {(trend.load, trend.what): (trend, p_holm or trend.p) for trend, p_holm in reversed(shown)}
    of_note = [each for each in clearest.values() if below(each[0].p, _SHOWN_P)]
    return [_told(trend, p_holm, len(tested)) for trend, p_holm in sorted(of_note, key=lambda each: each[0].p)]


def trends(used: Sequence[Digest], outcome: str) -> list[Trend]:
    """Of mean start time, mean service time and cold-start rate: by load and regime, and by load over its regimes."""
    found = []
    ordered = sorted(used, key=lambda each: (each.run.started_at_ns, each.run.block))
    for load in sorted({each.run.load for each in used}):
        mine = [each for each in ordered if each.run.load == load]
        for what, unit in (("mean start time", " s"), ("mean service time", " s"), ("cold-start rate", "")):
            relative: dict[int, list[float]] = {}
            several = 0
            for regime in sorted({each.run.regime for each in mine}):
                known = [
                    (each.run.block, value)
                    for each in mine
                    if each.run.regime == regime and (value := _value(each, what, outcome)) is not None
                ]
                values = [value for _, value in known]
                if not _varies(values):
                    continue
                found.append(Trend(what, load, regime, unit, values, *correlation(values)))
                several += 1
                for block, value in known:
                    relative.setdefault(block, []).append(value / float(np.mean(values)))
            blocks = [float(np.mean(each)) for each in relative.values() if len(each) == several]
            if several > 1 and _varies(blocks):
                found.append(Trend(what, load, "all regimes", " of each regime's mean", blocks, *correlation(blocks)))
    return found


def _varies(values: Sequence[float]) -> bool:
    """More than by rounding, and there are enough of them."""
    return len(values) >= _FEWEST and max(values) - min(values) > 1e-9 * max(map(abs, values))


def _value(each: Digest, what: str, outcome: str) -> float | None:
    if what == "cold-start rate":
        cold, known = each.counts(outcome)
        return cold / known if known else None
    return each.start_mean_s if what == "mean start time" else each.service_mean_s


def correlation(values: Sequence[float]) -> tuple[float, float]:
    """Spearman's rho with time, and its p: the t approximation says 0 of any perfect order, however short."""
    ranks = stats.rankdata(np.round(values, 12))
    centred = ranks - ranks.mean()
    times = _orders(len(values))
    rhos = times @ centred / np.sqrt((times[0] ** 2).sum() * (centred**2).sum())
    at_least = np.abs(rhos) >= abs(rhos[0]) - 1e-9
    return float(rhos[0]), float(at_least.mean())


@cache
def _orders(n: int) -> Array:
    """Centred places in time, the true order first."""
    times = np.arange(n) - (n - 1) / 2
    if n <= _ALL_ORDERS:
        return np.array(list(itertools.permutations(times)))
    return np.vstack([times, np.random.default_rng(n).permuted(np.tile(times, (_ORDERS, 1)), axis=1)])


def _told(trend: Trend, p_holm: float, tests: int) -> Anomaly:
    return Anomaly(
        what=f"{trend.what} {'rises' if trend.rho > 0 else 'falls'} over the campaign",
        where=f"{trend.load}, {trend.regimes}",
        count=len(trend.values),
        detail=[
            f"from {trend.values[0]:.3f} (first) to {trend.values[-1]:.3f}{trend.unit} (last); Spearman's rho with "
            f"time {trend.rho:.2f}, p {trend.p:.2g}; by Holm over {tests} tests {p_holm:.2g}"
            f"{', which chance alone can make' * (not below(p_holm, _SHOWN_P))}"
        ],
    )
