"""One function simulated event by event: what its cold starts and held replicas would be under other settings.

The embedded platform's rules: one shared queue, most-recently-used routing, a start for every waiting request beyond
the free capacity of ready and starting replicas, the minimum kept, the rest stopped after an idle time-out.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.load import Run
from analysis.measures import mean
from fave.settings import Duration
from fave.workload import PIPELINE

# More say no more about a share, and the simulation is plain Python.
_MOST_ARRIVALS = 5_000
# What counts as served at once: a warm replica that was free.
NO_QUEUE_S = 0.005


class Function(NamedTuple):
    """Times in seconds; concurrency: requests that a replica serves at the same time.

    spread: of the logarithm of each service and cold-start time, whose means stay; needs a random source.
    """

    service_s: float
    cold_start_s: float
    idle_timeout_s: float
    min_replicas: int
    max_replicas: int
    concurrency: int = 1
    spread: float = 0.0


class Simulated(NamedTuple):
    """Per arrival: when its service began and ended, whether it triggered a start, whether it was cold.

    held_s: seconds of all replicas together, from the first arrival to the last completion.
    """

    start_s: list[float]
    done_s: list[float]
    triggered: list[bool]
    affected: list[bool]
    held_s: float

    @property
    def cold_share(self) -> float:
        return sum(self.affected) / len(self.affected)


class Predicted(NamedTuple):
    """A run as the simulator has it, with the times that were measured in it.

    arrivals_s: since the first; at most the first 5,000.
    """

    arrivals_s: tuple[float, ...]
    function: Function
    initial: int
    cold_share: float
    held_s: float


class _Replica:
    def __init__(self, began_s: float, ready_s: float) -> None:
        self.began_s = began_s
        self.ready_s = ready_s
        self.busy = 0
        self.used_s = ready_s
        self.ended_s: float | None = None


# In this order where they happen at the same moment: what frees capacity comes before what asks for it.
_READY, _DONE, _ARRIVAL, _IDLE = range(4)


def simulate(
    arrivals_s: Sequence[float], function: Function, initial: int | None = None, rng: random.Random | None = None
) -> Simulated:
    """arrivals_s: ascending, at least one. initial: replicas ready before the first; without it the minimum."""
    return _Simulation(arrivals_s, function, function.min_replicas if initial is None else initial, rng).run()


class _Simulation:
    def __init__(
        self, arrivals_s: Sequence[float], function: Function, initial: int, rng: random.Random | None
    ) -> None:
        self._of = function
        self._rng = rng
        self._arrivals_s = arrivals_s
        self._start_s = [0.0] * len(arrivals_s)
        self._done_s = [0.0] * len(arrivals_s)
        self._triggered = [False] * len(arrivals_s)
        self._affected = [False] * len(arrivals_s)
        self._waiting: deque[int] = deque()
        self._replicas = [_Replica(arrivals_s[0], arrivals_s[0]) for _ in range(initial)]
        self._all = list(self._replicas)
        self._events: list[tuple[float, int, int, int, _Replica | None]] = []
        self._serial = 0
        self._end_s = arrivals_s[0]

    def run(self) -> Simulated:
        for i, at_s in enumerate(self._arrivals_s):
            self._push(at_s, _ARRIVAL, i, None)
        for first in self._replicas:
            self._push(first.used_s + self._of.idle_timeout_s, _IDLE, 0, first)
        while self._events:
            now_s, kind, _, i, replica = heapq.heappop(self._events)
            if kind == _ARRIVAL:
                self._waiting.append(i)
                self._triggered[i] = self._wants_start(now_s)
                if self._triggered[i]:
                    self._begin(now_s)
            elif kind == _DONE and replica:
                replica.busy -= 1
                replica.used_s = self._end_s = now_s
                self._push(now_s + self._of.idle_timeout_s, _IDLE, 0, replica)
            elif kind == _IDLE and replica:
                self._maybe_stop(now_s, replica)
            if kind != _IDLE:
                self._serve(now_s)
        first_s = self._arrivals_s[0]
        held_s = sum(
            max(
                0.0,
                min(self._end_s if each.ended_s is None else each.ended_s, self._end_s) - max(each.began_s, first_s),
            )
            for each in self._all
        )
        return Simulated(self._start_s, self._done_s, self._triggered, self._affected, held_s)

    def _spread(self, seconds: float) -> float:
        sigma = self._of.spread
        return seconds * self._rng.lognormvariate(-(sigma**2) / 2, sigma) if self._rng and sigma else seconds

    def _push(self, at_s: float, kind: int, i: int, replica: _Replica | None) -> None:
        self._serial += 1
        heapq.heappush(self._events, (at_s, kind, self._serial, i, replica))

    def _wants_start(self, now_s: float) -> bool:
        free = sum(self._of.concurrency - each.busy for each in self._replicas)
        return len(self._waiting) > free and len(self._replicas) < self._of.max_replicas

    def _begin(self, now_s: float) -> None:
        replica = _Replica(now_s, now_s + self._spread(self._of.cold_start_s))
        self._replicas.append(replica)
        self._all.append(replica)
        self._push(replica.ready_s, _READY, 0, replica)
        self._push(replica.ready_s + self._of.idle_timeout_s, _IDLE, 0, replica)

    def _serve(self, now_s: float) -> None:
        while self._waiting:
            free = [r for r in self._replicas if r.ready_s <= now_s and r.busy < self._of.concurrency]
            if not free:
                return
            latest = max(free, key=lambda r: r.used_s)
            i = self._waiting.popleft()
            latest.busy += 1
            self._start_s[i] = now_s
            self._affected[i] = latest.ready_s > self._arrivals_s[i]
            self._done_s[i] = now_s + self._spread(self._of.service_s)
            self._push(self._done_s[i], _DONE, i, latest)

    def _maybe_stop(self, now_s: float, replica: _Replica) -> None:
        idle = replica.busy == 0 and now_s - replica.used_s >= self._of.idle_timeout_s - 1e-9
        if idle and replica.ended_s is None and len(self._replicas) > self._of.min_replicas:
            replica.ended_s = now_s
            self._replicas.remove(replica)


def predicted(run: Run, requests: pl.DataFrame, stages: pl.DataFrame) -> Predicted | None:
    """The run again, from its arrivals as they were sent; None for the pipeline, and where no warm answer tells S.

    S is the mean time from send to reply of warm requests that did not wait, C the mean length of the starts; a run
    without a cold start takes C as 0, which changes nothing where none is due.
    """
    sent = requests.filter(pl.col("sent_at_ns") > 0)["sent_at_ns"].sort().to_numpy()[:_MOST_ARRIVALS]
    if run.target == PIPELINE or not len(sent):
        return None
    warm = stages.filter(~pl.col("cold") & (pl.col("queue_s") < NO_QUEUE_S) & (pl.col("returned_at_ns") > 0))
    starts = stages.filter(pl.col("cold")).group_by("replica_id").agg(pl.col("cold_wait_s").max())
    if not warm.height:
        return None
    settings = run.settings[run.target]
    function = Function(
        service_s=mean((warm["returned_at_ns"] - warm["sent_at_ns"]) / 1e9) or 0.0,
        cold_start_s=mean(starts["cold_wait_s"]) or 0.0,
        idle_timeout_s=float(Duration.parse(settings["idle_timeout"])),
        min_replicas=settings["min_replicas"],
        max_replicas=settings["max_replicas"],
        concurrency=settings["max_in_flight"],
    )
    arrivals_s = tuple(((sent - sent[0]) / 1e9).tolist())
    initial = run.initial_ready.get(run.target, function.min_replicas)
    found = simulate(arrivals_s, function, initial)
    return Predicted(arrivals_s, function, initial, found.cold_share, found.held_s)


def again(one: Predicted, idle_timeout_s: float) -> Simulated:
    """The same arrivals and times with another idle time-out, from the same initial state."""
    return simulate(one.arrivals_s, one.function._replace(idle_timeout_s=idle_timeout_s), one.initial)


def mean_gap_s(ones: Sequence[Predicted]) -> float:
    return float(np.mean([one.arrivals_s[-1] / max(1, len(one.arrivals_s) - 1) for one in ones]))
