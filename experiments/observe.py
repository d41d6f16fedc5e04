"""What a cell showed, in the form in which `fave.campaign.validity` judges it. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from experiments.collect import Rows
from experiments.enforced import worst_breach
from fave.campaign.experiment import Policy
from fave.campaign.record import Change, Generated
from fave.campaign.validity import Observed, measure
from fave.clock import NS_PER_S
from fave.strain import CpuUse
from fave.wire.records import ReplicaRow, StageRow
from platforms.model import Seen

# Between when a switch is planned and asked for.
_LATEST_S = 0.5


class Conditions(NamedTuple):
    """Under which a cell ran.

    initial_ready: what was verified for each function at `verified_at_ns`, when the rows begin. unchanged: the
    configuration. cpu: of this machine. switches: of the regime, during the run; missed: that were planned, and never
    asked for; switched_to: the policies of each of its regimes.
    """

    initial_ready: Mapping[str, int]
    verified_at_ns: int
    unchanged: bool
    drained: bool
    cpu: CpuUse
    gateway_late_share: float | None
    policies: Mapping[str, Policy]
    switches: Sequence[Change] = ()
    missed: int = 0
    switched_to: Mapping[str, Mapping[str, Policy]] = {}


def observe(
    rows: Rows,
    seen: Seen,
    generator: Generated,
    conditions: Conditions,
) -> Observed:
    initial_ready, verified_at_ns, unchanged, drained, cpu, late_share, *_ = conditions
    replicas, routable_at_ns, strain = seen.rows, seen.routable_at_ns, seen.strain
    sent = [row for row in rows.requests if row.sent_at_ns]
    latencies = [row.latency_s for row in rows.requests if row.latency_s is not None and row.status == "ok"]
    served = [row for row in rows.stages if not refused(row)]
    offset_s = clock_offset_s(rows.stages)
    last_ns = max((row.done_at_ns or row.scheduled_at_ns for row in rows.requests), default=verified_at_ns)
    first_ns = min((row.scheduled_at_ns for row in rows.requests), default=verified_at_ns)
    asked_ns = [each.requested_at_ns for each in conditions.switches]
    breaches = [
        worst_breach(policies, rows.stages, replicas, since_ns, until_ns)
        for policies, since_ns, until_ns in in_force(conditions, seen.until_ns)
    ]
    breach = max((each for each in breaches if each), default=None)
    return Observed(
        fidelity=measure(
            [(row.scheduled_at_ns // 1000, row.sent_at_ns // 1000) for row in sent],
            scheduled=generator.scheduled or 0,
            dropped=sum(row.dropped for row in rows.requests),
            cpu_share=generator.cpu_share,
        ),
        median_latency_s=statistics.median(latencies) if latencies else None,
        cold_missing=sum(row.cold is None and row.evidence != "undecided" for row in served),
        served=len(served),
        replica_gap_s=max(seen.missed_s, longest_gap_s(replicas, tuple(initial_ready), verified_at_ns, last_ns)),
        initial_state_ok=initial_state_holds(replicas, initial_ready, min([first_ns, *asked_ns[:1]])),
        configuration_unchanged=unchanged,
        drained=drained,
        labelled=sum(row.cold is not None for row in rows.stages),
        label_mismatches=label_mismatches(rows.stages, routable_at_ns, offset_s or 0.0) if routable_at_ns else None,
        replica_age_p99_s=age_quantile_s([row.age_s for row in replicas if row.ready is not None], 0.99),
        clock_offset_s=offset_s,
        memory_pressure_share=strain.memory_pressure_share if strain else None,
        evictions=strain.evictions if strain else None,
        foreign_cpu_share=cpu.foreign_share,
        cpu_steal_share=cpu.steal_share,
        cpu_pressure_share=cpu.pressure_share,
        gateway_late_share=late_share,
        policy_lag_s=breach.over_s if breach else None,
        policy_breach=breach.said if breach and breach.over_s else "",
        switching=_switching(conditions),
    )


def in_force(conditions: Conditions, until_ns: int) -> list[tuple[Mapping[str, Policy], int, int]]:
    """Which policies stood from when to when; not the time from asking for a regime to its being there."""
    found, policies, since_ns = [], conditions.policies, conditions.verified_at_ns
    for change in conditions.switches:
        found.append((policies, since_ns, change.requested_at_ns))
        policies, since_ns = conditions.switched_to[change.regime], change.effective_at_ns or change.requested_at_ns
    return [*found, (policies, since_ns, until_ns)]


def _switching(conditions: Conditions) -> str:
    """Why the regime was not what the arm says; empty where it was."""
    for change in conditions.switches:
        late_s = (change.requested_at_ns - change.planned_at_ns) / NS_PER_S
        if change.error:
            return f"regime {change.regime}: {change.error}"
        if late_s > _LATEST_S:
            return f"regime {change.regime} was asked for {late_s:.1f} s late: the switch before it took that long"
    return f"{conditions.missed} switches were never asked for" if conditions.missed else ""


def age_quantile_s(gaps_s: list[float], q: float) -> float | None:
    """The age that the newest sample does not exceed for a share q of the time. gaps_s: from sample to sample.

    Within a gap g the age grows evenly from 0 to g: the share of time with an age over x is
    sum(max(0, g - x)) / sum(g).
    """
    whole_s = math.fsum(gaps_s)
    if whole_s <= 0:
        return None
    # From the largest gap down, the share over x falls in straight lines: the first that reaches 1 - q holds it.
    over_s = (1 - q) * whole_s
    longest = sorted(gaps_s, reverse=True)
    total_s = 0.0
    for count, gap_s in enumerate(longest, start=1):
        total_s += gap_s
        age_s = (total_s - over_s) / count
        if count == len(longest) or age_s >= longest[count]:
            return max(0.0, age_s)
    return None


def clock_offset_s(rows: list[StageRow]) -> float | None:
    """The least by which the clock of some replica must differ from its caller's for the stamps to be possible.

    Nothing arrives before it was sent: received - sent is at least the offset, in every row. finished - returned is at
    most the offset where the reply was heard; a caller that gave up returned before, so there only rows that are ok
    count, and of these the median. The two bounds crossing means that a clock was set during the run.
    """
    high: dict[str, int] = {}
    lows: dict[str, list[int]] = {}
    for row in rows:
        if row.replica_id and row.sent_at_ns and row.received_at_ns:
            ahead = row.received_at_ns - row.sent_at_ns
            high[row.replica_id] = min(ahead, high.get(row.replica_id, ahead))
            if row.status == "ok" and row.finished_at_ns and row.returned_at_ns:
                lows.setdefault(row.replica_id, []).append(row.finished_at_ns - row.returned_at_ns)
    low = {replica: statistics.median(values) for replica, values in lows.items()}
    offsets_ns = [max(low.get(r, -top), -top, low.get(r, top) - top, 0) for r, top in high.items()]
    return max(offsets_ns) / 1e9 if offsets_ns else None


def refused(row: StageRow) -> bool:
    """Whether the platform answered without a replica (queue full, function cannot start): a failure, no lost label."""
    return row.status == "failed" and not row.replica_id and row.cold is None


def initial_state_holds(replicas: list[ReplicaRow], initial_ready: Mapping[str, int], first_ns: int) -> bool:
    """Whether what was verified still stood when the first arrival was due: the last sample before it says so.

    A function without a sample in between counts as it was verified.
    """
    standing = dict(initial_ready)
    for row in sorted(replicas, key=lambda row: row.at_ns):
        if row.ready is not None and row.at_ns <= first_ns and row.function in standing:
            standing[row.function] = row.ready
    return standing == dict(initial_ready)


def label_mismatches(rows: list[StageRow], routable_at_ns: Mapping[str, int], offset_s: float) -> int:
    """Labelled rows whose replica the platform does not know, or saw become ready on the other side of the send.

    offset_s: by which clocks are known to differ; what lies within it contradicts nothing.
    """
    wrong = 0
    for row in rows:
        if row.cold is None:
            continue
        event_ns = routable_at_ns.get(row.replica_id)
        if event_ns is None:
            wrong += 1
        elif (event_ns > row.sent_at_ns) != row.cold:
            wrong += abs(event_ns - row.sent_at_ns) > offset_s * NS_PER_S
    return wrong


def longest_gap_s(rows: list[ReplicaRow], functions: tuple[str, ...], start_ns: int, end_ns: int) -> float:
    """The longest time within the window without a sample of counts, over all functions; infinite without samples."""
    times: dict[str, list[int]] = {function: [] for function in functions}
    for row in rows:
        if row.ready is not None and row.function in times:
            times[row.function].append(row.at_ns)
    if not all(times.values()):
        return math.inf
    return max(_longest_ns([start_ns, *each], end_ns) for each in times.values()) / 1e9


def _longest_ns(times: list[int], end_ns: int) -> int:
    inside = [*sorted(time for time in times if time <= end_ns), end_ns]
    # The first sample after the end closes the last gap as well as one before it.
    return max(b - a for a, b in pairwise(inside))
