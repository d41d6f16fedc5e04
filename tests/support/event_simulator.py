"""The simulator as it was first written, event by event in plain Python: what the compiled one must equal exactly.

The embedded platform's rules: one shared queue, most-recently-used routing, a start for every waiting request beyond
the free capacity of ready and starting replicas, from zero at least the minimum, which is kept, the rest stopped after
an idle timeout.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple


class Function(NamedTuple):
    """Times in seconds; concurrency: requests that a replica serves at the same time.

    takes_turns: another routing than the platform's, the replica that has been idle longest.
    """

    service_s: float
    cold_start_s: float
    idle_timeout_s: float
    min_replicas: int
    max_replicas: int
    concurrency: int = 1
    takes_turns: bool = False


class Simulated(NamedTuple):
    """Per arrival: when its service began and ended, whether it triggered a start, whether it was cold.

    held_s: seconds of all replicas together, from the first arrival to the last completion.
    """

    start_s: list[float]
    done_s: list[float]
    triggered: list[bool]
    affected: list[bool]
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


def simulate(arrivals_s: Sequence[float], function: Function, initial: int | None = None) -> Simulated:
    """arrivals_s: ascending, at least one. initial: replicas ready before the first; without it the minimum."""
    return _Simulation(arrivals_s, function, function.min_replicas if initial is None else initial).run()


class _Simulation:
    def __init__(self, arrivals_s: Sequence[float], function: Function, initial: int) -> None:
        self._of = function
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
                    # From zero its minimum comes back.
                    for _ in range(1 if self._replicas else max(1, self._of.min_replicas)):
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

    def _push(self, at_s: float, kind: int, i: int, replica: _Replica | None) -> None:
        self._serial += 1
        heapq.heappush(self._events, (at_s, kind, self._serial, i, replica))

    def _wants_start(self, now_s: float) -> bool:
        free = sum(self._of.concurrency - each.busy for each in self._replicas)
        return len(self._waiting) > free and len(self._replicas) < self._of.max_replicas

    def _begin(self, now_s: float) -> None:
        replica = _Replica(now_s, now_s + self._of.cold_start_s)
        self._replicas.append(replica)
        self._all.append(replica)
        self._push(replica.ready_s, _READY, 0, replica)
        self._push(replica.ready_s + self._of.idle_timeout_s, _IDLE, 0, replica)

    def _serve(self, now_s: float) -> None:
        while self._waiting:
            free = [r for r in self._replicas if r.ready_s <= now_s and r.busy < self._of.concurrency]
            if not free:
                return
            latest = (min if self._of.takes_turns else max)(free, key=lambda r: r.used_s)
            i = self._waiting.popleft()
            latest.busy += 1
            self._start_s[i] = now_s
            self._affected[i] = latest.ready_s > self._arrivals_s[i]
            self._done_s[i] = now_s + self._of.service_s
            self._push(self._done_s[i], _DONE, i, latest)

    def _maybe_stop(self, now_s: float, replica: _Replica) -> None:
        idle = replica.busy == 0 and now_s - replica.used_s >= self._of.idle_timeout_s - 1e-9
        if idle and replica.ended_s is None and len(self._replicas) > self._of.min_replicas:
            replica.ended_s = now_s
            self._replicas.remove(replica)
