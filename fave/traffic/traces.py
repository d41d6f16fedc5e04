"""Recorded traffic: arrival times out of published trace formats, read line by line.

azure2019: Azure Functions 2019 (Shahrad et al., ATC'20), `invocations_per_function_md.anon.d*.csv`: HashOwner, HashApp,
    HashFunction, Trigger and one column of counts for each minute 1..1440. Where in it an invocation lies is not
    recorded: `within_minute` says what is assumed, `uniform` (independent and uniform: Poisson given the counts) or
    `even` (equally spaced, half a gap from the minute's edges).
azure2021: Azure Functions 2021 (Zhang et al., SOSP'21), `app,func,end_timestamp,duration` in seconds. An arrival is the
    end minus the duration. The file is ordered by ends, so a function's arrivals are sorted here; what had begun before
    the trace did is left out.
log: what servers write of each request (fave/traffic/access_log.py); `functions` are beginnings of paths.
timestamps: any CSV with a header; the column `timestamp` (or `timestamp_ms`, `_us`, `_ns`) or the only column there is,
    ascending. The first arrival is time 0.

How a file is written (fave/traffic/csv_file.py), which mark its decimals have and what its times are counted in is
recognised from header and first rows, and told by `recognised`; what differs further down is refused.
"""

from __future__ import annotations

import bisect
import datetime
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic import access_log, csv_file
from fave.traffic.csv_file import Form
from fave.traffic.gaps import Draw

