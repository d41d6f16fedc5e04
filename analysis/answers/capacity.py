"""Which offered load a regime sustains, and what breaks first beyond it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from analysis.rows import measures
from analysis.rows.folder import Campaign, Run
from fave.campaign.results import Ladder, Rung

_SAID = {True: "yes", False: "no: ", None: "not known: "}
# A queue grows when waits rise with time (rank correlation) and the last third waits longer than the first by more than
# a service time; either alone is chance.
_TREND = 0.3

COLUMNS = (
    "regime",
    "load",
    "rate /s",
    "runs",
    "failed",
    "memory kills",
    "queue s, first / last third",
    "sustained",
)


def ladder(campaign: Campaign, runs: Sequence[Run]) -> list[Ladder]:
    """By regime: every rung from the lowest rate up, the highest that it sustains, what broke at the next.

    A rung is sustained when no run of it has a failure, an out-of-memory kill or a queue that grows. Rungs above one
    that broke are shown, but not counted: load that is sustained by luck is not. sustained is None where no run is
    valid, which at high rates may be for overload's sake: whoever asks must look.
    """
    experiment = campaign.experiment
    found = []
    for regime in experiment.regimes if experiment.capacity else ():
        rungs = [
            _rung(campaign, load, [run for run in runs if (run.load, run.regime) == (load, regime)])
            for load in experiment.capacity
            if regime in experiment.regimes_of(load)
        ]
        rungs.sort(key=lambda rung: rung.rate_per_s)
        # A rung whose runs are all invalid tells nothing; the next one may.
        known = [rung for rung in rungs if rung.sustained is not None]
        broke = next((rung for rung in known if not rung.sustained), None)
        sustained = max(
            (rung for rung in known if rung.sustained and (not broke or rung.rate_per_s < broke.rate_per_s)),
            key=lambda rung: rung.rate_per_s,
            default=None,
        )
        found.append(
            Ladder(
                regime=regime,
                sustained_rate_per_s=sustained.rate_per_s if sustained else None,
                broke_rate_per_s=broke.rate_per_s if broke else None,
                broke_by=broke.reasons if broke else [],
                rungs=rungs,
            )
        )
    return found


def _rung(campaign: Campaign, load: str, runs: list[Run]) -> Rung:
    """One offered load in one regime, over all its runs."""
    traffic = campaign.experiment.loads[load].traffic
    seen = [_seen(campaign, run) for run in runs]
    failed, kills = ([each for one in seen for each in getattr(one, name)] for name in ("failed", "kills"))
    reasons = _reasons(failed, kills, [one.queue for one in seen])
    offered = traffic.requests or _mean([one.requests for one in seen]) or 0.0
    return Rung(
        load=load,
        rate_per_s=offered / traffic.duration,
        runs=len(runs),
        failures=len(failed),
        out_of_memory_kills=len(kills),
        queue_first_s=_mean([one.queue.first_s for one in seen]),
        queue_last_s=_mean([one.queue.last_s for one in seen]),
        sustained=not reasons if runs else None,
        reasons=reasons if runs else ["no valid run"],
    )


class _Queue(NamedTuple):
    """Waits for a free replica: means of the first and the last third of invocations, and whether they grow."""

    first_s: float
    last_s: float
    grows: bool


class _Seen(NamedTuple):
    """Of one run. failed, kills: (seconds from its start, what)."""

    requests: int
    failed: list[tuple[float, str]]
    kills: list[tuple[float, str]]
    queue: _Queue


def _seen(campaign: Campaign, run: Run) -> _Seen:
    rows = campaign.rows(run)
    # What the generator did not send is its failure, not the system's.
    failed = rows.requests.filter(~pl.col("status").is_in(["ok", "unsent"]))
    what = pl.when(pl.col("error") != "").then(pl.col("error")).otherwise(pl.col("status"))
    kills = rows.replicas.filter(pl.col("event") == "oom_killed")
    return _Seen(
        requests=len(rows.requests),
        failed=_after(run, failed.select("scheduled_at_ns", what)),
        kills=_after(run, kills.select("at_ns", "function")),
        queue=_queue(rows.stages),
    )


def _after(run: Run, rows: pl.DataFrame) -> list[tuple[float, str]]:
    return [((at_ns - run.started_at_ns) / 1e9, what) for at_ns, what in rows.iter_rows()]


def _reasons(failed: list[tuple[float, str]], kills: list[tuple[float, str]], queues: list[_Queue]) -> list[str]:
    """Why the load is not sustained, what came first before the rest; a queue has no first moment."""
    timed = sorted(
        (min(found)[0], f"{len(found)} {name}, the first after {min(found)[0]:.1f} s ({min(found)[1]})")
        for name, found in (("out-of-memory kills", kills), ("failed requests", failed))
        if found
    )
    growing = [queue for queue in queues if queue.grows]
    worst = max(growing, key=lambda queue: queue.last_s, default=None)
    waits = f"{worst.first_s:.2f} s in the first third, {worst.last_s:.2f} s in the last" if worst else ""
    return [text for _, text in timed] + [f"the queue grows: waits of {waits}"] * bool(worst)


def _queue(stages: pl.DataFrame) -> _Queue:
    waits = stages.filter(pl.col("queue_s").is_not_null() & (pl.col("sent_at_ns") > 0)).sort("sent_at_ns")
    seconds = waits["queue_s"].to_numpy()
    third = len(seconds) // 3
    if not third:
        return _Queue(0.0, 0.0, grows=False)
    first_s, last_s = float(seconds[:third].mean()), float(seconds[-third:].mean())
    ranks = np.argsort(np.argsort(seconds))
    trend = float(np.corrcoef(np.arange(len(seconds)), ranks)[0, 1]) if np.ptp(seconds) else 0.0
    service_s = measures.mean(waits["service_s"]) or 0.0
    return _Queue(first_s, last_s, grows=trend > _TREND and last_s - first_s > service_s)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def rows(found: Sequence[Ladder]) -> list[tuple[str, ...]]:
    return [
        (
            each.regime,
            rung.load,
            f"{rung.rate_per_s:.3g}",
            str(rung.runs),
            str(rung.failures),
            str(rung.out_of_memory_kills),
            "-" if rung.queue_first_s is None else f"{rung.queue_first_s:.2f} / {rung.queue_last_s:.2f}",
            _SAID[rung.sustained] + "; ".join(rung.reasons),
        )
        for each in found
        for rung in each.rungs
    ]


def sentences(found: Sequence[Ladder]) -> list[str]:
    told = []
    for each in found:
        highest = each.sustained_rate_per_s
        head = f"{each.regime}: " + (f"sustains {highest:.3g}/s" if highest else "sustains none of the rates tried")
        tail = f"; at {each.broke_rate_per_s:.3g}/s {each.broke_by[0]}" if each.broke_by else "; nothing broke"
        told.append(head + tail + ".")
    return told
