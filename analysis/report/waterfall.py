"""Single requests as waterfalls: what each invocation waited for and did, in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.rows.digest import Digest
from analysis.rows.folder import Campaign, Run
from analysis.rows.path import PARTS, row_parts_s
from fave.wire.critical_path import critical_path
from fave.wire.records import StageRow


class Bar(NamedTuple):
    """An invocation; at_s: seconds since the request was sent. parts_s: in the order in which they are drawn."""

    label: str
    at_s: float
    parts_s: dict[str, float]
    on_path: bool


class Waterfall(NamedTuple):
    title: str
    regime: str
    request_id: str
    response_s: float
    bars: list[Bar]


def waterfalls(campaign: Campaign, digests: Sequence[Digest]) -> list[Waterfall]:
    """The median and the p95 request of the first regime in which a director called others, of the last the median."""
    mine = [each for each in digests if each.run.graph and len(each.paths.response_s)]
    regimes = [regime for regime in campaign.regimes if any(each.run.regime == regime for each in mine)]
    wanted = [(regimes[0], 0.5, "the median request"), (regimes[0], 0.95, "the p95 request")] if regimes else []
    wanted += [(regime, 0.5, "the median request") for regime in regimes[-1:] if regime != regimes[0]]
    return [_waterfall(campaign, [d for d in mine if d.run.regime == regime], q, title) for regime, q, title in wanted]


def _waterfall(campaign: Campaign, mine: Sequence[Digest], q: float, title: str) -> Waterfall:
    """Of the request whose response time is the nearest below the quantile of all."""
    counts = np.cumsum([0] + [len(each.paths.response_s) for each in mine])
    response_s = np.concatenate([each.paths.response_s for each in mine])
    at = int(np.argsort(response_s, kind="stable")[int(np.floor(q * (len(response_s) - 1)))])
    which = int(np.searchsorted(counts, at, side="right")) - 1
    each = mine[which]
    request_id = each.paths.request_ids[at - int(counts[which])]
    return Waterfall(title, each.run.regime, request_id, float(response_s[at]), _bars(campaign, each.run, request_id))


def _bars(campaign: Campaign, run: Run, request_id: str) -> list[Bar]:
    rows = campaign.rows(run).stages.filter(pl.col("request_id") == request_id).sort("sent_at_ns", "returned_at_ns")
    parts = row_parts_s(rows)
    start_ns = rows["sent_at_ns"].min() or 0
    director = run.graph.director if run.graph else ""
    below = rows.filter(pl.col("stage") != director)
    on_path = {(row.stage, row.clip, row.attempt) for row in critical_path(_stage_rows(below))}
    bars = []
    for row, split in zip(rows.iter_rows(named=True), parts, strict=True):
        seconds = dict(zip(PARTS, split.tolist(), strict=True))
        directs = row["stage"] == director
        if directs:
            # It waits for the stages, and saves while they work: all of that is directing.
            work = ("storage", "compute", "unexplained")
            seconds["orchestration"] = sum(seconds[name] for name in work)
            seconds |= dict.fromkeys(work, 0.0)
        known = directs or (row["stage"], row["clip"], row["attempt"]) in on_path
        label = f"{row['stage']} {row['clip']}".strip()
        bars.append(Bar(label, (row["sent_at_ns"] - start_ns) / 1e9, seconds, known))
    return bars


def _stage_rows(rows: pl.DataFrame) -> list[StageRow]:
    names = ("request_id", "stage", "clip", "attempt", "sent_at_ns", "returned_at_ns")
    return [
        StageRow(invocation_id="", **dict(zip(names, values, strict=True))) for values in rows.select(names).iter_rows()
    ]
