"""The simulator's inner loop, compiled: a million arrivals a second and more. Imported when `simulate` needs it."""

from __future__ import annotations

import contextlib
import hashlib
import math
from pathlib import Path

import numba
import numpy as np

from fave import scaling
from fave.programs import cache_dir


def _remembers() -> bool:
    """Let numba keep what it compiled, four seconds' work; False where nothing can be written.

    Its cache knows only the file of a function, not those of the functions that are compiled into it: a decision that
    changed would not be noticed. So each state of both files has a folder of its own.
    """
    states = (Path(file).read_bytes() for file in (__file__, scaling.__file__))
    folder = cache_dir() / "numba" / hashlib.sha256(b"".join(states)).hexdigest()[:16]
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "state").touch()
        numba.config.CACHE_DIR = str(folder)
        return True
    return False


_compiled = numba.njit(nogil=True, cache=_remembers())
_replicas_to_start = _compiled(scaling.replicas_to_start)
_may_stop = _compiled(scaling.may_stop)

# Timers and stamps are added up in another order than they are compared.
_ROUNDING_S = 1e-9
_GONE, _STARTING, _READY = 0, 1, 2
# What happens at the same moment happens in this order: what frees capacity comes before what asks for it.
_BECOMES_READY, _DONE, _ARRIVAL, _IDLE, _NOTHING = range(5)


@_compiled
def run(  # type: ignore[no-untyped-def]  # noqa: C901, PLR0913, PLR0915 - one loop, compiled as one
    arrivals_s,
    service_s,
    start_s,
    first_use_s,
    idle_timeout_s,
    min_replicas,
    max_replicas,
    concurrency,
    longest_idle_first,
    initial,
    until_s,
):
    """(began, done, triggered, affected) per arrival, and the replica-seconds from the first arrival to `until_s`.

    service_s: [n], of each arrival. start_s: of each start in turn, used over and over. first_use_s: added to the
    service of a replica's first request. until_s: NaN for the last completion.
    """
    n = len(arrivals_s)
    slots = max(max_replicas, initial)
    first_s = arrivals_s[0]
    began, done = np.zeros(n), np.zeros(n)
    triggered, affected = np.zeros(n, np.bool_), np.zeros(n, np.bool_)

    state = np.zeros(slots, np.int64)
    born, ready, used = np.zeros(slots), np.zeros(slots), np.zeros(slots)
    due = np.full(slots, math.inf)
    due_order, age = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
    busy = np.zeros(slots, np.int64)
    fresh = np.ones(slots, np.bool_)
    work_s = np.full(slots * concurrency, math.inf)
    work_of, work_order = np.zeros(slots * concurrency, np.int64), np.zeros(slots * concurrency, np.int64)

    order = starts = coming = head = served = 0
    provisioned_s, last_s, end_s = 0.0, first_s, math.inf if math.isnan(until_s) else until_s
    for i in range(initial):
        state[i], born[i], ready[i], used[i] = _READY, first_s, first_s, first_s
        due[i] = first_s + idle_timeout_s
        due_order[i] = age[i] = order
        order += 1

    while True:
        # What happens next.
        kind, now_s, which, rank = _NOTHING, math.inf, -1, 0
        if coming < n:
            kind, now_s = _ARRIVAL, arrivals_s[coming]
        for i in range(slots * concurrency):
            earlier = work_s[i] < now_s or (work_s[i] == now_s and work_s[i] < math.inf)
            if earlier and (kind != _DONE or work_s[i] < now_s or work_order[i] < rank):
                kind, now_s, which, rank = _DONE, work_s[i], i, work_order[i]
        for i in range(slots):
            if state[i] == _STARTING and (
                ready[i] < now_s or (ready[i] == now_s and (kind != _BECOMES_READY or age[i] < rank))
            ):
                kind, now_s, which, rank = _BECOMES_READY, ready[i], i, age[i]
        for i in range(slots):
            if state[i] != _GONE and (due[i] < now_s or (due[i] == now_s and kind == _IDLE and due_order[i] < rank)):
                kind, now_s, which, rank = _IDLE, due[i], i, due_order[i]
        if kind == _NOTHING or (served == n and kind != _DONE and (math.isnan(until_s) or now_s > until_s)):
            break

        alive = 0
        for i in range(slots):
            alive += state[i] != _GONE
        if kind == _IDLE:
            due[which] = math.inf
            idle_s = now_s - used[which] + _ROUNDING_S
            if busy[which] == 0 and _may_stop(idle_s, idle_timeout_s, alive, min_replicas):
                state[which] = _GONE
                provisioned_s += max(0.0, min(now_s, end_s) - born[which])
            continue
        if kind == _ARRIVAL:
            coming += 1
            free = starting = 0
            for i in range(slots):
                if state[i] == _READY:
                    free += concurrency - busy[i]
                starting += state[i] == _STARTING
            count = _replicas_to_start(
                coming - head, free, alive - starting, starting, concurrency, min_replicas, max_replicas, 0
            )  # fmt: skip
            triggered[coming - 1] = count > 0
            for i in range(slots):
                if count > 0 and state[i] == _GONE:
                    state[i], born[i], busy[i], fresh[i] = _STARTING, now_s, 0, True
                    ready[i] = used[i] = now_s + start_s[starts % len(start_s)]
                    due[i] = ready[i] + idle_timeout_s
                    due_order[i] = age[i] = order
                    order += 1
                    starts += 1
                    count -= 1
        elif kind == _BECOMES_READY:
            state[which] = _READY
        else:
            replica = work_of[which]
            work_s[which] = math.inf
            busy[replica] -= 1
            served += 1
            used[replica] = last_s = now_s
            due[replica], due_order[replica] = now_s + idle_timeout_s, order
            order += 1

        # Of the free replicas the one that was used last takes the head of the queue (or the one that was not).
        while head < coming:
            best = -1
            for i in range(slots):
                if state[i] != _READY or busy[i] >= concurrency:
                    continue
                sooner = best < 0 or (used[i] < used[best] if longest_idle_first else used[i] > used[best])
                if sooner or (used[i] == used[best] and age[i] < age[best]):
                    best = i
            if best < 0:
                break
            began[head], affected[head] = now_s, ready[best] > arrivals_s[head]
            done[head] = now_s + service_s[head] + (first_use_s if fresh[best] else 0.0)
            fresh[best] = False
            busy[best] += 1
            for i in range(slots * concurrency):
                if work_s[i] == math.inf:
                    work_s[i], work_of[i], work_order[i] = done[head], best, order
                    order += 1
                    break
            head += 1

    for i in range(slots):
        if state[i] != _GONE:
            provisioned_s += max(0.0, min(end_s, last_s if math.isnan(until_s) else end_s) - born[i])
    return began, done, triggered, affected, provisioned_s
