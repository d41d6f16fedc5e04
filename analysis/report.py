"""Writes results.json, report.html, report.md and figures/ into a run folder. Reads that folder only."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from analysis import capacity, controls, fidelity, pages, plots, summary
from analysis.load import Campaign, load, used_runs
from analysis.results import results
from analysis.waterfall import cold_and_warm
from fave.clock import iso
from fave.errors import InvalidRunError
from fave.rundir import write_atomic, write_json


class Table(NamedTuple):
    """One that only some experiments have."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, ...]]
    notes: Sequence[str] = ()


def write(folder: Path) -> dict[str, Any]:
    """Analyse the campaign in `folder` and write its report; the same folder gives the same bytes.

    Raises
    ------
    InvalidRunError
        When no cell of it was finished.
    """
    campaign = load(folder)
    if not campaign.runs:
        raise InvalidRunError(
            f"{folder.name}: no finished cell yet", hint="the journal tells what happened: journal.jsonl"
        )
    found = results(campaign)
    figures = _figures(campaign, found)
    for name, svg in figures.items():
        write_atomic(folder / "figures" / f"{name}.svg", svg)
    facts = {
        "results": found,
        "campaign": campaign.info,
        "started": iso(campaign.info["started_at_ns"]),
        "folder": campaign.name,
        "cells": summary.cell_rows(found),
        "cell_columns": summary.CELL_COLUMNS,
        "contrasts": summary.contrast_rows(found),
        "contrast_columns": summary.CONTRAST_COLUMNS,
        "findings": summary.findings(found) + capacity.sentences(found["capacity"]),
        "legend": summary.LEGEND,
        "design": _design(campaign),
        "design_columns": ("load", "target", "traffic", "blocks", "instead of the regime's own"),
        "reasons": _reasons(found),
        "tables": _tables(found) + _by_time(found),
        "load_as_sent": fidelity.rows(found["load_as_sent"]),
        "load_columns": fidelity.COLUMNS,
        "figures": figures,
        "titles": _TITLES,
    }
    pages.write(folder, "report", facts)
    write_json(folder / "results.json", found)
    return found


_TITLES = {
    "f1-run-dots": "F1. Cold share of each run, joined by block",
    "f3-latency": "F3. Latency from the scheduled arrival",
    "f5-replicas": "F5. Replicas over time in one run",
    "f7-waterfall": "F7. A cold and a warm request, invocation by invocation",
}


def _figures(campaign: Campaign, found: dict[str, Any]) -> dict[str, str]:
    """SVG by file name, in the order of the report."""
    experiment = campaign.experiment
    regimes = list(experiment["regimes"])
    used = used_runs(campaign.runs, experiment)
    loads = [load for load in experiment["loads"] if any(run.load == load for run in used)]
    figures: dict[str, str] = {}
    if any(row["blocks"] for row in found["contrasts"]):
        figures["f1-run-dots"] = plots.run_dots(found, regimes)
    for name in loads:
        figures[f"f3-latency-{name}"] = plots.latency_ecdf(campaign, name, regimes)
    for name in loads:
        # The first regime's first run: in the shipped experiments the one that scales to zero.
        run = next(run for regime in regimes for run in used if (run.load, run.regime) == (name, regime))
        figures[f"f5-replicas-{name}"] = plots.replica_timeline(campaign, run)
    pair = cold_and_warm(campaign)
    if pair:
        figures["f7-waterfall"] = plots.waterfalls(pair)
    return figures


def _design(campaign: Campaign) -> list[tuple[str, ...]]:
    """What each load was: without it a cold share means nothing."""
    rows: list[tuple[str, ...]] = []
    for name, each in campaign.experiment["loads"].items():
        traffic = each["traffic"]
        windows = f", {traffic['bursts']} windows of {traffic['burst_length']}" if traffic["bursts"] else ""
        sent = f"{traffic['model']}, {traffic['requests']} in {traffic['duration']}{windows}"
        changed = [f"{regime}: {key} {value}" for regime, o in each["overrides"].items() for key, value in o.items()]
        rows.append((name, each["target"], sent, str(each["blocks"]), "; ".join(changed) or "-"))
    return rows


def _reasons(found: dict[str, Any]) -> list[str]:
    """Why figures are missing, each reason once."""
    reasons = [cell["latency_s"]["reason"] for cell in found["cells"]]
    reasons += [cell["cold_rate"]["reason"] for cell in found["cells"]]
    reasons += [row["reason"] for row in found["contrasts"]]
    return list(dict.fromkeys(part for reason in reasons for part in reason.split("; ") if part))


def _tables(found: dict[str, Any]) -> list[Table]:
    tables = (
        Table("Controls", controls.COLUMNS, controls.rows(found["controls"]), controls.notes(found["controls"])),
        Table("Thresholds", summary.THRESHOLD_COLUMNS, summary.threshold_rows(found)),
        Table("Capacity", capacity.COLUMNS, capacity.rows(found["capacity"])),
    )
    return [table for table in tables if table.rows]


def _by_time(found: dict[str, Any]) -> list[Table]:
    rows = summary.by_time_rows(found)
    return [Table("The first 30 seconds apart", summary.BY_TIME_COLUMNS, rows)] if rows else []


def _contrasts(found: dict[str, Any]) -> list[str]:
    rows = summary.contrast_rows(found)
    return [summary.text_table(summary.CONTRAST_COLUMNS, rows), ""] if rows else []


def _in_text(table: Table) -> list[str]:
    notes = [textwrap.fill(note, 118, initial_indent="  ", subsequent_indent="    ") for note in table.notes]
    return ["", summary.text_table(table.columns, table.rows), *notes]


def in_terminal(found: dict[str, Any], folder: Path) -> str:
    """What a person reads when the campaign ends."""
    validity = found["validity"]
    used = f"{validity['runs_used']} of {validity['runs_planned']} runs used"
    excluded = [f"excluded {item['cell']}: {'; '.join(item['reasons'])}" for item in validity["excluded"]]
    return "\n".join(
        [
            "",
            f"{found['campaign']['name']}   primary outcome: {found['primary_outcome']}   {used}",
            "",
            summary.text_table(summary.CELL_COLUMNS, summary.cell_rows(found)),
            "",
            *_contrasts(found),
            *(f"- {sentence}" for sentence in summary.findings(found) + capacity.sentences(found["capacity"])),
            *(line for table in _tables(found) for line in _in_text(table)),
            *excluded,
            textwrap.fill(summary.LEGEND, 118, initial_indent="  ", subsequent_indent="  "),
            *(f"  ({reason})" for reason in _reasons(found)),
            "",
            f"report: {folder / 'report.html'}",
        ]
    )
