"""Numbers as people read them, and plain tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

_WIDTH = 118  # of a terminal, less what stands before


class Table(NamedTuple):
    """rows: text. words: columns are words rather than figures, and stand to the left."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, ...]]
    notes: Sequence[str] = ()
    words: bool = False


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> str:
    """Columns as wide as they need to be, numbers to the right; of words, the last fills what a terminal has left."""
    if words:
        used = sum(max(len(row[i]) for row in [columns, *rows]) + 2 for i in range(len(columns) - 1))
        rows = [line for row in rows for line in _wrapped(row, max(40, _WIDTH - used))]
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]

    def line(row: Sequence[str]) -> str:
        left = [i < 2 or (words and i == len(columns) - 1) for i in range(len(columns))]
        cells = [row[i].ljust(widths[i]) if left[i] else row[i].rjust(widths[i]) for i in range(len(columns))]
        return "  ".join(cells).rstrip()

    return "\n".join([line(columns), line(["-" * width for width in widths]), *(line(row) for row in rows)])


def _wrapped(row: Sequence[str], width: int) -> list[tuple[str, ...]]:
    """The row in lines, its last cell no wider than `width`."""
    lines = [part for text in row[-1].splitlines() for part in textwrap.wrap(text, width, break_on_hyphens=False)]
    first, *others = lines or [""]
    return [(*row[:-1], first), *(("",) * (len(row) - 1) + (line,) for line in others)]


def filled(text: str, indent: str = "  ", first: str | None = None) -> str:
    """As wide as a terminal; words with a hyphen stay whole."""
    initial = indent if first is None else first
    return textwrap.fill(text, _WIDTH, initial_indent=initial, subsequent_indent=indent, break_on_hyphens=False)


def with_interval(value: float | None, low: float | None, high: float | None, style: Any) -> str:
    if value is None:
        return "-"
    return f"{style(value)} [{style(low)}, {style(high)}]" if low is not None and high is not None else style(value)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value * 100:.1f} %"


def points(value: float | None) -> str:
    """A difference of rates, in percentage points."""
    return "-" if value is None else f"{value * 100:+.1f}"


def more(value: float | None) -> str:
    """By which share something is more, or less."""
    return "-" if value is None else f"{value * 100:+.1f} %"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def relation(p: float | None) -> str:
    """`= .012` or `< .001`, to follow a p in a sentence."""
    said = p_value(p)
    return said if said.startswith("<") else f"= {said}"


def p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"


def ratio(value: float | None, low: float | None = None, high: float | None = None) -> str:
    return with_interval(value, low, high, lambda each: f"{number(each)}x")
