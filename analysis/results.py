"""From a campaign's tables to `results.json`: every number of the report, with interval, n and method."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import polars as pl

from analysis import capacity, compare, controls, fidelity, measures, thresholds
from analysis.intervals import design_effect, geometric_mean_interval, run_rate_interval
from analysis.load import Campaign, Run, of_run, regimes_of, used_runs
from fave.records import SCHEMA
from fave.settings import Duration

# What is reported apart, of runs at least twice as long.
_FIRST_NS = 30_000_000_000
_LONG_ENOUGH_S = 60.0


class RunFigures(NamedTuple):
    """One run's figures; None where its data do not support one."""

    run: Run
    requests: int
    failures: int
    cold: tuple[int, int]
    cold_first: tuple[int, int]
    cold_rest: tuple[int, int]
    p50_s: measures.Quantile
    p95_s: measures.Quantile
    unlabelled: int
    queue_mean_s: float | None
    ready_mean: float | None
    execution_gb_s: float
    provisioned: measures.Provisioned


def results(campaign: Campaign) -> dict[str, Any]:
    experiment = campaign.experiment
    used = used_runs(campaign.runs, experiment)
    figures = [_figures(campaign, run, experiment["primary_outcome"]) for run in used]
    cells = [
        _cell(load, regime, each, experiment["primary_outcome"], figures)
        for load, each in experiment["loads"].items()
        for regime in regimes_of(experiment, load)
    ]
    contrasts = _contrasts(experiment, figures, campaign.stopping)
    return {
        "schema": SCHEMA,
        "campaign": {
            "name": campaign.name,
            "experiment": campaign.info["name"],
            "description": experiment["description"],
            "seed": experiment["seed"],
            "started_at_ns": campaign.info["started_at_ns"],
            "co_located": campaign.info["co_located"],
            "equivalence_margin": experiment["equivalence_margin"],
        },
        "primary_outcome": experiment["primary_outcome"],
        "cells": cells,
        "contrasts": contrasts,
        "thresholds": msgspec.to_builtins(thresholds.evaluate(experiment["thresholds"], cells)),
        "controls": msgspec.to_builtins(controls.check(campaign, used, contrasts)),
        "capacity": capacity.ladder(campaign, used),
        "stopping": campaign.stopping,
        "load_as_sent": fidelity.load_as_sent(campaign),
        "validity": _validity(campaign, experiment),
    }


def _figures(campaign: Campaign, run: Run, outcome: str) -> RunFigures:
    requests, stages = of_run(campaign.requests, run), of_run(campaign.stages, run)
    has_events = bool((campaign.replicas["source"] == "gateway").any())
    replicas = of_run(campaign.replicas, run)
    first, rest = measures.first_and_rest(stages, requests, outcome, run.started_at_ns + _FIRST_NS)
    return RunFigures(
        run=run,
        requests=len(requests),
        failures=len(requests.filter(pl.col("status") != "ok")),
        cold=measures.cold_counts(stages, requests, outcome),
        cold_first=first,
        cold_rest=rest,
        p50_s=measures.latency_quantile(requests, 0.5),
        p95_s=measures.latency_quantile(requests, 0.95),
        unlabelled=int(stages["cold"].null_count()),
        queue_mean_s=measures.mean_queue_s(stages),
        ready_mean=measures.mean_ready(replicas, requests),
        execution_gb_s=float(stages["cost_gb_s"].sum()),
        provisioned=measures.provisioned(run, replicas, requests, has_events=has_events),
    )


def _cell(load: str, regime: str, about: dict[str, Any], outcome: str, figures: list[RunFigures]) -> dict[str, Any]:
    mine = [f for f in figures if f.run.load == load and f.run.regime == regime]
    counts = [f.cold for f in mine]
    rate = run_rate_interval(counts)
    return {
        "target": about["target"],
        "load": load,
        "regime": regime,
        "runs": len(mine),
        "requests": sum(f.requests for f in mine),
        "failures": sum(f.failures for f in mine),
        "cold_rate": {
            "outcome": outcome,
            **msgspec.to_builtins(rate),
            "cold": sum(cold for cold, _ in counts),
            "of": sum(known for _, known in counts),
            "runs_without_cold": sum(cold == 0 for cold, known in counts if known),
            "unknown": sum(f.unlabelled for f in mine),
            "design_effect": design_effect(counts),
        },
        "cold_rate_by_time": _by_time(mine, Duration.parse(about["traffic"]["duration"])),
        "latency_s": _latency(mine),
        "queue_s_mean": _mean([f.queue_mean_s for f in mine]),
        "ready_replicas_mean": _mean([f.ready_mean for f in mine]),
        "cost_gb_s": {
            "execution": _mean([f.execution_gb_s for f in mine]),
            "provisioned": _mean([f.provisioned.gb_s for f in mine]),
            "provisioned_from": sorted({f.provisioned.method for f in mine}),
            "per": "run",
            "reason": "" if mine else "no valid run",
        },
    }


def _by_time(mine: list[RunFigures], duration_s: float) -> dict[str, Any] | None:
    """The start of a run apart: there the initial state still shows. None where runs are too short for it."""
    if duration_s < _LONG_ENOUGH_S:
        return None
    return {
        name: {
            **{key: getattr(run_rate_interval(counts), key) for key in ("estimate", "low", "high")},
            "cold": sum(cold for cold, _ in counts),
            "of": sum(known for _, known in counts),
        }
        for name, counts in (("first_30_s", [f.cold_first for f in mine]), ("after_30_s", [f.cold_rest for f in mine]))
    }