# Of one run, however they are made.
MOST_ARRIVALS = 10_000_000
_DRAWS = 20
_MINUTES = tuple(map(str, range(1, 1441)))
_NAMES_2019 = ("HashOwner", "HashApp", "HashFunction", "Trigger")
_NUMBER = re.compile(r"\+?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WITH_COMMA = re.compile(r"\+?[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?")
_ISO = re.compile(r"[0-9-]{10}[T ][0-9:]{5,8}(?:[.,][0-9]+)?(?P<zone>Z|[-+][0-9]{2}:?[0-9]{2})?", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)
_UNITS = {
    "s": ("seconds", 1),
    "ms": ("milliseconds", 10**3),
    "us": ("microseconds", 10**6),
    "ns": ("nanoseconds", 10**9),
}
# From this on, a number of such a unit is a date of the last decades, which it is not in a longer unit.
_SMALLEST = {"ns": 1e17, "us": 1e14, "ms": 1e11, "s": 0.0}


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """Which recording, and how it is scaled.

    functions: names (or their beginnings) of the functions to replay, all if empty; several are laid over each other.
    start: where in the recording to begin. speed: 2 plays twice as fast, so gaps are halved. keep: share of arrivals
    that is kept, each decided independently: lowers the rate and leaves the clock alone. anywhere: of a recording that
    is longer than the run, a window that the seed draws.
    """

    file: str
    format: Literal["azure2019", "azure2021", "timestamps", "log"]
    functions: tuple[str, ...] = ()
    start: Duration = Duration(0)
    speed: float = 1.0
    keep: float = 1.0
    within_minute: Literal["uniform", "even"] = "uniform"
    anywhere: bool = False

    @property
    def path(self) -> Path:
        return Path(self.file).expanduser()

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
        if self.anywhere and self.start:
            problems.append("start: anywhere says that the seed draws it")
        if self.within_minute != "uniform" and self.format != "azure2019":
            problems.append("within_minute: only azure2019 has counts by minute")
        if problems:
            raise ValueError("\n".join(problems))


class _Source(NamedTuple):
    """A file as it was recognised: how it is read, for people, and its arrivals in seconds from its beginning."""

    said: list[str]
    times_s: Callable[[Draw], Iterator[float]]


def recognised(trace: Trace) -> str:
    """How the file is read, for people.

    Raises
    ------
    ConfigError
        For what cannot be read, as far as header and first rows show it.
    """
    return f"{trace.format}, {', '.join(_source(trace, math.inf).said)}"


def replay(trace: Trace, duration_s: float, draw: Draw) -> Iterator[float]:
    """Arrival times in seconds from the start of the run, ascending, in [0, duration).

    Raises
    ------
    ConfigError
        With file and line: what cannot be read, is negative, or not in order; a function that is not there; counts that
        would make too many arrivals.
    """
    times_s = _source(trace, duration_s).times_s(draw)
    start_s = float(trace.start)
    if trace.anywhere:
        whole = list(times_s)
        start_s = _anywhere(whole, duration_s * trace.speed, draw)
        times_s = iter(whole)
    for time_s in times_s:
        at_s = (time_s - start_s) / trace.speed
        if at_s >= duration_s:
            return
        if at_s >= 0 and (trace.keep == 1 or draw() < trace.keep):
            yield at_s


def _anywhere(times_s: Sequence[float], window_s: float, draw: Draw) -> float:
    """Where a window of the recording begins: anywhere in it, but if that is silent for long at one of its arrivals."""
    last_s = max(0.0, times_s[-1] - window_s) if times_s else 0.0
    for _ in range(_DRAWS):
        start_s = draw() * last_s
        first = bisect.bisect_left(times_s, start_s)
        if first < len(times_s) and times_s[first] < start_s + window_s:
            return start_s
    return min(last_s, times_s[int(draw() * len(times_s))]) if times_s else 0.0


def format_of(path: Path) -> Literal["timestamps", "log"]:
    """Of a recording of one's own. Raises ConfigError where it cannot be read."""
    return "log" if access_log.is_log(path) else "timestamps"


def _source(trace: Trace, duration_s: float) -> _Source:
    if trace.format == "log":
        log = access_log.recognise(trace.path)
        return _Source(log.said, lambda draw: log.times_s(trace.functions, draw))
    form = csv_file.recognise(trace.path)
    if trace.format == "azure2019":
        return _azure2019(form, trace, duration_s)
    return _azure2021(form, trace) if trace.format == "azure2021" else _timestamps(form, trace)


class _Numbers(NamedTuple):
    """How a file's numbers are written: the first rows of these columns say whether a comma is their decimal mark."""

    path: Path
    comma: bool
    said: list[str]

    @classmethod
    def of(cls, form: Form, columns: Sequence[int]) -> _Numbers:
        # Between commas a cell with one is a quoted thousand, not a fraction.
        comma = form.separator != "," and any(
            _WITH_COMMA.fullmatch(cells[column].strip()) for _, cells in form.first for column in columns
        )
        return cls(form.path, comma, ["decimal commas"] * comma)

    def read(self, cell: str, line: int, what: str) -> float:
        text = cell
        if self.comma:
            text = "" if "." in cell else cell.replace(",", ".")
        try:
            # What else `float` reads: digits of other scripts, and `1_000`.
            value = float(text) if cell.isascii() and "_" not in cell else math.nan
        except ValueError:
            value = math.nan
        if 0 <= value < math.inf:
            return value
        mark, other = ("comma", ".") if self.comma else ("point", ",")
        hint = f"decimals have a {mark} in the rows before, and thousands are not separated" if other in cell else ""
        raise ConfigError(f"{self.path}:{line}: {what} {cell[:40]!r} is not a number of at least 0", hint=hint)


def _selected(name: str, trace: Trace) -> bool:
    return not trace.functions or any(name.startswith(wanted) for wanted in trace.functions)


def _insist(found: object, trace: Trace) -> None:
    if not found:
        what = f"no function that begins with {', '.join(trace.functions)}" if trace.functions else "no invocation"
        raise ConfigError(f"{trace.file}: {what}")


def _azure2019(form: Form, trace: Trace, duration_s: float) -> _Source:
    _, _, function, _, first = form.places(*_NAMES_2019, "1")
    if form.columns[first:] != _MINUTES:
        raise ConfigError(f"{form.path}: the last columns are not the minutes 1 to {len(_MINUTES)}, one each")

    def times_s(draw: Draw) -> Iterator[float]:
        counts = [0] * len(_MINUTES)
        found = False
        for line, cells in csv_file.rows(form):
            if _selected(cells[function], trace):
                found = True
                for minute, text in enumerate(cells[first:]):
                    if text != "0":
                        counts[minute] += _count(text, f"{form.path}:{line}", minute)
        _insist(found, trace)
        _refuse_too_many(trace, counts, duration_s)
        for minute, count in enumerate(counts):
            if 60 * (minute + 1) <= trace.start:
                continue
            if trace.within_minute == "even":
                offsets = [(i + 0.5) / count for i in range(count)]
            else:
                offsets = sorted(draw() for _ in range(count))
            yield from (60 * (minute + offset) for offset in offsets)

    return _Source(form.said(), times_s)


def _count(cell: str, place: str, minute: int) -> int:
    text = cell.strip()
    # Other scripts have digits of their own, and some are none to `int`.
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ConfigError(f"{place}: minute {minute + 1}: {cell[:40]!r} is not a count (digits 0 to 9)")
    return int(text)


def _refuse_too_many(trace: Trace, counts: Sequence[int], duration_s: float) -> None:
    """Before any is drawn: a minute's arrivals are in memory together."""
    end_s = trace.start + duration_s * trace.speed
    shares = [max(0.0, min(end_s, 60 * (m + 1)) - max(trace.start, 60 * m)) / 60 for m in range(len(counts))]
    expected = trace.keep * sum(count * share for count, share in zip(counts, shares, strict=True))
    most = max((count for count, share in zip(counts, shares, strict=True) if share), default=0)
    if max(expected, most) > MOST_ARRIVALS:
        said = f"{expected:,.0f} arrivals in the run, up to {most:,} in a minute of the recording"
        raise ConfigError(
            f"{trace.file}: {said}; at most {MOST_ARRIVALS:,} are sent",
            hint="fewer functions, or a shorter duration",
        )


def _azure2021(form: Form, trace: Trace) -> _Source:
    _, function, end, duration = form.places("app", "func", "end_timestamp", "duration")
    numbers = _Numbers.of(form, (end, duration))

    def times_s(_: Draw) -> Iterator[float]:
        times: list[float] = []
        found = False
        for line, cells in csv_file.rows(form):
            if _selected(cells[function], trace):
                found = True
                ended_s = numbers.read(cells[end], line, "end_timestamp")
                at_s = ended_s - numbers.read(cells[duration], line, "duration")
                if at_s >= 0:
                    times.append(at_s)
        _insist(found, trace)
        yield from sorted(times)

    return _Source([*form.said(), *numbers.said, "times in seconds"], times_s)


def _timestamps(form: Form, trace: Trace) -> _Source:
    column, unit = _time_column(form)
    name = form.columns[column]
    text = form.first[0][1][column].strip() if form.first else ""
    iso, numbers = _ISO.fullmatch(text), _Numbers.of(form, [column])
    by_size = ""
    if iso:
        unit, said = "us", f"ISO 8601 {'with a zone' if iso['zone'] else 'without a zone, taken as UTC'}"
    else:
        if not unit:
            value = numbers.read(text, form.first[0][0], name) if text else 0.0
            unit = next(each for each, least in _SMALLEST.items() if value >= least)
            by_size = " (by their size)" if unit != "s" else ""
        said = f"in {_UNITS[unit][0]}{by_size}"
    per_s = _UNITS[unit][1]

    def read(cell: str, line: int) -> float:
        return _moment(cell, f"{form.path}:{line}", zone=bool(iso["zone"])) if iso else numbers.read(cell, line, name)

    def times_s(_: Draw) -> Iterator[float]:
        first: float | None = None
        last, before = 0.0, ""
        for line, cells in csv_file.rows(form):
            time = read(cells[column], line)
            first = time if first is None else first
            if time < last:
                raise ConfigError(
                    f"{form.path}:{line}: {cells[column].strip()} comes after {before.strip()}: timestamps must ascend"
                )
            last, before = time, cells[column]
            yield (time - first) / per_s
        _insist(first is not None, trace)

    return _Source([f"column {name!r} {said}", *form.said(), *numbers.said], times_s)


def _time_column(form: Form) -> tuple[int, str]:
    """Which column has the times, and the unit that its name tells."""
    known = {f"timestamp_{unit}": unit for unit in _UNITS}
    names = [name.casefold() for name in form.columns]
    if len(names) == 1 and (
        _NUMBER.fullmatch(names[0]) or _WITH_COMMA.fullmatch(names[0]) or _ISO.match(names[0].upper())
    ):
        raise ConfigError(f"{form.path}:1: {form.columns[0]!r} is no header", hint="name the column: timestamp")
    if len(names) == 1:
        unit = names[0].rpartition("_")[2]
        return 0, unit if unit in _UNITS else ""
    there = ["timestamp"] if "timestamp" in names else [name for name in names if name in known]
    if len(there) > 1:
        raise ConfigError(f"{form.path}: {', '.join(there)}: which of these columns?", hint="name it timestamp")
    (column,) = form.places(*(there or ["timestamp"]))
    return column, known.get(names[column], "")


def _moment(cell: str, place: str, *, zone: bool) -> int:
    """An ISO time in microseconds since 1970."""
    text = cell.strip()
    iso = _ISO.fullmatch(text)
    try:
        if not iso:
            raise ValueError
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{place}: {cell!r} is no time like 2024-11-24T10:00:00.5Z, as the first row has") from None
    if bool(iso["zone"]) != zone:
        raise ConfigError(f"{place}: {text} has {'a' if iso['zone'] else 'no'} zone, unlike the first row")
    return ((moment if zone else moment.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MICROSECOND
