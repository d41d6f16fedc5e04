"""One function simulated: what its cold starts and provisioned replicas would be under other settings.

The embedded platform's rules: one shared queue, most-recently-used routing, a start for every waiting request beyond
the free capacity of ready and starting replicas, the minimum kept, the rest stopped after an idle timeout. The
decisions are the gateway's own functions (`fave/scaling.py`), compiled.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from analysis.rows.folder import Run
from analysis.rows.measures import mean, window_ns

# What counts as served at once: a warm replica that was free.
NO_QUEUE_S = 0.005
Array = np.ndarray[Any, np.dtype[np.float64]]


class Function(NamedTuple):
    """How a function scales. concurrency: requests that a replica serves at the same time.

    longest_idle_first: another routing than the platform's, which takes the replica that was used last.
    """

    idle_timeout_s: float
    min_replicas: int
    max_replicas: int
    concurrency: int = 1
    longest_idle_first: bool = False


class Times(NamedTuple):
    """Seconds. service_s: of each arrival, or of all. start_s: of each start in turn, used over and over.

    first_use_s: what the first request of a replica takes longer.
    """

    service_s: Array
    start_s: Array
    first_use_s: float = 0.0

    @classmethod
    def same(cls, service_s: float, start_s: float) -> Times:
        return cls(np.array([service_s]), np.array([start_s]))


class Measured(NamedTuple):
    """Times as they were observed, in any number. draw: the same for the same seed, on every machine."""

    service_s: tuple[float, ...]
    start_s: tuple[float, ...]
    first_use_s: float

    def draw(self, arrivals: int, seed: int | str) -> Times:
        chance = random.Random(seed)
        service_s = chance.choices(sorted(self.service_s), k=arrivals)
        start_s = chance.choices(sorted(self.start_s) or [0.0], k=arrivals + 1)
        return Times(np.array(service_s), np.array(start_s), self.first_use_s)

    @classmethod
    def of_all(cls, runs: Sequence[Measured]) -> Measured:
        """Together; a first use weighs as much as its run has starts."""
        starts = [max(1, len(run.start_s)) for run in runs]
        first_use_s = sum(n * run.first_use_s for n, run in zip(starts, runs, strict=True)) / max(1, sum(starts))
        return cls(
            tuple(s for run in runs for s in run.service_s), tuple(s for run in runs for s in run.start_s), first_use_s
        )


class Pool:
    """Times to draw from, thousands of times: quicker than `Measured.draw`, and the same wherever numpy is the same."""

    def __init__(self, measured: Measured, seed: int) -> None:
        self._service_s = np.array(measured.service_s)
        self._start_s = np.array(measured.start_s or (0.0,))
        self._first_use_s = measured.first_use_s
        self._chance = np.random.default_rng(seed)

    def draw(self, arrivals: int) -> Times:
        service_s, start_s = (
            of[self._chance.integers(0, len(of), n)]
            for of, n in ((self._service_s, arrivals), (self._start_s, arrivals + 1))
        )
        return Times(service_s, start_s, self._first_use_s)


class Simulated(NamedTuple):
    """[n] per arrival: when its service began and ended, whether it triggered a start, whether it was cold.

    latency_s: from arrival to reply. provisioned_s: seconds of all replicas together, from the first arrival on.
    """

    start_s: Array
    done_s: Array
    triggered: np.ndarray[Any, np.dtype[np.bool_]]
    affected: np.ndarray[Any, np.dtype[np.bool_]]
    provisioned_s: float
    latency_s: Array

    @property
    def cold_rate(self) -> float:
        return float(self.affected.mean())


def simulate(
    arrivals_s: Sequence[float] | Array,
    function: Function,
    times: Times,
    initial: int | None = None,
    until_s: float | None = None,
) -> Simulated:
    """arrivals_s: ascending, at least one. initial: replicas ready before the first; without it the minimum.

    until_s: until when replicas are counted; without it until the last completion.
    """
    from analysis.statistics import (
        engine,  # compiling takes four seconds, which who does not simulate need not wait for
    )

    arrivals = np.ascontiguousarray(arrivals_s, np.float64)
    found = engine.run(
        arrivals,
        np.resize(times.service_s, len(arrivals)),
        times.start_s,
        times.first_use_s,
        float(function.idle_timeout_s),
        function.min_replicas,
        function.max_replicas,
        function.concurrency,
        function.longest_idle_first,
        function.min_replicas if initial is None else initial,
        math.nan if until_s is None else until_s,
    )
    began, done, triggered, affected, provisioned_s = found
    return Simulated(began, done, triggered, affected, provisioned_s, done - arrivals)


class Predicted(NamedTuple):
    """A run as the simulator has it, on its own arrivals (seconds since the first) and with its own times.

    seen: what those were drawn from. until_s: the planned end. limit_s: of latency, where the load has one.
    """

    seen: Measured
    arrivals_s: Array
    function: Function
    times: Times
    initial: int
    until_s: float
    limit_s: float | None
    found: Simulated

    @property
    def rate_per_s(self) -> float:
        return len(self.arrivals_s) / self.until_s

    def again(self, function: Function) -> Simulated:
        """With other settings, from the replicas that their minimum asks for."""
        return simulate(self.arrivals_s, function, self.times, self._initial(function), self.until_s)

    def held(self, found: Simulated) -> float:
        """Replicas held on average, of a simulation of its own arrivals."""
        return found.provisioned_s / self.until_s

    def held_at(self, rate_per_s: float, function: Function) -> float:
        """Replicas held on average at another rate: the arrivals in less time, repeated for as long as they took."""
        faster = rate_per_s / self.rate_per_s
        times = max(1, round(faster))
        arrivals_s = np.concatenate([self.arrivals_s + k * self.until_s for k in range(times)]) / faster
        until_s = times * self.until_s / faster
        return simulate(arrivals_s, function, self.times, self._initial(function), until_s).provisioned_s / until_s

    def _initial(self, function: Function) -> int:
        return function.min_replicas if self.initial == self.function.min_replicas else self.initial

    def slow_rate(self, found: Simulated) -> float | None:
        return None if self.limit_s is None else float((found.latency_s > self.limit_s).mean())


def predicted(
    run: Run, requests: pl.DataFrame, stages: pl.DataFrame, replicas: pl.DataFrame, limit_s: float | None
) -> Predicted | None:
    """The run again, from its arrivals as they were sent; None for several functions, where the regime changed, and
    where no answer tells S.
    """
    sent = requests.filter(pl.col("sent_at_ns") > 0)["sent_at_ns"].sort().to_numpy()
    seen = measured(stages, replicas)
    if not run.function or run.switches or not len(sent) or not seen.service_s:
        return None
    policy = run.settings[run.function]
    function = Function(
        idle_timeout_s=float(policy.idle_timeout),
        min_replicas=policy.min_replicas,
        max_replicas=policy.max_replicas,
        concurrency=policy.max_in_flight,
    )
    arrivals_s = (sent - sent[0]) / 1e9
    times = seen.draw(len(arrivals_s), run.folder)
    initial = run.initial_ready.get(run.function, function.min_replicas)
    _, end_ns = window_ns(requests, run.planned_end_ns)
    until_s = (end_ns - int(sent[0])) / 1e9
    found = simulate(arrivals_s, function, times, initial, until_s)
    return Predicted(seen, arrivals_s, function, times, initial, until_s, limit_s, found)


def measured(stages: pl.DataFrame, replicas: pl.DataFrame) -> Measured:
    """S: from send to reply of warm requests that did not wait. C: from start to ready, by the platform's events.

    A request that waits for a replica waits for less than its start, so where the platform has no events the longest
    wait for each replica stands for C, and is too short. A replica's first use is compared by the work alone, and where
    every request waited its work stands for S: without the way there and back.
    """
    took_s = ((pl.col("returned_at_ns") - pl.col("sent_at_ns")) / 1e9).alias("took_s")
    warm = stages.filter(~pl.col("cold") & (pl.col("queue_s") < NO_QUEUE_S) & (pl.col("returned_at_ns") > 0))
    first, later = (
        mean(stages.filter(uses)["service_s"])
        for uses in (pl.col("invocations_before") == 0, pl.col("invocations_before") > 0)
    )
    used = warm.filter(pl.col("invocations_before") != 0)
    alone = (used if used.height else warm).select(took_s)["took_s"]
    works = stages.filter(pl.col("invocations_before") > 0)["service_s"].drop_nulls()
    return Measured(
        service_s=tuple((alone if len(alone) else works).to_list()),
        start_s=starts_s(replicas) or tuple(_longest_waits_s(stages)),
        first_use_s=max(0.0, first - later) if first is not None and later is not None else 0.0,
    )


def starts_s(replicas: pl.DataFrame) -> tuple[float, ...]:
    """How long each start took, by the platform's events, in their order; empty where it has none."""
    events = replicas.select("replica_id", "event", "at_ns")
    began, ready = (events.filter(pl.col("event") == name) for name in ("start", "ready"))
    both = began.join(ready, on="replica_id", suffix="_ready").sort("at_ns")
    return tuple(((both["at_ns_ready"] - both["at_ns"]) / 1e9).to_list())


def _longest_waits_s(stages: pl.DataFrame) -> list[float]:
    waits = stages.filter(pl.col("cold")).group_by("replica_id").agg(pl.col("cold_wait_s").max())
    return waits["cold_wait_s"].drop_nulls().sort().to_list()


def mean_gap_s(ones: Sequence[Predicted]) -> float:
    return sum(one.until_s for one in ones) / sum(len(one.arrivals_s) for one in ones)
