"""What closed-loop load generation hides: two records of the same schedule, compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis import words
from analysis.report import pages, plots
from fave.campaign import record
from fave.campaign.rundir import read_jsonl, write_atomic, write_json
from fave.errors import InvalidRunError
from fave.traffic.arrivals import read_csv
from fave.wire.invocation import with_caller_side
from fave.wire.records import ArrivalRow, StageRow

LOOPS = ("open", "closed")
_SLOW_S = 1.0
# What each loop itself takes for the latency.
_SEEN = (("open", "delay_s"), ("closed", "latency_s"))
COLUMNS = ("record", "requests", "mean s", "p50 s", "p95 s", "max s", f"over {_SLOW_S:g} s", "cold", "cold-start rate")
_NAMES = {
    "open": "open loop, from the schedule",
    "closed": "closed loop, as it records it",
    "caused": "closed loop, from the schedule",
}
TITLES = {"stall": "A replica stands still for {stall_s:g} s", "cold": "Bursts meet functions that scaled to zero"}


class Record(NamedTuple):
    """One loop's record of a schedule. Seconds; `latency_s` as the tool sees it, `delay_s` from the schedule."""

    due_s: np.ndarray[Any, Any]
    latency_s: np.ndarray[Any, Any]
    delay_s: np.ndarray[Any, Any]
    cold: int


def write(folder: Path) -> dict[str, Any]:
    """Analyse a distortion run: results.json, report.html, report.md, figures/.

    Raises
    ------
    InvalidRunError
        When the folder is none, or a record cannot be read or has no answered request.
    """
    facts = record.read(folder, "distortion.json", record.Distortion)
    scenarios, figures = [], {}
    for name in facts.scenarios:
        records = {loop: _record(folder / name, loop) for loop in LOOPS}
        title = TITLES[name].format(stall_s=facts.stall_s)
        figures[name] = plots.distortion(records)
        write_atomic(folder / "figures" / f"{name}.svg", figures[name])
        invalid = _invalid(folder / name)
        scenarios.append(
            {"name": name, "title": title, "rows": _rows(records), "finding": _finding(records), "invalid": invalid}
        )
    valid = not any(scenario["invalid"] for scenario in scenarios)
    found = {"schema": 1, "target": facts.target, "valid": valid, "scenarios": scenarios}
    shown = {"found": found, "columns": COLUMNS, "figures": figures, "folder": folder.name, "text": text_row}
    pages.write(folder, "distortion", shown)
    write_json(folder / "results.json", found)
    return found


def _record(folder: Path, loop: str) -> Record:
    due_us = dict(enumerate(read_csv(folder / "schedule.csv")))
    started_at_ns = record.read(folder / loop, "generator.json", record.Generated).started_at_ns
    try:
        rows = [row for row in read_jsonl(folder / loop / "arrivals-0.jsonl", ArrivalRow) if row.done_at_ns]
        rows.sort(key=lambda row: row.k)
        due_ns = np.array([started_at_ns + due_us[row.k] * 1000 for row in rows])
        done_ns = np.array([row.done_at_ns for row in rows])
        latency_ns = done_ns - np.array([row.scheduled_at_ns for row in rows])
        cold = sum(bool(_labelled(row).cold) for row in rows)
    except (KeyError, ValueError, OverflowError) as error:
        raise InvalidRunError(f"{folder / loop}: its rows are not those of its schedule ({error})") from error
    if not rows:
        raise InvalidRunError(f"{folder / loop}: no request was answered")
    return Record((due_ns - started_at_ns) / 1e9, latency_ns / 1e9, (done_ns - due_ns) / 1e9, cold)


def _labelled(row: ArrivalRow) -> StageRow:
    """By the stamps that came with the reply, as every other label."""
    made = StageRow(request_id=row.request_id, invocation_id=row.invocation_id, stage=row.function)
    return with_caller_side(made, sent_at_ns=row.sent_at_ns, returned_at_ns=row.done_at_ns, headers=row.reply_headers)


def _invalid(folder: Path) -> list[str]:
    """Why the open-loop record is not to be believed, if it is not: the load left otherwise than scheduled."""
    verdict = record.read(folder / "open", "generator.json", record.Generated).outcome.verdict
    if verdict is None:
        raise InvalidRunError(f"{folder / 'open'}: generator.json has no verdict")
    return verdict.reasons()


def _rows(records: dict[str, Record]) -> list[dict[str, Any]]:
    opened, closed = records["open"], records["closed"]
    return [
        _row("open", opened.delay_s, opened.cold),
        _row("closed", closed.latency_s, closed.cold),
        _row("caused", closed.delay_s, closed.cold),
    ]


def _row(name: str, latency_s: np.ndarray[Any, Any], cold: int) -> dict[str, Any]:
    p50, p95 = np.quantile(latency_s, (0.5, 0.95))
    return {
        "record": _NAMES[name],
        "requests": len(latency_s),
        "mean_s": float(latency_s.mean()),
        "p50_s": float(p50),
        "p95_s": float(p95),
        "max_s": float(latency_s.max()),
        "slow": int((latency_s > _SLOW_S).sum()),
        "cold": cold,
        "cold_share": cold / len(latency_s),
    }


def text_row(row: dict[str, Any]) -> tuple[str, ...]:
    times = (f"{row[name]:.3f}" for name in ("mean_s", "p50_s", "p95_s", "max_s"))
    return (row["record"], str(row["requests"]), *times, str(row["slow"]), str(row["cold"]), f"{row['cold_share']:.0%}")


def _finding(records: dict[str, Record]) -> str:
    opened, closed = (_row(loop, getattr(records[loop], of), records[loop].cold) for loop, of in _SEEN)
    told = (
        f"Of the same {opened['requests']} arrivals, open loop saw {opened['slow']} take over {_SLOW_S:g} s and "
        f"{opened['cold']} meet a cold start; closed loop recorded {closed['slow']} and {closed['cold']}. "
        f"Mean {opened['mean_s']:.2f} against {closed['mean_s']:.2f} s, p95 {opened['p95_s']:.2f} against "
        f"{closed['p95_s']:.2f} s."
    )
    hidden = opened["slow"] > closed["slow"] or opened["cold"] > closed["cold"]
    return told + (" A user who waits does not send while things are slow." if hidden else "")


def in_terminal(found: dict[str, Any], folder: Path) -> str:
    lines = []
    for scenario in found["scenarios"]:
        rows = list(map(text_row, scenario["rows"]))
        lines += ["", scenario["title"], "", words.text_table(COLUMNS, rows)]
        lines += ["", f"- {scenario['finding']}"]
        lines += [f"- INVALID: {reason}" for reason in scenario["invalid"]]
    return "\n".join([*lines, "", f"report: {folder / 'report.html'}"])
