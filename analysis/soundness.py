"""Can a run's rows be believed? What is wrong with them, in words; any of it excludes the run, and it is published."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from analysis.load import Rows, Run

# Of one clock each, in the order in which they must have been made; 0: not made. The scheduled time is no stamp.
_CALLERS = ("fired_at_ns", "sent_at_ns", "done_at_ns")
_REPLICAS = ("received_at_ns", "started_at_ns", "worked_at_ns", "finished_at_ns")
_STAGE_CALLERS = ("sent_at_ns", "returned_at_ns")


def problems(run: Run, rows: Rows) -> list[str]:
    """Beyond what is wrong with its files: rows that are missing, stand twice, or are out of time."""
    requests, stages = rows.requests, rows.stages
    found = list(rows.problems)
    if not len(requests):
        return [*found, "requests.jsonl has no row"]
    if run.scheduled and len(requests) != run.scheduled:
        found.append(f"{len(requests)} request rows, {run.scheduled} arrivals were scheduled")
    twice = len(requests) - requests["k"].n_unique()
    if twice:
        found.append(f"{twice} request rows stand twice")
    strangers = stages.join(requests, on="request_id", how="anti").height
    if strangers:
        found.append(f"{strangers} stage rows belong to no request of this run")
    found += _backwards("requests.jsonl", requests, _CALLERS)
    found += _backwards("stages.jsonl", stages, _REPLICAS)
    found += _backwards("stages.jsonl", stages, _STAGE_CALLERS)
    return found


def _backwards(name: str, rows: pl.DataFrame, stamps: tuple[str, ...]) -> list[str]:
    """Stamps of one clock that are out of order: the clock was set back, or the rows were changed."""
    wrong = pl.any_horizontal(
        (pl.col(later) > 0) & (pl.col(earlier) > 0) & (pl.col(later) < pl.col(earlier))
        for earlier, later in [*pairwise(stamps), (stamps[0], stamps[-1])]
    )
    count = rows.filter(wrong).height
    return [f"{name}: the clock runs backwards in {count} rows ({', '.join(stamps)})"] if count else []
