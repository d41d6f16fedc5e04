"""Was the load what was asked for? The generator's own verdict, made again from the rows by the same function."""

from __future__ import annotations

from typing import Any

import msgspec
import polars as pl

from analysis.load import Campaign, Run, of_run
from fave.validity import Fidelity, Gates, judge_load, measure

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


def of_a_run(campaign: Campaign, run: Run) -> Fidelity:
    requests = of_run(campaign.requests, run)
    sent = requests.filter(pl.col("sent_at_ns") > 0).select("scheduled_at_ns", "sent_at_ns")
    pairs = [(due // 1000, at // 1000) for due, at in sent.iter_rows()]
    return measure(pairs, scheduled=len(requests), dropped=int(requests["dropped"].sum()), cpu_share=None)


def load_as_sent(campaign: Campaign) -> list[dict[str, Any]]:
    """By load and regime: counts added up over all runs, the worst of every other figure."""
    found: dict[tuple[str, str], list[Fidelity]] = {}
    for run in campaign.runs:
        found.setdefault((run.load, run.regime), []).append(of_a_run(campaign, run))
    return [
        {
            "load": load,
            "regime": regime,
            **{name: sum(getattr(each, name) for each in runs) for name in ("scheduled", "sent", "dropped", "unsent")},
            "rate_error": _worst(runs, "rate_error"),
            "schedule_lag_p99_s": _worst(runs, "schedule_lag_p99_s"),
            "scheduled_gap_cv": _worst(runs, "scheduled_gap_cv"),
            "sent_gap_cv": _worst(runs, "sent_gap_cv"),
            "gap_ks": _worst(runs, "gap_ks"),
        }
        for (load, regime), runs in sorted(found.items())
    ]


def disagreements(campaign: Campaign) -> list[str]:
    """Runs whose rows say otherwise about the load than the verdict that was stored with them."""
    gates = msgspec.convert(campaign.experiment["gates"], Gates)
    wrong = []
    for run in campaign.runs:
        latencies = of_run(campaign.requests, run).filter(pl.col("status") == "ok")["latency_s"]
        again = judge_load(of_a_run(campaign, run), gates, latencies.median())  # type: ignore[arg-type]
        stored = {finding.gate: finding.ok for finding in run.verdict.findings}
        wrong += [
            f"{run.folder}: {finding.gate} is {'' if finding.ok else 'not '}met by its rows, its verdict says otherwise"
            for finding in again.findings
            if finding.gate in _BY_RULE and stored.get(finding.gate, finding.ok) != finding.ok
        ]
    return wrong


def rows(found: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            each["load"],
            each["regime"],
            *(str(each[name]) for name in ("scheduled", "sent", "dropped", "unsent")),
            _shown(each["rate_error"], ".2%"),
            "-" if each["schedule_lag_p99_s"] is None else f"{each['schedule_lag_p99_s'] * 1000:.1f} ms",
            _shown(each["scheduled_gap_cv"], ".2f"),
            _shown(each["sent_gap_cv"], ".2f"),
            _shown(each["gap_ks"], ".3f"),
        )
        for each in found
    ]


def _worst(runs: list[Fidelity], name: str) -> float | None:
    return max((value for each in runs if (value := getattr(each, name)) is not None), default=None)


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
