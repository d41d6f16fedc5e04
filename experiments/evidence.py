"""Labels for calls whose replica nobody stamped: from what was seen of all replicas of a function. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from fave.clock import NS_PER_S
from fave.wire import replica_events
from fave.wire.records import Evidence, ReplicaRow, StageRow, routable

# What is heard of pods comes after it was so; routers follow.
_POD_LAG_NS = NS_PER_S
# Longer than any network between gateway and replica: who is under way so long was held.
_HELD_NS = 200_000_000
# What a host adds to its pod's name.
_SUFFIX = re.compile(r"-[0-9a-f]{8}$")
_ANY = 2**31
# OpenFaaS' gateway tells of replicas what it asked its provider some seconds ago.
_STALE_NS = 5 * NS_PER_S


class Sight(NamedTuple):
    """Replicas of a function between two looks: at least and at most so many were ready, from `at_ns` on."""

    at_ns: int
    least: int
    most: int


def routed(rows: list[StageRow], pods_routable_at_ns: Mapping[str, int]) -> None:
    """Since when each replica could be sent to, where no gateway tells: what lies between a lower and an upper bound.

    Not before its process was ready, nor before its pod was; at the latest when its first call came to it. A call that
    was sent before and came to it waited for it: then it came as soon as it could, and the upper bound is the moment.
    Where nobody watched pods, a replica's very first call says so if it was held longer than any network takes.
    """
    by_replica: dict[str, list[StageRow]] = defaultdict(list)
    for row in rows:
        if row.replica_id and row.received_at_ns and row.ready_at_ns:
            by_replica[row.replica_id].append(row)
    for replica_id, mine in by_replica.items():
        first = min(mine, key=lambda row: row.received_at_ns)
        pod_ns = pods_routable_at_ns.get(_SUFFIX.sub("", replica_id))
        least_ns = max(first.ready_at_ns, pod_ns or 0)
        held = first.received_at_ns - first.sent_at_ns > _HELD_NS and first.invocations_before == 0
        waited = first.sent_at_ns < least_ns or (pod_ns is None and held)
        at_ns = max(first.ready_at_ns, first.received_at_ns) if first.sent_at_ns and waited else least_ns
        for row in mine:
            routable(row, at_ns, "routed")


def held(rows: list[StageRow]) -> None:
    """How long a gateway without a queue kept calls that met no new replica: one that it found, or that others woke.

    Only what is longer than any network takes; the wait of a cold call is its cold wait.
    """
    for row in rows:
        # Where the gateway does not stamp, the way to the replica is within the network's share.
        until_ns = row.forwarded_at_ns or row.received_at_ns
        kept_ns = until_ns - row.sent_at_ns
        if row.sent_at_ns and until_ns and not row.cold and kept_ns > _HELD_NS:
            row.held_s = kept_ns / NS_PER_S


def graded(
    rows: list[StageRow],
    seen: list[ReplicaRow],
    initial: Mapping[str, int],
    most: Mapping[str, int],
    stale_ns: int = _STALE_NS,
) -> None:
    """Label what is unlabelled and was answered, as far as what was seen carries it.

    A call met no ready replica: cold, and its wait lasts until one was seen ready. Replicas were ready, and the calls
    that were sent to them did not take all their places: warm, because no platform holds a call back then. All else
    stays undecided. Where neither gateway nor replica stamped the work, its time is the caller's. Pods that were
    watched are asked before counts, which lag.

    initial: ready replicas at the start, by function. most: calls that one replica takes at a time, by function.
    stale_ns: how old what a sample tells may be.
    """
    unlabelled = [row for row in rows if row.cold is None and row.status == "ok" and row.sent_at_ns]
    for function in {row.stage for row in unlabelled}:
        mine = [row for row in seen if row.function == function]
        counted = any(row.ready is not None for row in mine)
        asked = any(row.source == "kubernetes" for row in mine)
        pods = of_pods(mine, initial.get(function, 0)) if asked else []
        sights = of_counts(mine, stale_ns) if counted and not asked else pods
        calls = [row for row in rows if row.stage == function and row.sent_at_ns and row.returned_at_ns]
        about = _Around(
            sights,
            sorted(row.sent_at_ns for row in calls),
            sorted(row.returned_at_ns for row in calls),
            most.get(function, 1),
            "counts" if counted and not asked else "pods",
        )
        for row in unlabelled:
            if row.stage == function:
                _label(row, about)


class _Around(NamedTuple):
    """What surrounds the calls of one function: sights and calls in order of time, places of a replica."""

    sights: list[Sight]
    sent_ns: list[int]
    returned_ns: list[int]
    places: int
    source: Evidence


def of_counts(seen: list[ReplicaRow], stale_ns: int) -> list[Sight]:
    """From one sample to the next lies what they and those after them show, until none can be older than the next.

    What came and went between two samples nobody saw.
    """
    samples = [(row.at_ns, row.ready) for row in seen if row.ready is not None]
    found = []
    for index, (at_ns, count) in enumerate(samples):
        known_ns = samples[index + 1][0] + stale_ns if index + 1 < len(samples) else 0
        last = bisect_left(samples, known_ns, key=lambda sample: sample[0]) if known_ns else len(samples)
        if last < len(samples):
            around = [count, *(ready for _, ready in samples[index + 1 : last + 1])]
            found.append(Sight(at_ns, min(around), max(around)))
        else:
            found.append(Sight(at_ns, 0, _ANY))  # nobody looked any more
    return found


def of_pods(seen: list[ReplicaRow], initial: int) -> list[Sight]:
    """A pod was ready, or no more, within the second before that was heard; it may be sent to for a second after."""
    pods = [row for row in sorted(seen, key=lambda row: row.at_ns) if row.source == "kubernetes"]
    started = {row.replica_id for row in pods if row.event == replica_events.START}
    steps: list[tuple[int, int, int]] = [(0, initial, initial)]
    ready: set[str] = set()
    for row in pods:
        if row.event == replica_events.READY:
            ready.add(row.replica_id)
            steps += [(row.at_ns - _POD_LAG_NS, 0, 1), (row.at_ns, 1, 0)]
        elif row.event in replica_events.ENDS and (row.replica_id in ready or row.replica_id not in started):
            # One that was not seen to start was there before: one of `initial`.
            steps += [(row.at_ns - _POD_LAG_NS, -1, 0), (row.at_ns + _POD_LAG_NS, 0, -1)]
    found: list[Sight] = []
    least = most = 0
    for at_ns, low, high in sorted(steps):
        least, most = least + low, most + high
        found.append(Sight(at_ns, max(0, least), max(0, most)))
    return found


def _label(row: StageRow, around: _Around) -> None:
    sent_ns, sights = row.sent_at_ns, around.sights
    index = bisect_right(sights, sent_ns, key=lambda sight: sight.at_ns)
    now = sights[index - 1] if index else None
    # Itself is one of those that were sent by then.
    others = bisect_right(around.sent_ns, sent_ns) - bisect_right(around.returned_ns, sent_ns) - 1
    if now is None:
        row.evidence = "undecided"
    elif now.most == 0:
        first_ns = next((each.at_ns for each in sights[index:] if each.most > 0), row.returned_at_ns)
        # Whatever a coarse stamp says, it was after the call came and before its answer went.
        routable(row, min(max(first_ns, sent_ns + 1), row.returned_at_ns), around.source)
    elif others < now.least * around.places:
        # Since when does not matter to this call.
        routable(row, sent_ns, around.source)
    else:
        row.evidence = "undecided"
    if row.service_s is None:
        # The gateway's stamp comes after its wait for a replica; without it an undecided call's time holds the wait.
        began_ns = max(sent_ns, row.routable_at_ns, row.forwarded_at_ns)
        row.service_s = max(0, row.returned_at_ns - began_ns) / NS_PER_S
        row.cost_gb_s = row.service_s * row.memory_limit_mb / 1024
