"""Every outcome as figures of single runs, and on the scale on which arms are compared."""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.answers.cells import held_gb, run_mean_s, run_quantile
from analysis.rows.digest import Digest
from analysis.statistics.clustered import Counts
from fave.campaign.experiment import Experiment
from fave.campaign.outcomes import OUTCOMES
from fave.campaign.results import Prices

_S_PER_HOUR = 3600
_FIGURES: dict[str, Callable[[Digest], float | None]] = {
    "start_s": lambda each: each.start_mean_s,
    "mean_latency_s": run_mean_s,
    "executed_gb": lambda each: each.execution_gb_s / each.window_s,
    "held_gb": held_gb,
}


def figure(each: Digest, outcome: str, prices: Prices | None = None) -> float | None:
    """Of one run; None where its rows do not support it, and where there is nothing to compare (0)."""
    about = OUTCOMES[outcome]
    if about.share:
        events, known = each.counts(outcome)
        return events / known if known else None
    return _positive(each, outcome, prices) or None


def _positive(each: Digest, outcome: str, prices: Prices | None) -> float | None:
    if OUTCOMES[outcome].quantile:
        return run_quantile(each, OUTCOMES[outcome].quantile).value
    if outcome == "money_per_hour":
        return _money_per_hour(each, prices)
    return _FIGURES[outcome](each)


def _money_per_hour(each: Digest, prices: Prices | None) -> float | None:
    """Of all that has a price: memory while executing, memory held, requests."""
    if prices is None:
        return None
    held = held_gb(each) if prices.per_gb_s_held else 0.0
    if held is None:
        return None
    executed = each.execution_gb_s / each.window_s
    per_s = executed * prices.per_gb_s_executed + held * prices.per_gb_s_held
    per_s += each.requests / each.window_s * prices.per_million_requests / 1e6
    return per_s * _S_PER_HOUR


def counts(each: Digest, outcome: str, experiment: Experiment) -> Counts:
    """(events, known) of a share; of any other figure its logarithm, which counts once: means over runs are then means
    of logs, and differences are log ratios. (0, 0) where there is none.
    """
    if OUTCOMES[outcome].share:
        return each.counts(outcome)
    found = figure(each, outcome, experiment.prices)
    return (math.log(found), 1) if found else (0, 0)


def bounded(each: Digest, outcome: str, experiment: Experiment) -> tuple[Counts, Counts]:
    """Had all without a label been none, and had they been some."""
    if OUTCOMES[outcome].share:
        return each.bounded(outcome)
    found = counts(each, outcome, experiment)
    return found, found
