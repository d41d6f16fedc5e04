"""One request as a waterfall: what each invocation waited for and did, in order of time."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from analysis.load import Campaign, Run, of_run, used_runs
from fave.workload import ORCHESTRATOR, PIPELINE


class Bar(NamedTuple):
    """An invocation; times in seconds since the request was sent. compute_s takes what storage does not.

    directing_s: the orchestrator's time, which is spent waiting for the others.
    """

    label: str
    at_s: float
    cold_wait_s: float
    queue_s: float
    storage_s: float
    compute_s: float
    directing_s: float


class Waterfall(NamedTuple):
    title: str
    regime: str
    request_id: str
    latency_s: float
    bars: list[Bar]


def cold_and_warm(campaign: Campaign) -> list[Waterfall]:
    """Of the requests with a cold invocation and of those without, the one with the median latency."""
    runs = [run for run in used_runs(campaign.runs, campaign.experiment) if run.target == PIPELINE]
    picked = []
    for wanted, title in ((True, "a cold request"), (False, "a warm request")):
        candidates = [
            (latency, request_id, run) for run in runs for request_id, latency in _requests(campaign, run, cold=wanted)
        ]
        if candidates:
            candidates.sort(key=lambda c: c[:2])
            latency, request_id, run = candidates[len(candidates) // 2]
            picked.append(Waterfall(title, run.regime, request_id, latency, _bars(campaign, run, request_id)))
    return picked


def _requests(campaign: Campaign, run: Run, *, cold: bool) -> list[tuple[str, float]]:
    table = of_run(campaign.requests, run).filter((pl.col("status") == "ok") & (pl.col("cold") == cold))
    return list(table.select("request_id", "latency_s").iter_rows())


def _bars(campaign: Campaign, run: Run, request_id: str) -> list[Bar]:
    rows = of_run(campaign.stages, run).filter(pl.col("request_id") == request_id).sort("sent_at_ns")
    start_ns = rows["sent_at_ns"][0]
    bars = []
    for row in rows.iter_rows(named=True):
        directs = row["stage"] == ORCHESTRATOR
        # The orchestrator saves while the stages work: that time is part of its directing, not before it.
        storage_s = 0.0 if directs else row["storage_read_s"] + row["storage_write_s"]
        bars.append(
            Bar(
                label=f"{row['stage']} {row['clip']}".strip(),
                at_s=(row["sent_at_ns"] - start_ns) / 1e9,
                cold_wait_s=row["cold_wait_s"] or 0.0,
                queue_s=max(0.0, row["queue_s"] or 0.0),
                storage_s=storage_s,
                compute_s=0.0 if directs else max(0.0, (row["service_s"] or 0.0) - storage_s),
                directing_s=(row["service_s"] or 0.0) if directs else 0.0,
            )
        )
    return bars
