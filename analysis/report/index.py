"""`runs/index.html`: all campaigns of a folder on one page, the latest first."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from analysis.report import pages
from analysis.words import Table, percent
from fave.campaign import record
from fave.clock import iso
from fave.errors import InvalidRunError


class Entry(NamedTuple):
    """One campaign. state: what its results say of themselves, or why there are none. cells: cold-start rates."""

    folder: str
    experiment: str
    started: str
    state: str
    cells: Table | None
    verdicts: list[str]


def write(runs: Path) -> int:
    """How many campaigns there are; every folder with a `campaign.json` is one, however broken."""
    entries = [_entry(path.parent) for path in runs.glob("*/campaign.json")]
    entries.sort(key=lambda each: (each.started, each.folder), reverse=True)
    pages.write(runs, "index", {"entries": entries}, name="index", forms="html")
    return len(entries)


def _entry(folder: Path) -> Entry:
    try:
        facts = record.manifest(folder)
    except InvalidRunError as error:
        return Entry(folder.name, "?", "", error.message, None, [])
    about = (folder.name, facts.name, iso(facts.started_at_ns))
    if not (folder / "results.json").exists():
        return Entry(*about, "no report yet: python -m analysis report " + folder.name, None, [])
    try:
        found = record.read(folder, "results.json", record.Summary)
    except InvalidRunError as error:
        return Entry(*about, error.message, None, [])
    return Entry(*about, _state(found), _cells(found), _verdicts(found))


def _state(found: record.Summary) -> str:
    validity = found.validity
    used = f"{validity.runs_used} of {validity.runs_planned} runs used"
    return f"valid, {used}" if validity.valid else f"not whole: {used}"


def _cells(found: record.Summary) -> Table:
    cells = [cell for cell in found.cells if cell.runs and cell.cold_rate.estimate is not None]
    loads = list(dict.fromkeys(cell.load for cell in cells))
    regimes = list(dict.fromkeys(cell.regime for cell in cells))
    shares = {(cell.load, cell.regime): _rate(cell) for cell in cells}
    rows = [(load, *(shares.get((load, regime), "-") for regime in regimes)) for load in loads]
    return Table("", ("cold-start rate", *regimes), rows)


def _rate(cell: record.CellResult) -> str:
    failed = f", {percent(cell.failures / cell.requests)} failed" if cell.failures else ""
    return percent(cell.cold_rate.estimate) + failed


def _verdicts(found: record.Summary) -> list[str]:
    return [
        f"{row.load}: {row.a} - {row.b} {row.verdict}{', exploratory' * row.exploratory}" for row in found.contrasts
    ]
