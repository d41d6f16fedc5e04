"""What differed within a run: which regime stood, and which traffic was sent, from when to when."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import polars as pl

from analysis.rows import measures
from analysis.rows.folder import Rows, Run
from fave.campaign.experiment import Experiment
from fave.campaign.outcomes import COLD
from fave.clock import NS_PER_S


class Segment(NamedTuple):
    name: str
    since_ns: int
    until_ns: int


class Phase(NamedTuple):
    """One or several stretches of a run of one name. cold: (cold, known) of the primary level, of what was sent then.

    latency_sum_s, answered: of requests that were due then. held_gb_s: as the report's provisioned cost. recovery_s:
    from the beginning of traffic that another one came before, until the last request that was slower than the load's
    limit or failed was due; NaN where the last request was one: it never recovered. None without a limit, and for
    phases of regimes.
    """

    name: str
    seconds: float
    requests: int
    cold: tuple[int, int]
    latency_sum_s: float
    answered: int
    held_gb_s: float
    recovery_s: float | None = None


class Switched(NamedTuple):
    """One change of regime. in_force_s: from asking until counts of replicas showed it. cold: of what was sent then."""

    name: str
    in_force_s: float
    cold: tuple[int, int]
    replaced: tuple[str, ...]


def of_regimes(run: Run, first: str, end_ns: int) -> list[Segment]:
    """The regimes that stood, and `to X` for the time between asking for X and its being there."""
    found, name, since_ns = [], first, run.started_at_ns
    for change in run.switches:
        there_ns = change.effective_at_ns or change.requested_at_ns
        found += [Segment(name, since_ns, change.requested_at_ns)]
        found += [Segment(f"to {change.regime}", change.requested_at_ns, there_ns)]
        name, since_ns = change.regime, there_ns
    return [*found, Segment(name, since_ns, end_ns)] if found else []


def of_traffic(run: Run, experiment: Experiment) -> list[Segment]:
    traffic = experiment.loads[run.load].traffic if run.load in experiment.loads else None
    if traffic is None or not traffic.phases:
        return []
    edges = [0, *accumulate(round(each.duration * NS_PER_S) for each in traffic.phases)]
    return [
        Segment(f"{i + 1} {each.model}", run.started_at_ns + a, run.started_at_ns + b)
        for i, (each, (a, b)) in enumerate(zip(traffic.phases, pairwise(edges), strict=True))
    ]


def phases(segments: Sequence[Segment], run: Run, rows: Rows, outcome: str) -> list[Phase]:
    """Stretches of the same name together, in the order in which they first came."""
    found: dict[str, Phase] = {}
    for segment in segments:
        one, before = _phase(segment, run, rows, outcome), found.get(segment.name)
        found[segment.name] = one if before is None else _together(before, one)
    return list(found.values())


def with_recovery(each: Sequence[Phase], segments: Sequence[Segment], rows: Rows, limit_s: float | None) -> list[Phase]:
    """Of traffic after the first."""
    if limit_s is None:
        return list(each)
    return [
        one if i == 0 else one._replace(recovery_s=_recovery_s(_due(rows.requests, segment), segment, limit_s))
        for i, (one, segment) in enumerate(zip(each, segments, strict=True))
    ]


def switched(run: Run, first: str, rows: Rows, outcome: str) -> Iterator[Switched]:
    before = first
    for change in run.switches:
        there_ns = change.effective_at_ns or change.requested_at_ns
        segment = Segment(change.regime, change.requested_at_ns, there_ns)
        took_s = (there_ns - change.requested_at_ns) / NS_PER_S
        yield Switched(f"{before} to {change.regime}", took_s, _cold(rows, segment, outcome), tuple(change.replaced))
        before = change.regime


def _phase(segment: Segment, run: Run, rows: Rows, outcome: str) -> Phase:
    due = _due(rows.requests, segment)
    latencies_s = due.filter(pl.col("status") == "ok")["latency_s"].drop_nulls().to_list()
    return Phase(
        name=segment.name,
        seconds=(segment.until_ns - segment.since_ns) / NS_PER_S,
        requests=due.height,
        cold=_cold(rows, segment, outcome),
        latency_sum_s=math.fsum(latencies_s),
        answered=len(latencies_s),
        held_gb_s=_held_gb_s(run, rows, segment.until_ns) - _held_gb_s(run, rows, segment.since_ns),
    )


def _together(a: Phase, b: Phase) -> Phase:
    return Phase(
        name=a.name,
        seconds=a.seconds + b.seconds,
        requests=a.requests + b.requests,
        cold=(a.cold[0] + b.cold[0], a.cold[1] + b.cold[1]),
        latency_sum_s=a.latency_sum_s + b.latency_sum_s,
        answered=a.answered + b.answered,
        held_gb_s=a.held_gb_s + b.held_gb_s,
    )


def _due(requests: pl.DataFrame, segment: Segment) -> pl.DataFrame:
    return requests.filter(pl.col("scheduled_at_ns").is_between(segment.since_ns, segment.until_ns, closed="left"))


def _cold(rows: Rows, segment: Segment, outcome: str) -> tuple[int, int]:
    if outcome == COLD[0]:
        within = pl.col("sent_at_ns").is_between(segment.since_ns, segment.until_ns, closed="left")
        labels = rows.stages.filter(within)["cold"].drop_nulls()
    else:
        labels = _due(rows.requests, segment)["cold"].drop_nulls()
    return int(labels.sum()), len(labels)


def _held_gb_s(run: Run, rows: Rows, until_ns: int) -> float:
    """From the beginning: who stood at a moment in between is known by what came before."""
    start_ns = run.started_at_ns
    if until_ns <= start_ns:
        return 0.0
    has_events = bool((rows.replicas["replica_id"] != "").any())
    spans = (
        measures.spans_from_events(rows.replicas, run.initial_ready, start_ns, until_ns)
        if has_events
        else measures.spans_from_samples(rows.replicas, start_ns, until_ns)
    )
    return sum(
        (until - since) * run.memory_limit_mb.get(name, 0) / 1024
        for name, each in spans.items()
        for since, until in each
    )


def _recovery_s(due: pl.DataFrame, segment: Segment, limit_s: float) -> float:
    slow = due.filter((pl.col("status") != "ok") | (pl.col("latency_s") > limit_s))["scheduled_at_ns"]
    if not len(slow):
        return 0.0
    last_ns = max(slow.to_list())
    return math.nan if last_ns == max(due["scheduled_at_ns"].to_list()) else (last_ns - segment.since_ns) / NS_PER_S
