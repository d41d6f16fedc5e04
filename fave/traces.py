"""Recorded traffic: arrival times out of published trace formats, read line by line.

azure2019: Azure Functions 2019 (Shahrad et al., ATC'20), `invocations_per_function_md.anon.d*.csv`: HashOwner, HashApp,
    HashFunction, Trigger and one column of counts for each minute 1..1440. Where in it an invocation lies is not
    recorded: `within_minute` says what is assumed, `uniform` (independent and uniform: Poisson given the counts) or
    `even` (equally spaced, half a gap from the minute's edges).
azure2021: Azure Functions 2021 (Zhang et al., SOSP'21), `app,func,end_timestamp,duration` in seconds. An arrival is the
    end minus the duration. The file is ordered by ends, so a function's arrivals are sorted here; what had begun before
    the trace did is left out.
timestamps: any CSV with a header; the column `timestamp` (seconds, ascending) or the only column there is. The first
    arrival is time 0.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from fave.errors import ConfigError
from fave.gaps import Draw
from fave.settings import Duration

_MINUTES = 1440
_NAMES_2019 = ("HashOwner", "HashApp", "HashFunction", "Trigger")


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Which recording, and how it is scaled.

    functions: names (or their beginnings) of the functions to replay, all if empty; several are laid over each other.
    start: where in the recording to begin. speed: 2 plays twice as fast, so gaps are halved. keep: share of arrivals
    that is kept, each decided independently: lowers the rate and leaves the clock alone.
    """

    file: str
    format: Literal["azure2019", "azure2021", "timestamps"]
    functions: tuple[str, ...] = ()
    start: Duration = Duration(0)
    speed: float = 1.0
    keep: float = 1.0
    within_minute: Literal["uniform", "even"] = "uniform"

    def __post_init__(self) -> None:
        problems = []
        if not self.file:
            problems.append("file: which recording?")
        if not 0 < self.speed < math.inf:
            problems.append(f"speed: {self.speed:g} must be over 0")
        if not 0 < self.keep <= 1:
            problems.append(f"keep: {self.keep:g} must be over 0 and at most 1")
        if self.functions and self.format == "timestamps":
            problems.append("functions: a file of timestamps names none")
        if self.within_minute != "uniform" and self.format != "azure2019":
            problems.append("within_minute: only azure2019 has counts by minute")
        if problems:
            raise ValueError("\n".join(problems))


def replay(trace: Trace, duration_s: float, draw: Draw) -> Iterator[float]:
    """Arrival times in seconds from the start of the run, ascending, in [0, duration).

    Raises
    ------
    ConfigError
        With file and line: what cannot be read, is negative, or not in order; a function that is not there.
    """
    for time_s in _recorded(trace, draw):
        at_s = (time_s - trace.start) / trace.speed
        if at_s >= duration_s:
            return
        if at_s >= 0 and (trace.keep == 1 or draw() < trace.keep):
            yield at_s


def _recorded(trace: Trace, draw: Draw) -> Iterator[float]:
    path = Path(trace.file)
    if trace.format == "azure2019":
        return _azure2019(path, trace, draw)
    if trace.format == "azure2021":
        return _azure2021(path, trace)
    return _timestamps(path)


def _rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(`file:line`, cells), the header first."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, cells in enumerate(csv.reader(file), start=1):
                if cells:
                    yield f"{path}:{number}", cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _header(path: Path, rows: Iterator[tuple[str, list[str]]], wanted: Iterable[str]) -> dict[str, int]:
    _, cells = next(rows, ("", []))
    columns = {name.strip(): i for i, name in enumerate(cells)}
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise ConfigError(
            f"{path}:1: no column {', '.join(missing)} (there is {', '.join(cells[:6])})",
            hint="the formats are azure2019, azure2021, timestamps: docs/load.md",
        )
    return columns


def _number(text: str, place: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise ConfigError(f"{place}: {what} {text!r} is not a number of at least 0")
    return value


def _selected(name: str, trace: Trace) -> bool:
    return not trace.functions or any(name.startswith(wanted) for wanted in trace.functions)


def _insist(found: object, path: Path, trace: Trace) -> None:
    if not found:
        what = f"no function that begins with {', '.join(trace.functions)}" if trace.functions else "no invocation"
        raise ConfigError(f"{path}: {what}")


def _azure2019(path: Path, trace: Trace, draw: Draw) -> Iterator[float]:
    rows = _rows(path)
    columns = _header(path, rows, (*_NAMES_2019, "1"))
    first, function = columns["1"], columns["HashFunction"]
    counts = [0] * _MINUTES
    found = False
    for place, cells in rows:
        if len(cells) != first + _MINUTES:
            raise ConfigError(f"{place}: {len(cells)} cells instead of {first + _MINUTES} (4 names, 1440 minutes)")
        if _selected(cells[function], trace):
            found = True
            for minute, text in enumerate(cells[first:]):
                if text != "0":
                    counts[minute] += _count(text, place, minute)
    _insist(found, path, trace)
    for minute, count in enumerate(counts):
        if 60 * (minute + 1) <= trace.start:
            continue
        if trace.within_minute == "even":
            offsets = [(i + 0.5) / count for i in range(count)]
        else:
            offsets = sorted(draw() for _ in range(count))
        yield from (60 * (minute + offset) for offset in offsets)


def _count(text: str, place: str, minute: int) -> int:
    if not text.isdigit():
        raise ConfigError(f"{place}: minute {minute + 1}: {text!r} is not a count")
    return int(text)


def _azure2021(path: Path, trace: Trace) -> Iterator[float]:
    rows = _rows(path)
    columns = _header(path, rows, ("app", "func", "end_timestamp", "duration"))
    function, end, duration = columns["func"], columns["end_timestamp"], columns["duration"]
    times: list[float] = []
    found = False
    for place, cells in rows:
        if len(cells) < len(columns):
            raise ConfigError(f"{place}: {len(cells)} cells instead of {len(columns)}")
        if _selected(cells[function], trace):
            found = True
            at_s = _number(cells[end], place, "end_timestamp") - _number(cells[duration], place, "duration")
            if at_s >= 0:
                times.append(at_s)
    _insist(found, path, trace)
    yield from sorted(times)


def _timestamps(path: Path) -> Iterator[float]:
    rows = _rows(path)
    _, cells = next(rows, ("", []))
    names = [name.strip() for name in cells]
    if len(names) != 1 and "timestamp" not in names:
        raise ConfigError(f"{path}:1: no column timestamp (there is {', '.join(names[:6]) or 'nothing'})")
    if len(names) == 1 and _is_number(names[0]):
        raise ConfigError(f"{path}:1: {names[0]!r} is no header", hint="name the column: timestamp")
    column = names.index("timestamp") if "timestamp" in names else 0
    first: float | None = None
    last = 0.0
    for place, cells in rows:
        if len(cells) <= column:
            raise ConfigError(f"{place}: {len(cells)} cells, column {column + 1} is missing")
        time_s = _number(cells[column], place, "timestamp")
        first = time_s if first is None else first
        if time_s < last:
            raise ConfigError(f"{place}: {time_s:.10g} comes after {last:.10g}: timestamps must ascend")
        last = time_s
        yield time_s - first
    _insist(first is not None, path, Trace(file=str(path), format="timestamps"))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
