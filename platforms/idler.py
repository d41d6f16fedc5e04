"""Scales FAVE's own idle functions to zero where a platform allows zero and nobody does it: off unless asked for.

A small process that says what it does. It looks at what a gateway counts, not at calls: a function is idle when nothing
was started, is unfinished, or came up since its idle timeout. Who waits for a function at zero is counted only once it
is there, so replicas that come count as use.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from fave.errors import PlatformError
from fave.settings import Duration
from fave.wire.openfaas import LABEL
from platforms.model import Counts, Platform

LOOKS_EVERY_S = 0.25
_COUNTED = re.compile(r"gateway_function_invocation_(started|total)\{([^,}]+)")


class Use(NamedTuple):
    """What is known of one function. since_s: monotonic, of the last sign of use, or of its timeout's becoming this."""

    started: float
    replicas: int
    timeout_s: float | None
    since_s: float


class Due(NamedTuple):
    function: str
    idle_s: float
    timeout_s: float


def signs(counters: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """(started, unfinished) calls by function, from what a gateway counts."""
    started: dict[str, float] = {}
    finished: dict[str, float] = {}
    for name, value in counters.items():
        if found := _COUNTED.match(name):
            into = started if found[1] == "started" else finished
            into[found[2]] = into.get(found[2], 0.0) + value
    return {name: (count, count - finished.get(name, 0.0)) for name, count in started.items()}


def looked(
    before: Mapping[str, Use],
    counts: Mapping[str, Counts],
    counters: Mapping[str, float],
    timeouts_s: Mapping[str, float],
    now_s: float,
) -> dict[str, Use]:
    """What is known after another look."""
    calls, found = signs(counters), {}
    for name, there in counts.items():
        started, unfinished = calls.get(name, (0.0, 0.0))
        known, timeout_s = before.get(name), timeouts_s.get(name)
        same = known is not None and (known.started, known.timeout_s) == (started, timeout_s)
        quiet = known is not None and same and there.ready <= known.replicas and unfinished <= 0
        found[name] = Use(started, there.ready, timeout_s, known.since_s if known and quiet else now_s)
    return found


def due(uses: Mapping[str, Use], counts: Mapping[str, Counts], now_s: float) -> list[Due]:
    """Who was idle for its timeout, and is still there."""
    return [
        Due(name, now_s - use.since_s, use.timeout_s)
        for name, use in uses.items()
        if use.timeout_s is not None and counts[name].desired and now_s - use.since_s >= use.timeout_s
    ]


def idle_timeouts_s(labels: Mapping[str, Mapping[str, str]]) -> dict[str, float]:
    """Of the functions that may go to zero, as their labels say."""
    found = {}
    for name, each in labels.items():
        if each.get(f"{LABEL}zero") == "true" and (text := each.get(f"{LABEL}zero-duration", "")):
            found[name] = float(Duration.parse(text))
    return found


def run(
    platform: Platform, functions: Collection[str], say: Callable[[str], None], over: Callable[[], bool], *, dry: bool
) -> None:
    """Look again and again, until it is over. functions: FAVE's own, whether they are deployed by now or not.

    A look that fails is told, and made again: a campaign must not end because a gateway was away for a moment.
    """
    uses: dict[str, Use] = {}
    lags_s: list[float] = []
    while not over():
        try:
            counts = {name: each for name, each in platform.counts().items() if name in functions}
            timeouts_s = idle_timeouts_s(platform.standing(list(counts)))
            uses = looked(uses, counts, platform.counters(), timeouts_s, time.monotonic())
            for each in due(uses, counts, time.monotonic()):
                what = f"{each.function}: idle for {each.idle_s:.2f} s of {each.timeout_s:g} s"
                say(f"{what}, would be scaled to zero" if dry else f"{what}, scaled to zero")
                if not dry:
                    platform.scale(each.function, 0)
                    lags_s.append(each.idle_s - each.timeout_s)
                uses[each.function] = uses[each.function]._replace(since_s=time.monotonic())
        except PlatformError as error:
            say(f"a look failed: {error.message}")
        time.sleep(LOOKS_EVERY_S)
    if lags_s:
        worst_s = sorted(lags_s)[int(0.99 * (len(lags_s) - 1))]
        say(f"scaled to zero {len(lags_s)} times; beyond the timeout by {worst_s:.2f} s at most in 99 of 100")
