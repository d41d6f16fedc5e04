"""Can a run's rows be believed? What is wrong with them, in words; any of it excludes the run, and it is published.

Rows of different files tell of the same things, so they must agree: `LAWS` lists what is conserved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise

import numpy as np
import polars as pl

from analysis.rows.folder import Rows, Run
from fave.wire.replica_events import ENDS

# Of one clock each, in the order in which they must have been made; 0: not made. The scheduled time is no stamp.
_CALLERS = ("fired_at_ns", "sent_at_ns", "done_at_ns")
_REPLICAS = ("received_at_ns", "started_at_ns", "worked_at_ns", "finished_at_ns")
_STAGE_CALLERS = ("sent_at_ns", "returned_at_ns")
# Sums are of the same numbers, in another order; seconds are differences of the same stamps.
_ROUNDING = 1e-6
# A sample is compared with events where none lies nearer: scrapes take their time on a busy machine.
_QUIET_NS = 1_000_000_000
# One sample may be of a scrape that came late.
_FEWEST_SAMPLES = 3
# A replica drains before it stops, and its successor may have begun: over the maximum for so long at most, together, or
# for each that ended.
_DRAINING_S, _EACH_DRAINING_S = 1.0, 0.05


def problems(run: Run, rows: Rows) -> list[str]:
    """Beyond what is wrong with its files."""
    if not len(rows.requests):
        return [*rows.problems, "requests.jsonl has no row"]
    return [*rows.problems, *(problem for law in LAWS for problem in law(run, rows))]


def _every_arrival_once(run: Run, rows: Rows) -> Iterator[str]:
    requests = rows.requests
    if run.scheduled and len(requests) != run.scheduled:
        yield f"{len(requests)} request rows, {run.scheduled} arrivals were scheduled"
    twice = len(requests) - requests["k"].n_unique()
    if twice:
        yield f"{twice} request rows stand twice"


def _every_invocation_once(run: Run, rows: Rows) -> Iterator[str]:
    stages = rows.stages
    strangers = stages.join(rows.requests, on="request_id", how="anti").height
    if strangers:
        yield f"{strangers} stage rows belong to no request of this run"
    twice = len(stages) - stages.select("request_id", "stage", "clip", "attempt", "sent_at_ns").n_unique()
    if twice:
        yield f"{twice} stage rows stand twice"


def _time_goes_forward(run: Run, rows: Rows) -> Iterator[str]:
    yield from _backwards("requests.jsonl", rows.requests, _CALLERS)
    yield from _backwards("stages.jsonl", rows.stages, _REPLICAS)
    yield from _backwards("stages.jsonl", rows.stages, _STAGE_CALLERS)


def _requests_are_sums_of_stages(run: Run, rows: Rows) -> Iterator[str]:
    cold = pl.col("cold").fill_null(value=False)
    sums = rows.stages.group_by("request_id").agg(
        pl.len().alias("rows"), cold.sum().alias("colds"), pl.col("cost_gb_s").sum().alias("costs")
    )
    joined = rows.requests.join(sums, on="request_id", how="left").with_columns(
        pl.col("rows", "colds", "costs").fill_null(0)
    )
    said_cold = pl.col("cold").is_not_null() & (pl.col("cold") != (pl.col("cold_invocations") > 0))
    for what, wrong in (
        ("invocations", pl.col("invocations") != pl.col("rows")),
        ("cold_invocations", pl.col("cold_invocations") != pl.col("colds")),
        ("cost_gb_s", (pl.col("cost_gb_s") - pl.col("costs")).abs() > _ROUNDING),
        ("cold", said_cold),
    ):
        count = joined.filter(wrong).height
        if count:
            yield f"{what} of {count} request rows is not what their stage rows have"


def _labels_follow_from_stamps(run: Run, rows: Rows) -> Iterator[str]:
    stages = rows.stages
    ready, sent = pl.col("routable_at_ns"), pl.col("sent_at_ns")
    known = stages.filter((ready > 0) & (sent > 0))
    # So labelled before rows had the routable time: between the replica's own stamp and the platform's event.
    undecided = pl.col("cold").is_null() & (pl.col("evidence") == "undecided") & (ready <= sent)
    wrong = known.filter((pl.col("cold").is_null() & ~undecided) | (pl.col("cold") != (ready > sent))).height
    if wrong:
        yield f"the label of {wrong} stage rows is not what their stamps say"
    worked = stages.filter((pl.col("started_at_ns") > 0) & (pl.col("finished_at_ns") > 0))
    service_s = (pl.col("finished_at_ns") - pl.col("started_at_ns")) / 1e9
    cost_gb_s = service_s * pl.col("memory_limit_mb") / 1024
    far = ((pl.col("service_s") - service_s).abs() > _ROUNDING) | ((pl.col("cost_gb_s") - cost_gb_s).abs() > _ROUNDING)
    wrong = worked.filter(far).height
    if wrong:
        yield f"service time or cost of {wrong} stage rows is not what their stamps say"


def _every_replica_is_known(run: Run, rows: Rows) -> Iterator[str]:
    """Those that never started were there before: so many at most stood, verified, before the first row."""
    for function, events in _by_function(rows):
        starts = events.filter(pl.col("event") == "start")["replica_id"]
        twice = len(starts) - starts.n_unique()
        if twice:
            yield f"{function}: {twice} replicas started twice"
        unknown = {*events["replica_id"]} - {*starts}
        before = run.initial_ready.get(function, 0)
        if len(unknown) > before:
            yield f"{function}: {len(unknown)} replicas never started, {before} stood before"


def _no_more_are_held_than_may_be(run: Run, rows: Rows) -> Iterator[str]:
    for function, events in _by_function(rows):
        if function not in run.settings:
            continue
        most = run.max_replicas[function]
        at_ns, counts = _counts(run, function, events)
        over_s = sum((b - a) / 1e9 for (a, b), count in zip(pairwise(at_ns), counts, strict=False) if count > most)
        ends = events.filter(pl.col("event").is_in(list(ENDS))).height
        if over_s > max(_DRAINING_S, _EACH_DRAINING_S * ends):
            yield f"{function}: by events more than its {most} replicas for {over_s:.1f} s"
        if min(counts, default=0) < 0:
            yield f"{function}: more replicas ended than were there"


def _samples_agree_with_events(run: Run, rows: Rows) -> Iterator[str]:
    """Starts less ends is what is there, whenever Prometheus looked and nothing was just changing."""
    for function, events in _by_function(rows):
        samples = rows.replicas.filter((pl.col("source") == "prometheus") & (pl.col("function") == function))
        seen_ns, there = samples["at_ns"].to_numpy(), samples["desired"].fill_null(0).to_numpy()
        at_ns, counts = (np.array(each, dtype=np.int64) for each in _counts(run, function, events))
        if not len(seen_ns) or not len(at_ns):
            continue
        place = np.searchsorted(at_ns, seen_ns, side="right")
        expected = np.concatenate([[run.initial_ready.get(function, 0)], counts])[place]
        edges = np.concatenate([[-_QUIET_NS], at_ns, [np.iinfo(np.int64).max]])
        quiet = (seen_ns - edges[place] >= _QUIET_NS) & (edges[place + 1] - seen_ns >= _QUIET_NS)
        wrong = int((quiet & (expected != there)).sum())
        if wrong >= _FEWEST_SAMPLES:
            yield f"{function}: {wrong} samples of Prometheus count other replicas than the platform's events"


LAWS: tuple[Callable[[Run, Rows], Iterator[str]], ...] = (
    _every_arrival_once,
    _every_invocation_once,
    _time_goes_forward,
    _requests_are_sums_of_stages,
    _labels_follow_from_stamps,
    _every_replica_is_known,
    _no_more_are_held_than_may_be,
    _samples_agree_with_events,
)


def _by_function(rows: Rows) -> Iterator[tuple[str, pl.DataFrame]]:
    """The events of each function's replicas, in order of time; of none where a platform tells of none."""
    events = rows.replicas.filter((pl.col("source") == "gateway") & (pl.col("replica_id") != "")).sort("at_ns")
    for (function,), group in events.group_by(["function"], maintain_order=True):
        yield str(function), group


def _counts(run: Run, function: str, events: pl.DataFrame) -> tuple[list[int], list[int]]:
    """When replicas started and ended, and how many were there from then on."""
    changes = [
        (at_ns, 1 if event == "start" else -1)
        for event, at_ns in events.select("event", "at_ns").iter_rows()
        if event == "start" or event in ENDS
    ]
    counts = list(accumulate((change for _, change in changes), initial=run.initial_ready.get(function, 0)))[1:]
    return [at_ns for at_ns, _ in changes], counts


def _backwards(name: str, rows: pl.DataFrame, stamps: tuple[str, ...]) -> list[str]:
    """Stamps of one clock that are out of order: the clock was set back, or the rows were changed."""
    wrong = pl.any_horizontal(
        (pl.col(later) > 0) & (pl.col(earlier) > 0) & (pl.col(later) < pl.col(earlier))
        for earlier, later in [*pairwise(stamps), (stamps[0], stamps[-1])]
    )
    count = rows.filter(wrong).height
    return [f"{name}: the clock runs backwards in {count} rows ({', '.join(stamps)})"] if count else []
