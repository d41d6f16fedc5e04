"""Does a campaign that was run again agree with the first one? From the answers of both."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from analysis.answers.results import results
from analysis.outcome import named
from analysis.report import across
from analysis.rows import digest
from analysis.rows.folder import load
from analysis.words import points, text_table, with_interval
from fave.campaign.results import Contrast, Results
from fave.errors import EXIT_DIFFERS, EXIT_INCONCLUSIVE, EXIT_OK

_CONFIDENCE = 0.95
_COLUMNS = ("what", "then", "now", "now - then, points [95 %]", "")
_SAID = {True: "compatible", False: "DIFFERS", None: "not decided"}
_LEGEND = (
    "cold-start rates by cell, and their differences by contrast, in percent and points. Compatible: the two estimates "
    "differ by no more than their own intervals allow (95 % over all rows together). Not decided: one has no interval."
)


class Figure(NamedTuple):
    """An estimate with its 95 % interval; None where there is none."""

    estimate: float | None
    low: float | None
    high: float | None


class Row(NamedTuple):
    """One figure, then and now. difference: now - then, with the interval that holds for all rows together."""

    what: str
    then: Figure
    now: Figure
    difference: Figure
    compatible: bool | None


class Changed(NamedTuple):
    """A verdict, a control's or a threshold's state that is another one."""

    what: str
    then: str
    now: str


class Reproduction(NamedTuple):
    rows: list[Row]
    verdicts: int
    changed: list[Changed]

    @property
    def exit_code(self) -> int:
        known = [row.compatible for row in self.rows if row.compatible is not None]
        if self.changed or not all(known):
            return EXIT_DIFFERS
        return EXIT_OK if known else EXIT_INCONCLUSIVE


def judge(then: Results, now: Results) -> Reproduction:
    """then, now: `results.json` of both. What only one of them has a figure of is not decided."""
    before, after = dict(_figures(then)), dict(_figures(now))
    none = Figure(None, None, None)
    pairs = [(what, figure, after.get(what, none)) for what, figure in before.items()]
    decided = sum(_difference(a, b, 1.0) is not None for _, a, b in pairs)
    # Bonferroni: one row in twenty would differ by chance.
    normal = NormalDist()
    wider = normal.inv_cdf(1 - (1 - _CONFIDENCE) / (2 * max(1, decided))) / normal.inv_cdf(1 - (1 - _CONFIDENCE) / 2)
    rows = []
    for what, a, b in pairs:
        found = _difference(a, b, wider)
        inside = found and (found.low or 0.0) <= 1e-9 and (found.high or 0.0) >= -1e-9
        rows.append(Row(what, a, b, found or none, None if found is None else bool(inside)))
    states, later = dict(_states(then)), dict(_states(now))
    both = [what for what in states if what in later]
    changed = [Changed(what, states[what], later[what]) for what in both if states[what] != later[what]]
    return Reproduction(rows, len(both), changed)


def _difference(a: Figure, b: Figure, wider: float) -> Figure | None:
    """Now - then, with the interval that follows from both (MOVER: Zou and Donner, Statistics in Medicine 27, 2008).

    It asks of b what a prediction interval from a asks, and holds for intervals that are not symmetrical. Without
    intervals only two that are the same (all runs agree, then and now) can be judged.
    """
    if a.estimate is None or b.estimate is None:
        return None
    difference = b.estimate - a.estimate
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Figure(difference, difference, difference) if abs(difference) < 1e-9 else None
    down = wider * math.hypot(b.estimate - b.low, a.high - a.estimate)
    up = wider * math.hypot(b.high - b.estimate, a.estimate - a.low)
    return Figure(difference, difference - down, difference + up)


def _figures(found: Results) -> Iterator[tuple[str, Figure]]:
    for cell in found.cells:
        rate = cell.cold_rate
        yield f"{cell.load}, {cell.regime}", Figure(rate.estimate, rate.low, rate.high)
        slow = cell.slow_rate and cell.slow_rate.rate
        if slow:
            yield f"{cell.load}, {cell.regime}: slow", Figure(slow.estimate, slow.low, slow.high)
    for row in _planned(found):
        yield _contrast(row), Figure(row.difference, *(row.ci95 or (None, None)))


def _contrast(row: Contrast) -> str:
    return f"{row.load}: {named(row)}"


def _planned(found: Results) -> list[Contrast]:
    """Contrasts of regimes, and effects of factors."""
    return [*found.contrasts, *found.effects]


def _states(found: Results) -> Iterator[tuple[str, str]]:
    for row in _planned(found):
        if row.difference is not None:
            yield _contrast(row), row.verdict
    for each in found.controls:
        yield f"control {each.kind}, {each.load}, {', '.join(each.regimes)}", each.state
    for guard in found.guards:
        yield f"{guard.a} worse than {guard.b}, {guard.load}: {guard.outcome}", guard.state
    for met in found.thresholds:
        yield f"threshold {met.threshold} ({met.load}, {met.regime})", met.state


def compared(then: Path, now: Path) -> tuple[Reproduction, list[str]]:
    """Both folders, analysed by this version; and everything about set-up and design that is not the same."""
    campaigns = [load(folder) for folder in (then, now)]
    answers = [results(each, digest.of_all(each)) for each in campaigns]
    return judge(*answers), [str(each) for each in across.differences(*campaigns)]


def in_terminal(found: Reproduction, differences: Sequence[str]) -> str:
    rows = [
        (
            row.what,
            _percent(row.then.estimate),
            _percent(row.now.estimate),
            with_interval(row.difference.estimate, row.difference.low, row.difference.high, points),
            _SAID[row.compatible],
        )
        for row in found.rows
    ]
    return "\n".join(
        [
            text_table(_COLUMNS, rows),
            textwrap.fill(_LEGEND, 98, initial_indent="  ", subsequent_indent="  "),
            *(_wrapped(f"- verdict of {each.what}: {each.then} then, {each.now} now") for each in found.changed),
            *(_wrapped(f"- not the same: {each}") for each in differences),
            "",
            _wrapped(_verdict(found)),
        ]
    )


def _verdict(found: Reproduction) -> str:
    known = [row.compatible for row in found.rows if row.compatible is not None]
    open_ = f"; not decided: {len(found.rows) - len(known)}" * (len(known) < len(found.rows))
    if found.exit_code == EXIT_INCONCLUSIVE:
        return "not decided: no figure has an interval in both"
    if found.exit_code == EXIT_OK:
        return f"compatible: all of {len(known)} intervals and {found.verdicts} verdicts{open_}"
    changed = f"{len(found.changed)} of {found.verdicts} verdicts"
    return f"differs: {known.count(False)} of {len(known)} intervals, {changed}{open_}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f}"


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, 98, subsequent_indent="  ")
