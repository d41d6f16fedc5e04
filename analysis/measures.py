"""Figures of one run: cold counts, latency quantiles, replicas, cost. Tables in, numbers out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.load import Run

# Below these a run's quantile says nothing (methodology §3); the median is a point estimate from three on.
MIN_REQUESTS = {0.5: 3, 0.95: 100, 0.99: 300}


_ENDS = frozenset(("stop", "crashed", "oom_killed", "start_failed"))


class Provisioned(NamedTuple):
    """GB-s of a run, and what they were computed from."""

    gb_s: float | None
    method: str


class Quantile(NamedTuple):
    """among_failures: it is longer than every request that was answered."""

    value: float | None
    reason: str = ""
    among_failures: bool = False


def cold_counts(stages: pl.DataFrame, requests: pl.DataFrame, outcome: str) -> tuple[int, int]:
    """(cold, known) of a run, at the level the outcome names. Rows without a label are not counted as warm."""
    table = stages if outcome == "invocation_cold_rate" else requests
    known = table.filter(pl.col("cold").is_not_null())
    return int(known["cold"].sum()), len(known)


def first_and_rest(
    stages: pl.DataFrame, requests: pl.DataFrame, outcome: str, until_ns: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(cold, known) of what was sent before `until_ns`, and from then on."""
    first, rest = pl.col("sent_at_ns") < until_ns, pl.col("sent_at_ns") >= until_ns
    return (
        cold_counts(stages.filter(first), requests.filter(first), outcome),
        cold_counts(stages.filter(rest), requests.filter(rest), outcome),
    )


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
        return Quantile(None, f"p{q * 100:g} falls among failed requests", among_failures=True)
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


def provisioned(run: Run, replicas: pl.DataFrame, requests: pl.DataFrame, *, has_events: bool) -> Provisioned:
    """Replica-seconds times memory limit: what is paid for when idle time is paid.

    From the platform's events a replica counts from its start until its process is gone (starting and draining
    included); on a platform without events, from Prometheus' samples of desired replicas, which miss draining ones.
    has_events is the campaign's, not the run's: a run in which nothing started or stopped has none either.
    """
    start_ns, end_ns = window_ns(requests)
    if has_events:
        seconds, method = held_seconds(replicas, run.initial_ready, start_ns, end_ns), "platform events"
    else:
        seconds, method = replica_seconds(replicas, "desired", start_ns, end_ns), "Prometheus samples"
    if not len(replicas):
        return Provisioned(None, "no replica rows")
    return Provisioned(sum(s * run.memory_limit_mb.get(name, 0) / 1024 for name, s in seconds.items()), method)


def held_seconds(replicas: pl.DataFrame, initial: dict[str, int], start_ns: int, end_ns: int) -> dict[str, float]:
    """Seconds in the window during which each function held replicas, from start and end events.

    initial: replicas that stood, verified, before the first row. One that ends in the window without having started in
    it is one of them; those that neither start nor end are there all the time.
    """
    events = replicas.filter((pl.col("source") == "gateway") & (pl.col("replica_id") != "")).sort("at_ns")
    started: dict[str, tuple[str, int]] = {}
    left = dict(initial)
    totals = dict.fromkeys(initial, 0.0)

    def add(function: str, from_ns: int, until_ns: int) -> None:
        totals[function] = totals.get(function, 0.0) + max(0, min(until_ns, end_ns) - max(from_ns, start_ns)) / 1e9

    for function, replica, event, at_ns in events.select("function", "replica_id", "event", "at_ns").iter_rows():
        if event == "start":
            started[replica] = (function, at_ns)
        elif event in _ENDS:
            known = started.pop(replica, None)
            add(function, known[1] if known else start_ns, at_ns)
            if known is None:
                left[function] = left.get(function, 0) - 1
    for function, at_ns in started.values():
        add(function, at_ns, end_ns)
    for function, count in left.items():
        totals[function] = totals.get(function, 0.0) + max(0, count) * (end_ns - start_ns) / 1e9
    return totals


def mean_queue_s(stages: pl.DataFrame) -> float | None:
    """Mean wait of an invocation beyond its replica's readiness: saturation shows here when it hides cold starts."""
    return stages["queue_s"].mean()  # type: ignore[return-value]
