"""Writes results.json, report.html, report.md and figures/ into a run folder. Reads that folder only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from analysis.answers import capacity
from analysis.answers.limits import limits
from analysis.answers.results import results
from analysis.report import arms, pages, summary, tables
from analysis.report.figures import figures
from analysis.rows import digest
from analysis.rows.digest import Digest
from analysis.rows.folder import Campaign, load, used_runs
from analysis.words import Table, filled, text_table
from fave.campaign.results import Prices, Results
from fave.campaign.rundir import write_atomic, write_json
from fave.clock import iso
from fave.errors import InvalidRunError
from fave.settings import to_plain
from fave.traffic.arrivals import Traffic
from fave.yaml_file import load_yaml

PRICES = "prices.yml"
# A campaign with more runs than this tells how far the analysis is.
_TELL_FROM = 200


def write(folder: Path) -> Results:
    """Analyse the campaign in `folder` and write its report; the same folder gives the same bytes.

    Raises
    ------
    InvalidRunError
        When no cell of it was finished, or the campaign's own facts cannot be read.
    ConfigError
        When its price table is wrong.
    """
    campaign = load(folder)
    if not campaign.runs:
        raise InvalidRunError(
            f"{folder.name}: no finished cell{' that can be read' * bool(campaign.unreadable)}",
            hint="; ".join(campaign.unreadable) or "the journal tells what happened: journal.jsonl",
        )
    prices = load_yaml(folder / PRICES, Prices) if (folder / PRICES).exists() else None
    digests = digest.of_all(campaign, _tell)
    answers = results(campaign, digests, prices)
    found = msgspec.convert(_rounded(msgspec.json.decode(msgspec.json.encode(answers))), Results)
    used = {run.key for run in used_runs(campaign.runs, campaign.experiment, digest.unsound(digests))}
    mine = [each for each in digests if each.run.key in used]
    drawn = figures(campaign, found, mine)
    for figure in drawn:
        # On its own a figure brings its paper; in the page it has the page's.
        paper = figure.svg.replace("<svg ", '<svg style="background: #fff" ', 1)
        write_atomic(folder / "figures" / f"{figure.name}.svg", paper)
    pages.write(folder, "report", _facts(campaign, found, mine) | {"figures": drawn})
    write_json(folder / "results.json", found)
    return found


def _rounded(value: Any) -> Any:
    """To twelve digits: the last ones of a double are those of the machine that computed it."""
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


def _tell(done: int, runs: int) -> None:
    if runs >= _TELL_FROM and sys.stderr.isatty():
        sys.stderr.write(f"\ranalysing run {done + 1} of {runs} ..." + "\n" * (done + 1 == runs))


def _facts(campaign: Campaign, found: Results, used: Sequence[Digest]) -> dict[str, Any]:
    return {
        "results": found,
        "campaign": campaign.facts,
        "started": iso(campaign.facts.started_at_ns),
        "folder": campaign.name,
        "findings": sentences(found),
        "design": [each for each in (_design(campaign), arms.table(campaign.experiment)) if each.rows],
        "tables": tables.tables(found),
        "validity": tables.validity(found),
        "scorecard": tables.scorecard(found),
        "limits": limits(campaign, found, used),
        "setup": _setup(campaign),
    }


def sentences(found: Results) -> list[str]:
    return summary.sentences(found) + capacity.sentences(found.capacity)


def _design(campaign: Campaign) -> Table:
    """What each load was: without it a cold-start rate means nothing."""
    rows: list[tuple[str, ...]] = []
    for name, each in campaign.experiment.loads.items():
        traffic = each.traffic
        sent = ", then ".join(map(_sent, traffic.phases or (traffic,)))
        changed = [
            f"{regime}: {key} {value}" for regime, o in each.overrides.items() for key, value in to_plain(o).items()
        ]
        shown = f"{each.blocks}{' (descriptive)' * each.descriptive}"
        rows.append((name, each.target, sent, shown, "; ".join(changed) or "-"))
    columns = ("load", "target", "traffic", "blocks", "instead of the regime's own")
    return Table("Design", columns, rows, words=True)


def _sent(traffic: Traffic) -> str:
    windows = f", {traffic.bursts} windows of {traffic.burst_length}" if traffic.bursts else ""
    return f"{traffic.model}, {traffic.requests} in {traffic.duration}{windows}"


def _setup(campaign: Campaign) -> list[tuple[str, str]]:
    facts = campaign.facts
    provider = facts.platform.get("provider", {})
    commit = (facts.source.commit or "not a git checkout") + " with local changes" * facts.source.dirty
    platform = (
        f"{provider.get('provider', 'unknown')} ({provider.get('orchestration', 'unknown')}), "
        f"routing {provider.get('routing', 'unknown')}"
    )
    schedules = facts.schedules_sha256
    return [
        *((key, str(value)) for key, value in facts.host.items()),
        ("platform", platform),
        ("source", commit),
        ("seed", str(campaign.experiment.seed)),
        ("order of runs", ", ".join(facts.order)),
        ("schedules (SHA-256)", ", ".join(f"{name} {digest[:12]}" for name, digest in schedules.items())),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
    ]


def in_terminal(found: Results, folder: Path) -> str:
    """What a person reads when the campaign ends."""
    validity = found.validity
    used = f"{validity.runs_used} of {validity.runs_planned} runs used"
    titles: tuple[str, ...] = (*_IN_TERMINAL, summary.contrasts_title(found.primary_outcome))
    # Several of them were named; one alone always stands beside cold starts.
    titles += ("Secondary outcomes",) * (len({row.outcome for row in found.secondary_contrasts}) > 1)
    shown = [each for each in tables.tables(found) if each.title in titles]
    return "\n".join(
        [
            "",
            f"{found.campaign.name}   primary outcome: {found.primary_outcome}   {used}",
            *(line for table in shown for line in _in_text(table)),
            "",
            *(_wrapped(f"- {sentence}") for sentence in sentences(found)),
            *(_wrapped(f"- {each.text} ({each.evidence})") for each in found.recommendations),
            "",
            *(f"  DATA      {finding}" for finding in validity.findings),
            *(f"  excluded  {item.cell}: {'; '.join(item.reasons)}" for item in validity.excluded),
            *[""] * bool(validity.findings or validity.excluded),
            f"report: {folder / 'report.html'}",
        ]
    )


_IN_TERMINAL = (
    "Cells",
    "Effects of the factors",
    "Controls",
    "Thresholds",
    "Is an arm worse?",
    "Capacity",
    "Anomalies",
)


def _in_text(table: Table) -> list[str]:
    notes = [filled(note) for note in table.notes]
    rows = [tuple(cell.replace("\n", " | ") for cell in row) for row in table.rows]
    return ["", text_table(table.columns, rows, words=table.words), *notes]


def _wrapped(sentence: str) -> str:
    return filled(sentence, first="")
