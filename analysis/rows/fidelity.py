"""Was the load what was asked for? The generator's own verdict, made again from the rows by the same function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import polars as pl

from analysis.rows.folder import Campaign, Run
from fave.campaign.results import AsSent
from fave.campaign.validity import Fidelity, Gates, judge_load, measure

COLUMNS = (
    "load",
    "regime",
    "scheduled",
    "sent",
    "dropped",
    "unsent",
    "rate error",
    "schedule lag p99",
    "gap CV scheduled",
    "gap CV sent",
    "gap KS",
)
_BY_RULE = ("schedule_lag_p99_s", "rate_error", "gap_cv_error", "gap_ks", "unsent_share")


def judged_again(campaign: Campaign, run: Run, requests: pl.DataFrame) -> tuple[Fidelity, list[str]]:
    """The load as its rows have it, and where they say otherwise than the verdict that was stored with them."""
    sent = requests.filter(pl.col("sent_at_ns") > 0).select(pl.col("scheduled_at_ns", "sent_at_ns") // 1000)
    dropped = int(requests["dropped"].sum())
    load = measure(list(sent.iter_rows()), scheduled=len(requests), dropped=dropped, cpu_share=None)
    gates = msgspec.convert(campaign.experiment.gates, Gates)
    again = judge_load(load, gates, campaign.reference_latency_s(run.load))
    stored = {finding.gate: finding.ok for finding in run.verdict.findings}
    return load, [
        f"{run.folder}: {finding.gate} is {'' if finding.ok else 'not '}met by its rows, its verdict says otherwise"
        for finding in again.findings
        if finding.gate in _BY_RULE and stored.get(finding.gate, finding.ok) != finding.ok
    ]


def load_as_sent(runs: Iterable[tuple[Run, Fidelity]]) -> list[AsSent]:
    """By load and regime: counts added up over all runs, the worst of every other figure."""
    found: dict[tuple[str, str], list[Fidelity]] = {}
    for run, load in runs:
        found.setdefault((run.load, run.regime), []).append(load)
    return [
        AsSent(
            load=load,
            regime=regime,
            scheduled=sum(each.scheduled for each in loads),
            sent=sum(each.sent for each in loads),
            dropped=sum(each.dropped for each in loads),
            unsent=sum(each.unsent for each in loads),
            rate_error=_worst(loads, "rate_error"),
            schedule_lag_p99_s=_worst(loads, "schedule_lag_p99_s"),
            scheduled_gap_cv=_worst(loads, "scheduled_gap_cv"),
            sent_gap_cv=_worst(loads, "sent_gap_cv"),
            gap_ks=_worst(loads, "gap_ks"),
        )
        for (load, regime), loads in sorted(found.items())
    ]


def rows(found: Sequence[AsSent]) -> list[tuple[str, ...]]:
    return [
        (
            each.load,
            each.regime,
            *map(str, (each.scheduled, each.sent, each.dropped, each.unsent)),
            _shown(each.rate_error, ".2%"),
            "-" if each.schedule_lag_p99_s is None else f"{each.schedule_lag_p99_s * 1000:.1f} ms",
            _shown(each.scheduled_gap_cv, ".2f"),
            _shown(each.sent_gap_cv, ".2f"),
            _shown(each.gap_ks, ".3f"),
        )
        for each in found
    ]


def _worst(loads: list[Fidelity], name: str) -> float | None:
    return max((value for each in loads if (value := getattr(each, name)) is not None), default=None)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
