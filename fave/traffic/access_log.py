"""Arrival times out of the logs that servers write: one line for each request, written when it *ended*.

Common and Combined Log Format (Apache, nginx), with or without a request time as last field (nginx's `$request_time`,
seconds with decimals), and JSON, an object a line, by the usual names of its fields. An arrival is the stamp less the
duration, where one is logged. Stamps of whole seconds do not say where in their second: there arrivals are spread
uniformly by the seed.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fave.errors import ConfigError
from fave.traffic.csv_file import is_compressed, lines_of
from fave.traffic.gaps import Draw

_COMMON = re.compile(
    r"\S+ \S+ .*?\[(?P<time>\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [-+]\d{4})\] "
    r'"(?P<asked>(?:[^"\\]|\\.)*)" (?:\d{3}|-) (?:\d+|-)(?P<rest>.*)'
)
# A field of its own: a browser's name ends with a number, too.
_LAST_SECONDS = re.compile(r'(?:\s+(?:"(?:[^"\\]|\\.)*"|[^"\s]+))*?\s+"?(?P<seconds>\d+\.\d+)"?\s*')
_TIMES = ("time", "timestamp", "@timestamp", "ts", "time_iso8601", "time_local", "msec", "start_time", "datetime")
_PATHS = ("path", "uri", "request_uri", "url", "request")
# Names of durations, and how many of their units are a second.
_DURATIONS = {
    "request_time": 1,
    "duration": 1,
    "duration_s": 1,
    "elapsed": 1,
    "latency": 1,
    "upstream_response_time": 1,
    "duration_ms": 1e3,
    "latency_ms": 1e3,
    "elapsed_ms": 1e3,
    "request_time_ms": 1e3,
    "response_time_ms": 1e3,
    "duration_us": 1e6,
    "duration_ns": 1e9,
}
_DURATION_UNITS = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
# From this on a number is a date of the last decades in that unit.
_EPOCH_UNITS = ((1e17, "nanoseconds", 1e9), (1e14, "microseconds", 1e6), (1e11, "milliseconds", 1e3))
_LOOKED_AT = 50


class Entry(NamedTuple):
    """One line: when the request ended, how long it took (nan: not logged), what was asked."""

    ended_s: float
    took_s: float
    path: str


class Log(NamedTuple):
    """said: how it is read, for people. whole: its stamps have whole seconds."""

    path: Path
    said: list[str]
    whole: bool
    entry: Callable[[str, int], Entry]

    def times_s(self, wanted: tuple[str, ...], draw: Draw) -> Iterator[float]:
        """Arrivals in seconds from the first one, ascending; of requests whose path begins as one of those wanted.

        Raises
        ------
        ConfigError
            For a line that is none, and where nothing is left.
        """
        found = []
        for number, line in enumerate(lines_of(self.path), start=1):
            if line.strip():
                entry = self.entry(line, number)
                if not wanted or entry.path.startswith(wanted):
                    within = draw() if self.whole else 0.0
                    found.append(entry.ended_s + within - (0.0 if math.isnan(entry.took_s) else entry.took_s))
        if not found:
            raise ConfigError(f"{self.path}: no request" + f" of {', '.join(wanted)}" * bool(wanted))
        found.sort()
        return (time_s - found[0] for time_s in found)


def is_log(path: Path) -> bool:
    """Whether its first line is one of a server's log. Raises ConfigError where it cannot be read."""
    first = next((line for line in lines_of(path) if line.strip()), "")
    return first.lstrip().startswith("{") or _COMMON.match(first) is not None


def recognise(path: Path) -> Log:
    """Raises ConfigError for a file whose first lines are no log's, with the line."""
    first = [(number, line) for number, line in enumerate(islice(lines_of(path), _LOOKED_AT), start=1) if line.strip()]
    if not first:
        raise ConfigError(f"{path}: is empty")
    json = first[0][1].lstrip().startswith("{")
    entry, said = _of_json(path, first) if json else _of_common(path)
    entries = [entry(line, number) for number, line in first]
    whole = all(each.ended_s == int(each.ended_s) for each in entries)
    timed = any(not math.isnan(each.took_s) for each in entries)
    said = [*said, "an arrival is the stamp less the duration" if timed else "no durations: an arrival is the stamp"]
    said += ["whole seconds, spread uniformly"] * whole + ["gzip"] * is_compressed(path)
    return Log(path, said, whole, entry)


def _of_common(path: Path) -> tuple[Callable[[str, int], Entry], list[str]]:
    def entry(line: str, number: int) -> Entry:
        found = _COMMON.match(line)
        if not found:
            raise ConfigError(f"{path}:{number}: is no line of an access log: {line.strip()[:60]!r}")
        ended = datetime.datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z")
        last = _LAST_SECONDS.fullmatch(found["rest"])
        return Entry(ended.timestamp(), float(last["seconds"]) if last else math.nan, _path_of(found["asked"]))

    return entry, ["access log (Common or Combined Log Format)"]


def _of_json(path: Path, first: list[tuple[int, str]]) -> tuple[Callable[[str, int], Entry], list[str]]:
    there = _object(path, *first[0])
    time = next((name for name in _TIMES if name in there), "")
    if not time:
        known = ", ".join(_TIMES)
        raise ConfigError(f"{path}:{first[0][0]}: no field has a time", hint=f"known names: {known}")
    took = next((name for name in _DURATIONS if name in there), "")
    asked = next((name for name in _PATHS if name in there), "")
    unit, per_s = _unit_of(there[time])

    def entry(line: str, number: int) -> Entry:
        found = _object(path, number, line)
        try:
            ended_s = _seconds(found[time], per_s)
            took_s = _duration_s(found.get(took), _DURATIONS[took]) if took else math.nan
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path}:{number}: its time or duration cannot be read ({error})") from error
        said = found.get(asked, "")
        return Entry(ended_s, took_s, _path_of(str(said.get("uri", "") if isinstance(said, dict) else said)))

    counted = _DURATION_UNITS.get(_DURATIONS.get(took, 1), "seconds")
    said = [f"JSON lines, field {time!r} {unit}"] + [f"durations from {took!r} in {counted}"] * bool(took)
    return entry, said


def _duration_s(value: object, per_s: float) -> float:
    """Nginx has one for each server that was tried, `-` or nothing where there was none."""
    parts = [part for part in re.split(r"[,:\s]+", str(value or "")) if part not in ("", "-")]
    return sum(map(float, parts)) / per_s if parts else math.nan


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}:{number}: is no JSON object ({error})") from error


def _unit_of(value: object) -> tuple[str, float]:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "as a date", 1.0
    return next(((f"in {name}", per_s) for least, name, per_s in _EPOCH_UNITS if number >= least), ("in seconds", 1.0))


def _seconds(value: object, per_s: float) -> float:
    text = str(value)
    if re.fullmatch(r"[0-9.eE+]+", text):
        return float(text) / per_s
    if re.match(r"\d{2}/[A-Z]", text):
        return datetime.datetime.strptime(text, "%d/%b/%Y:%H:%M:%S %z").timestamp()
    moment = datetime.datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def _path_of(asked: str) -> str:
    """Of an address or a request line the path: `GET /a HTTP/1.1`, `https://host/a`."""
    words = asked.split(" ")
    path = words[1] if len(words) > 1 else words[0]
    return re.sub(r"^[a-z]+://[^/]*", "", path)
