"""Figures of one run: cold counts, latency quantiles, how long replicas were held. Tables in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from fave.campaign.outcomes import MIN_REQUESTS
from fave.wire import replica_events

# Below these a run's quantile says nothing (methodology §3); the median is a point estimate from three on.
# Nothing can be said per second of less.
_SHORTEST_NS = 1_000_000
Array = np.ndarray[Any, Any]
# Seconds since the window's start, from and until.
Span = tuple[float, float]


class Quantile(NamedTuple):
    """at_least_s: where it falls among requests that failed or were given up, which would have taken longer."""

    value: float | None
    reason: str = ""
    at_least_s: float | None = None


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


def latency_quantile(answered_s: Array, waited_s: Array, n: int, q: float) -> Quantile:
    """Seconds from the scheduled arrival (numpy's linear quantile) over all n requests of a run.

    answered_s: of those that were answered. waited_s: of those that were given up, right-censored: so long at least.
    The rest failed, which counts as longer than everything.
    """
    needed = MIN_REQUESTS[q]
    if n < needed:
        return Quantile(None, f"p{q * 100:g} needs {needed} requests a run, these have {n}")
    if n > len(answered_s):
        failed = np.full(n - len(answered_s), np.inf)
        if not np.isfinite(_quantile(np.concatenate((answered_s, failed)), q)):
            failed[: len(waited_s)] = waited_s
            bound = _quantile(np.concatenate((answered_s, failed)), q)
            longest = float(answered_s[-1]) if len(answered_s) else None
            at_least = bound if np.isfinite(bound) else longest
            return Quantile(None, f"p{q * 100:g} falls among failed requests", at_least_s=at_least)
        return Quantile(_quantile(np.concatenate((answered_s, failed)), q))
    return Quantile(_quantile(answered_s, q))


def _quantile(values: Array, q: float) -> float:
    with np.errstate(invalid="ignore"):
        value = float(np.quantile(values, q))
    return math.inf if math.isnan(value) else value


def window_ns(requests: pl.DataFrame, planned_end_ns: int) -> tuple[int, int]:
    """From the first scheduled arrival to the planned end: the same for every arm of a block, whatever it answered."""
    first, last = (int(each or 0) for each in (requests["scheduled_at_ns"].min(), requests["scheduled_at_ns"].max()))  # type: ignore[arg-type]
    return first, max(planned_end_ns, last, first + _SHORTEST_NS)


def spans_from_samples(replicas: pl.DataFrame, start_ns: int, end_ns: int) -> dict[str, list[Span]]:
    """Prometheus' samples of desired replicas, which miss draining ones: each holds until the next."""
    return _sampled(replicas, "desired", start_ns, end_ns)


def _sampled(replicas: pl.DataFrame, column: str, start_ns: int, end_ns: int) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    samples = replicas.filter(pl.col("ready").is_not_null()).sort("at_ns")
    for (function,), group in samples.group_by(["function"], maintain_order=True):
        edges = np.append(np.clip(group["at_ns"].to_numpy(), start_ns, end_ns), end_ns)
        # Before the first sample nothing is known: the value of the first one holds.
        edges[0] = start_ns
        seconds = ((edges - start_ns) / 1e9).tolist()
        found[str(function)] = [
            span for span, count in zip(pairwise(seconds), group[column].to_list(), strict=True) for _ in range(count)
        ]
    return found


def mean_ready(replicas: pl.DataFrame, start_ns: int, end_ns: int) -> float | None:
    """Ready replicas of all functions together, averaged over the window; None without samples."""
    by_function = _sampled(replicas, "ready", start_ns, end_ns)
    held_s = sum(until - since for spans in by_function.values() for since, until in spans)
    return held_s / ((end_ns - start_ns) / 1e9) if by_function and end_ns > start_ns else None


def spans_from_events(
    replicas: pl.DataFrame, initial: dict[str, int], start_ns: int, end_ns: int
) -> dict[str, list[Span]]:
    """A replica counts from its start until its process is gone, starting and draining included.

    initial: replicas that stood, verified, before the first row. One that ends in the window without having started in
    it is one of them; those that neither start nor end are there all the time.
    """
    events = replicas.filter(pl.col("replica_id") != "").sort("at_ns")
    started: dict[str, tuple[str, int]] = {}
    left = dict(initial)
    found: dict[str, list[Span]] = {function: [] for function in initial}

    def add(function: str, from_ns: int, until_ns: int) -> None:
        since, until = max(from_ns, start_ns), min(until_ns, end_ns)
        if until > since:
            found.setdefault(function, []).append(((since - start_ns) / 1e9, (until - start_ns) / 1e9))

    for function, replica, event, at_ns in events.select("function", "replica_id", "event", "at_ns").iter_rows():
        if event == "start":
            started[replica] = (function, at_ns)
        elif event in replica_events.ENDS:
            known = started.pop(replica, None)
            add(function, known[1] if known else start_ns, at_ns)
            if known is None:
                left[function] = left.get(function, 0) - 1
    for function, at_ns in started.values():
        add(function, at_ns, end_ns)
    for function, count in left.items():
        for _ in range(count):
            add(function, start_ns, end_ns)
    return found


def union_s(spans: Sequence[Span]) -> float:
    """Seconds that at least one of the spans covers."""
    total, until = 0.0, -math.inf
    for since, end in sorted(spans):
        total += max(0.0, end - max(since, until))
        until = max(until, end)
    return total


def mean_queue_s(stages: pl.DataFrame) -> float | None:
    """Mean wait of an invocation beyond its replica's readiness: saturation shows here when it hides cold starts."""
    return mean(stages["queue_s"])


def mean_start_s(replicas: pl.DataFrame) -> float | None:
    """From a replica's start to its being ready, by the platform's events."""
    began, ready = (
        replicas.filter(pl.col("event") == event).select("replica_id", "at_ns") for event in ("start", "ready")
    )
    spans = began.join(ready, on="replica_id", suffix="_ready")
    return mean((spans["at_ns_ready"] - spans["at_ns"]) / 1e9)


def mean(values: pl.Series) -> float | None:
    """Of what is known; the same to the last digit in any order, for rows of a group come in none. None of nothing."""
    known = values.drop_nulls().to_list()
    return math.fsum(known) / len(known) if known else None