def _latency(mine: list[RunFigures]) -> dict[str, Any]:
    """Geometric mean of run quantiles with its interval; null with the reason where a run's n does not support it."""
    latency: dict[str, Any] = {}
    reasons = []
    for name, quantiles in (("p50", [f.p50_s for f in mine]), ("p95", [f.p95_s for f in mine])):
        values = [q.value for q in quantiles if q.value is not None]
        whole = len(values) == len(quantiles)
        estimate = geometric_mean_interval(values if whole else [])
        latency[name] = estimate.estimate
        latency[f"{name}_low"], latency[f"{name}_high"] = estimate.low, estimate.high
        reasons += sorted({q.reason for q in quantiles if q.reason})
        if whole and estimate.reason:
            reasons.append(f"{name} has no interval: {estimate.reason}")
    # Beyond every latency: not unknown, but longer than any threshold.
    latency["among_failures"] = [
        name
        for name, quantiles in (("p50", [f.p50_s for f in mine]), ("p95", [f.p95_s for f in mine]))
        if any(q.among_failures for q in quantiles)
    ]
    latency["reason"] = "; ".join(reasons) or ("" if mine else "no valid run")
    return latency


def _contrasts(
    experiment: dict[str, Any], figures: list[RunFigures], stopping: dict[str, dict[str, int]]
) -> list[dict[str, Any]]:
    """Planned contrasts per compared load; p adjusted by Holm over all of them."""
    rows = [
        _contrast(experiment, load, a, b, figures, _pilot(stopping, load))
        for load, each in experiment["loads"].items()
        if not each["descriptive"]
        for a, b in experiment["contrasts"]
        if {a, b} <= set(regimes_of(experiment, load))
    ]
    # A planned contrast that could not be tested stays in the family (p = 1): what the data look like must not make
    # the others' correction milder.
    for row, p_holm in zip(rows, compare.holm([1.0 if row["p"] is None else row["p"] for row in rows]), strict=True):
        row["p_holm"] = None if row["p"] is None else p_holm
    for row in rows:
        result = row.pop("result")
        row["verdict"] = compare.verdict(result, row["p_holm"]) if result else "inconclusive"
    return rows


def _pilot(stopping: dict[str, dict[str, int]], load: str) -> int:
    """Blocks from whose spread the number of all blocks followed; 0 where it was fixed beforehand."""
    decision = stopping.get(load)
    return decision["pilot_blocks"] if decision and decision["complete"] else 0


def _contrast(
    experiment: dict[str, Any], load: str, a: str, b: str, figures: list[RunFigures], pilot: int
) -> dict[str, Any]:
    blocks = sorted({f.run.block for f in figures if f.run.load == load})
    rates = {
        regime: [
            f.cold[0] / f.cold[1]
            for block in blocks
            for f in figures
            if (f.run.block, f.run.load, f.run.regime) == (block, load, regime) and f.cold[1]
        ]
        for regime in (a, b)
    }
    enough = len(rates[a]) == len(rates[b]) == len(blocks) >= 2
    margin = experiment["equivalence_margin"]
    result = compare.paired(rates[a], rates[b], margin=margin, pilot=pilot) if enough else None
    return {
        "target": experiment["loads"][load]["target"],
        "load": load,
        "outcome": experiment["primary_outcome"],
        "a": a,
        "b": b,
        "risk_difference": result.mean if result else None,
        "ci95": list(result.ci95) if result and result.ci95 else None,
        "p": result.p if result else None,
        "p_holm": None,
        "p_sign_flip": result.p_sign_flip if result else None,
        "p_equivalence": result.p_equivalence if result else None,
        "margin": margin,
        "method": result.method if result else "none",
        "blocks": len(blocks),
        "exploratory": (pilot or len(blocks)) < compare.CONFIRMATORY_BLOCKS,
        "reason": _reason(result, len(blocks)),
        "rates": {a: rates[a], b: rates[b]},
        "result": result,
    }


def _reason(result: compare.Paired | None, blocks: int) -> str:
    if result is None:
        return f"{blocks} complete block{'s' * (blocks != 1)}; a paired comparison needs 2"
    return "all differences are the same: no variance to test against" if result.degenerate else ""


def _validity(campaign: Campaign, experiment: dict[str, Any]) -> dict[str, Any]:
    used = {run.key for run in used_runs(campaign.runs, experiment)}
    excluded = [
        {
            "cell": run.folder,
            "reasons": run.verdict.reasons() or ["another run of its block is invalid or missing"],
        }
        for run in campaign.runs
        if run.key not in used
    ]
    planned = len(campaign.info["order"]) + sum(
        (each["blocks"] - each["pilot_blocks"]) * len(regimes_of(experiment, load))
        for load, each in campaign.stopping.items()
    )
    notes = ["generator and system share one machine"] if campaign.info["co_located"] else []
    if campaign.cut_short:
        notes.append(f"begun and cut short, repeated with their block: {', '.join(campaign.cut_short)}")
    notes += fidelity.disagreements(campaign)
    lags = [f.observed for run in campaign.runs for f in run.verdict.findings if f.gate == "schedule_lag_p99_s"]
    return {
        "valid": bool(used) and len(used) == planned,
        "runs_planned": planned,
        "runs_used": len(used),
        "excluded": excluded,
        "worst_schedule_lag_p99_s": max((lag for lag in lags if lag is not None), default=None),
        "gates": experiment["gates"],
        "notes": notes,
    }


def _mean(values: list[float | None]) -> float | None:
    """None as soon as one run lacks the figure: a mean over the others would be of something else."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
