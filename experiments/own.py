"""`mine`: the shipped experiment about anybody's workload, trace and regimes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from experiments.model import Experiment, load, wrong_with_others
from fave.errors import ConfigError
from fave.settings import Duration, decode, to_plain
from fave.traffic.traces import format_of

NAME = "mine"
# Of a trace, unless its length is asked for.
_WINDOW = "5m"


def of(workload: str, *, trace: str = "", paths: str = "", regimes: str = "", duration: str = "") -> Experiment:
    """trace: a CSV of times, or a server's log; of one that is longer than a run each block replays another window.

    paths: beginnings of those that count, of a log. regimes: names; every pair of them is compared. Both apart by
    blanks or commas. duration: of each run.

    Raises
    ------
    ConfigError
        With all that is wrong.
    """
    plain: dict[str, Any] = to_plain(load(NAME)) | {"workload": workload}
    if regimes:
        plain["regimes"] = _words(regimes)
        plain["contrasts"] = [list(pair) for pair in itertools.combinations(plain["regimes"], 2)]
    if duration:
        _check(duration)
    if paths and not trace:
        raise ConfigError(f"paths: {paths!r}: of which log?", hint="--trace FILE (TRACE=FILE)")
    if trace:
        recording = {"file": trace, "format": format_of(Path(trace)), "functions": _words(paths), "anywhere": True}
        traffic = {"model": "replay", "trace": recording, "duration": duration or _WINDOW}
        plain["loads"] = {"trace": {"traffic": traffic, "blocks": 3}}
    else:
        for each in plain["loads"].values():
            each["overrides"] = {name: own for name, own in each["overrides"].items() if name in plain["regimes"]}
            if duration:
                each["traffic"] = _as_long(each["traffic"], duration)
    experiment = decode(plain, Experiment, f"{NAME} with {workload}")
    problems = wrong_with_others(experiment)
    if problems:
        raise ConfigError(problems)
    return experiment


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _check(duration: str) -> None:
    try:
        if Duration.parse(duration) > 0:
            return
        reason = "must be longer than 0"
    except ValueError as error:
        reason = str(error)
    raise ConfigError(f"duration: {duration!r}: {reason}", hint="for example 60s, or 5m")


def _as_long(traffic: dict[str, Any], duration: str) -> dict[str, Any]:
    """The same rate and the same bursts for another time."""
    longer = Duration.parse(duration) / Duration.parse(traffic["duration"])
    counts = {name: max(1, round(traffic[name] * longer)) for name in ("requests", "bursts") if traffic.get(name)}
    return traffic | counts | {"duration": duration}
