"""One load in one regime over all its runs: cold starts, latency, cost, critical path."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import structs

from analysis.rows import measures
from analysis.rows.digest import Counts, Digest, Held
from analysis.rows.path import PARTS
from analysis.statistics import clustered
from analysis.statistics.intervals import (
    design_effect,
    geometric_mean_interval,
    intraclass_correlation,
    mean_interval,
    pooled_rate_interval,
    runs_upper,
)
from fave.campaign import results as answers
from fave.campaign.experiment import Load
from fave.campaign.results import (
    Cell,
    ColdRate,
    Cost,
    Estimate,
    KeepWarm,
    Latency,
    Levels,
    Money,
    PathSplit,
    Prediction,
    Prices,
    Share,
    SlowRate,
)

_LONG_ENOUGH_S = 60.0
# A function that lacks a replica for less of the run is kept already: a ratio to next to nothing says nothing.
_HELD_ANYWAY = 0.01
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
# A percentile closer than this, in any run, to where warm requests end and cold ones begin is either by chance.
_JUMP = 0.02


def cell(
    load: str,
    regime: str,
    about: Load,
    outcome: str,
    slo_s: float | None,
    mine: Sequence[Digest],
    prices: Prices | None,
) -> Cell:
    """about: the load as the experiment has it. outcome: a level of cold starts. mine: the used runs."""
    return Cell(
        target=about.target,
        load=load,
        regime=regime,
        runs=len(mine),
        requests=sum(each.requests for each in mine),
        failures=sum(each.failures for each in mine),
        failure_rate=pooled_rate_interval([(each.failures, each.requests) for each in mine]),
        statuses=_added([each.statuses for each in mine]),
        cold_rate=_cold_rate(outcome, mine),
        levels=_levels(mine),
        cold_by_stage=_by_stage(mine),
        cold_rate_by_time=_by_time(mine, about.traffic.duration),
        latency_s=_latency(mine),
        slow_rate=SlowRate(limit_s=slo_s, rate=_share([each.slow for each in mine])) if slo_s else None,
        start_s=mean_interval([each.start_mean_s for each in mine if each.start_mean_s is not None]),
        queue_s_mean=mean_of([each.queue_mean_s for each in mine]),
        ready_replicas_mean=mean_of([each.ready_mean for each in mine]),
        generator_cpu_share=mean_of([_generator_cpu(each) for each in mine]),
        cost_gb_s=_cost(mine, prices),
        predicted=_predicted(mine),
        path=_path(mine) if any(each.run.graph and len(each.paths.response_s) for each in mine) else None,
    )


def cold_counts(mine: Sequence[Digest], outcome: str) -> list[clustered.Counts]:
    """(cold, known) of the runs whose rate is known."""
    return [counts for each in mine if (counts := each.counts(outcome))[1]]


def _cold_rate(outcome: str, mine: Sequence[Digest]) -> ColdRate:
    counts = [each.counts(outcome) for each in mine]
    unknown = math.fsum(each.lacking(outcome) for each in mine)
    if_warm, if_cold = (pooled_rate_interval([each.bounded(outcome)[end] for each in mine]) for end in (0, 1))
    rate = (
        _widened(pooled_rate_interval(counts), (if_warm, if_cold), unknown) if unknown else pooled_rate_interval(counts)
    )
    without = sum(cold == 0 for cold, known in counts if known)
    known_runs = sum(known > 0 for _, known in counts)
    return ColdRate(
        outcome=outcome,
        estimate=rate.estimate,
        low=rate.low,
        high=rate.high,
        n_runs=rate.n_runs,
        method=rate.method,
        confidence=rate.confidence,
        reason=rate.reason,
        cold=sum(cold for cold, _ in counts),
        of=sum(known for _, known in counts),
        runs_without_cold=without,
        runs_upper=runs_upper(known_runs) if known_runs and without == known_runs else None,
        unknown=unknown,
        if_warm=if_warm.estimate,
        if_cold=if_cold.estimate,
        design_effect=design_effect(counts),
        intraclass_correlation=intraclass_correlation(counts),
    )


def _widened(rate: Estimate, ends: Sequence[Estimate], unknown: float) -> Estimate:
    """Its interval holds those of both ends; null where a single run gives none."""
    if any(each.n_runs < 2 for each in ends):
        return rate
    every = (rate, *ends)
    lows = [each.estimate if each.low is None else each.low for each in every]
    highs = [each.estimate if each.high is None else each.high for each in every]
    widened = f"{unknown:.4g} without a label widen the cold-start rate's interval"
    return structs.replace(
        rate,
        low=min(low for low in lows if low is not None),
        high=max(high for high in highs if high is not None),
        method=f"{rate.method}, from all without a label warm to all cold",
        reason=f"{rate.reason}; {widened}" if rate.reason else widened,
    )


def _share(counts: Sequence[Counts]) -> Share:
    return answers.share(pooled_rate_interval(counts), sum(x for x, _ in counts), sum(n for _, n in counts))


def _levels(mine: Sequence[Digest]) -> Levels:
    return Levels(
        request=_share([each.cold.requests for each in mine]),
        invocation=_share([each.cold.invocations for each in mine]),
        on_path=_share([each.cold.on_path for each in mine]),
        first_use=_share([each.cold.first_use for each in mine]),
        triggered=_share([each.cold.triggered for each in mine]),
        evidence=_added([each.evidence for each in mine]),
    )


def _by_stage(mine: Sequence[Digest]) -> dict[str, Share]:
    stages = sorted({stage for each in mine for stage in each.cold.by_stage})
    return {stage: _share([each.cold.by_stage.get(stage, (0, 0)) for each in mine]) for stage in stages}


def _by_time(mine: Sequence[Digest], duration_s: float) -> dict[str, Share] | None:
    """The start of a run apart: there the initial state still shows. None where runs are too short for it."""
    if duration_s < _LONG_ENOUGH_S:
        return None
    return {
        "first_30_s": _share([each.cold.first for each in mine]),
        "after_30_s": _share([each.cold.rest for each in mine]),
    }


def run_quantile(each: Digest, q: float) -> measures.Quantile:
    return measures.latency_quantile(each.latencies_s, each.waited_s, each.requests, q)


def run_mean_s(each: Digest) -> float | None:
    """Of the answered requests, where all were: a mean over some would be of something else."""
    whole = len(each.latencies_s) == each.requests > 0
    return float(each.latencies_s.mean()) if whole else None


def _latency(mine: Sequence[Digest]) -> Latency:
    """A figure is null, with the reason, as soon as one run's n does not support it."""
    figures: dict[str, float | None] = {}
    reasons: list[str] = []
    at_least: dict[str, float] = {}
    failing: list[str] = []
    for name, q in QUANTILES.items():
        found = [run_quantile(each, q) for each in mine]
        values = [each.value for each in found if each.value is not None]
        whole = len(values) == len(found)
        estimate = geometric_mean_interval(values if whole else [])
        figures |= {name: estimate.estimate, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        reasons += sorted({each.reason for each in found if each.reason})
        if whole and estimate.reason:
            reasons.append(f"{name} has no interval: {estimate.reason}")
        if any("among failed" in each.reason for each in found):
            failing.append(name)
            bounds = [
                b for each in found if (b := each.value if each.at_least_s is None else each.at_least_s) is not None
            ]
            at_least |= {name: geometric_mean_interval(bounds).estimate or 0.0} if bounds else {}
    means = [value for each in mine if (value := run_mean_s(each)) is not None]
    return Latency(
        **figures,
        mean=statistics.fmean(means) if means and len(means) == len(mine) else None,
        among_failures=failing,
        at_least_s=at_least,
        near_jump=[name for name, q in QUANTILES.items() if figures[name] is not None and _near_jump(mine, q)],
        timeouts=sum(each.statuses.get("timeout", 0) for each in mine),
        reason="; ".join(reasons) or ("" if mine else "no valid run"),
    )


def _near_jump(mine: Sequence[Digest], q: float) -> bool:
    """Also where it is among the warm requests of some runs, and among the cold ones of others."""
    shares = [cold / known for cold, known in (each.cold.requests for each in mine) if known]
    some = any(0 < share < 1 for share in shares)
    return some and min(shares) - _JUMP < 1 - q < max(shares) + _JUMP


def held(each: Digest) -> Held:
    """From the platform's events where it tells of any, else from Prometheus' samples."""
    return each.held_by_events if each.has_events else each.held_by_samples


def held_gb(each: Digest) -> float | None:
    """GB-s per second of the planned window; None without rows to know it from."""
    seconds = held(each).replica_s
    if not seconds:
        return None
    return sum(s * each.run.memory_limit_mb.get(name, 0) / 1024 for name, s in seconds.items()) / each.window_s


def _cost(mine: Sequence[Digest], prices: Prices | None) -> Cost:
    known = [value for each in mine if (value := held_gb(each)) is not None]
    whole = bool(known) and len(known) == len(mine)
    interval = mean_interval(known) if whole else Estimate(estimate=None, low=None, high=None, n_runs=0, method="none")
    execution = mean_of([each.execution_gb_s / each.window_s for each in mine])
    per_s = mean_of([each.requests / each.window_s for each in mine])
    per_hour = interval.estimate * 3600 if interval.estimate is not None else None
    return Cost(
        execution=execution,
        provisioned=interval.estimate,
        provisioned_low=interval.low,
        provisioned_high=interval.high,
        provisioned_from=sorted({"platform events" if each.has_events else "Prometheus samples" for each in mine}),
        per="second",
        idle_share=1 - execution / interval.estimate if interval.estimate and execution is not None else None,
        per_request_gb_s=interval.estimate / per_s if interval.estimate is not None and per_s else None,
        per_hour_gb_s=per_hour,
        money=_money(prices, execution, interval.estimate, per_s),
        reason="" if whole else "no valid run" if not mine else "a run has no replica rows",
    )


def _money(
    prices: Prices | None, execution: float | None, held: float | None, requests_per_s: float | None
) -> Money | None:
    """execution, held: GB-s per second."""
    if prices is None or execution is None or held is None or not requests_per_s:
        return None
    calls = prices.per_million_requests / 1000
    return Money(
        currency=prices.currency,
        executed_per_1000_requests=execution / requests_per_s * 1000 * prices.per_gb_s_executed + calls,
        held_per_1000_requests=held / requests_per_s * 1000 * prices.per_gb_s_held + calls,
        held_per_hour=held * 3600 * prices.per_gb_s_held,
    )


def _predicted(mine: Sequence[Digest]) -> Prediction | None:
    known = [(each.predicted, each.run.memory_limit_mb[each.run.function] / 1024) for each in mine if each.predicted]
    if not known:
        return None
    return Prediction(
        cold_rate=statistics.fmean(one.found.cold_rate for one, _ in known),
        held_gb=statistics.fmean(one.held(one.found) * gb for one, gb in known),
        runs=len(known),
    )


def _path(mine: Sequence[Digest]) -> PathSplit:
    response_s = np.concatenate([each.paths.response_s for each in mine])
    parts_s = np.concatenate([each.paths.parts_s for each in mine])
    return PathSplit(
        requests=len(response_s),
        response_s=float(response_s.mean()),
        parts_s={name: float(value) for name, value in zip(PARTS, parts_s.mean(axis=0), strict=True)},
        unexplained_share=float(np.median(parts_s[:, -1] / response_s)),
        keep_warm=_keep_warm(mine),
    )


def _keep_warm(mine: Sequence[Digest]) -> list[KeepWarm]:
    """By function that was cold on a path, most seconds per GB-s first."""
    functions = sorted({name for each in mine for name in each.paths.saved_s})
    found = []
    for name in functions:
        on_path, saved = (_run_means(mine, name, of) for of in ("cold_by_stage_s", "saved_s"))
        if not any(on_path):
            continue
        extra = statistics.fmean(_extra_gb(each, name) for each in mine)
        interval = mean_interval(saved)
        whole = statistics.fmean(each.run.memory_limit_mb.get(name, 0) / 1024 for each in mine)
        per_s = statistics.fmean(len(each.paths.response_s) / each.window_s for each in mine)
        found.append(
            KeepWarm(
                function=name,
                on_path_s=statistics.fmean(on_path),
                saved_s=statistics.fmean(saved),
                saved_low_s=interval.low,
                saved_high_s=interval.high,
                extra_gb=extra,
                saved_s_per_gb_s=statistics.fmean(saved) * per_s / extra if extra > _HELD_ANYWAY * whole else None,
            )
        )
    return sorted(found, key=lambda each: -(each.saved_s_per_gb_s or 0.0))


def _run_means(mine: Sequence[Digest], function: str, of: str) -> list[float]:
    return [
        float(getattr(each.paths, of)[function].mean()) if function in getattr(each.paths, of) else 0.0
        for each in mine
        if len(each.paths.response_s)
    ]


def _extra_gb(each: Digest, function: str) -> float:
    """Memory x the share of time in which the run held no replica of it."""
    there = held(each).any_s.get(function, 0.0)
    return max(0.0, 1 - there / each.window_s) * each.run.memory_limit_mb.get(function, 0) / 1024


def _generator_cpu(each: Digest) -> float | None:
    return next((f.observed for f in each.run.verdict.findings if f.gate == "generator_cpu_share"), None)


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    names = sorted({name for each in counts for name in each})
    return {name: sum(each.get(name, 0) for each in counts) for name in names}


def mean_of(values: Sequence[float | None]) -> float | None:
    """None as soon as one run lacks the figure: a mean over the others would be of something else."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def in_cell(digests: Sequence[Digest], load: str, regime: str) -> list[Digest]:
    """In order of blocks."""
    mine = [each for each in digests if (each.run.load, each.run.regime) == (load, regime)]
    return sorted(mine, key=lambda each: each.run.block)


def of_blocks(mine: Sequence[Digest], figure: Callable[[Digest], float | None]) -> dict[int, float]:
    """By block, where it is known."""
    return {each.run.block: value for each in mine if (value := figure(each)) is not None}
