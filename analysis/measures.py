"""Figures of one run: cold counts, latency quantiles, replicas, cost. Tables in, numbers out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.load import Run

# Below these a run's quantile says nothing (methodology §3); the median is a point estimate from three on.
MIN_REQUESTS = {0.5: 3, 0.95: 100, 0.99: 300}


class Quantile(NamedTuple):
    value: float | None
    reason: str = ""


def cold_counts(stages: pl.DataFrame, requests: pl.DataFrame, outcome: str) -> tuple[int, int]:
    """(cold, known) of a run, at the level the outcome names. Rows without a label are not counted as warm."""
    table = stages if outcome == "invocation_cold_rate" else requests
    known = table.filter(pl.col("cold").is_not_null())
    return int(known["cold"].sum()), len(known)


def latency_quantile(requests: pl.DataFrame, q: float) -> Quantile:
    """Seconds from the scheduled arrival (numpy's linear quantile). Failures stay in, as longer than everything."""
    needed, n = MIN_REQUESTS[q], len(requests)
    if n < needed:
        return Quantile(None, f"p{q * 100:g} needs {needed} requests a run, these have {n}")
    done = (pl.col("status") == "ok") & pl.col("latency_s").is_not_null()
    values = requests.select(pl.when(done).then(pl.col("latency_s")).otherwise(float("inf"))).to_series().to_numpy()
    with np.errstate(invalid="ignore"):
        value = float(np.quantile(values, q))
    if not np.isfinite(value):
        return Quantile(None, f"p{q * 100:g} falls among failed requests")
    return Quantile(value)


def window_ns(requests: pl.DataFrame) -> tuple[int, int]:
    """From the first scheduled arrival to the last completion."""
    first, last_scheduled = requests["scheduled_at_ns"].min(), requests["scheduled_at_ns"].max()
    last_done = requests["done_at_ns"].max()
    return int(first or 0), max(int(last_done or 0), int(last_scheduled or 0))  # type: ignore[arg-type]


def replica_seconds(replicas: pl.DataFrame, column: str, start_ns: int, end_ns: int) -> dict[str, float]:
    """Integral of `ready` or `desired` over the window, per function: each Prometheus sample holds until the next."""
    totals: dict[str, float] = {}
    samples = replicas.filter(pl.col("source") == "prometheus").sort("at_ns")
    for (function,), group in samples.group_by(["function"], maintain_order=True):
        times = group["at_ns"].to_numpy()
        values = group[column].to_numpy()
        edges = np.append(np.clip(times, start_ns, end_ns), end_ns)
        # Before the first sample nothing is known: the value of the first one holds.
        edges[0] = start_ns
        totals[str(function)] = float(np.sum(values * np.diff(edges)) / 1e9)
    return totals


def mean_ready(replicas: pl.DataFrame, requests: pl.DataFrame) -> float | None:
    """Ready replicas of all functions together, averaged over the window; None without samples."""
    start_ns, end_ns = window_ns(requests)
    by_function = replica_seconds(replicas, "ready", start_ns, end_ns)
    return sum(by_function.values()) / ((end_ns - start_ns) / 1e9) if by_function and end_ns > start_ns else None


def provisioned_gb_s(run: Run, replicas: pl.DataFrame, requests: pl.DataFrame) -> float | None:
    """Replica-seconds (starting ones included) times their memory limit: what is paid for when idle time is paid."""
    start_ns, end_ns = window_ns(requests)
    by_function = replica_seconds(replicas, "desired", start_ns, end_ns)
    if not by_function:
        return None
    return sum(seconds * run.memory_limit_mb.get(name, 0) / 1024 for name, seconds in by_function.items())
