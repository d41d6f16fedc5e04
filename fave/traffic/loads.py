"""Loads by name: the traffic models that people ask for, from a rate and a duration (docs/methodology.md says why)."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic.arrivals import Traffic, too_many
from fave.traffic.traces import MOST_ARRIVALS, Trace

# On-off traffic at full scale: a minute on, four off; less where the run is too short for four such cycles.
_CYCLE_S = 300.0
_ON_SHARE = 0.2
_LEAST_CYCLES = 4
MODERATE_CV = 1.7
HEAVY_TAIL_CV = 4.0


def _steady(requests: int, duration: Duration, _: float) -> Traffic:
    return Traffic(model="poisson", requests=requests, duration=duration)


def _paced(requests: int, duration: Duration, _: float) -> Traffic:
    return Traffic(model="paced", requests=requests, duration=duration)


def _moderate(requests: int, duration: Duration, cv: float) -> Traffic:
    return Traffic(model="gamma", cv=cv or MODERATE_CV, requests=requests, duration=duration)


def _heavy_tail(requests: int, duration: Duration, cv: float) -> Traffic:
    return Traffic(model="lognormal", cv=cv or HEAVY_TAIL_CV, requests=requests, duration=duration)


def _bursty(requests: int, duration: Duration, _: float) -> Traffic:
    bursts = max(_LEAST_CYCLES, round(duration / _CYCLE_S))
    length = Duration(duration / bursts * _ON_SHARE)
    return Traffic(model="bursts", requests=requests, duration=duration, bursts=bursts, burst_length=length)


def _on_off(requests: int, duration: Duration, _: float) -> Traffic:
    cycle_s = min(_CYCLE_S, duration / _LEAST_CYCLES)
    on, off = Duration(cycle_s * _ON_SHARE), Duration(cycle_s * (1 - _ON_SHARE))
    return Traffic(model="on-off", requests=requests, duration=duration, on_mean=on, off_mean=off)


_LOADS: dict[str, Callable[[int, Duration, float], Traffic]] = {
    "steady": _steady,
    "paced": _paced,
    "moderate": _moderate,
    "bursty": _bursty,
    "on-off": _on_off,
    "heavy-tail": _heavy_tail,
}
_WITH_CV = ("moderate", "heavy-tail")
REPLAY = "replay"
NAMES = (*_LOADS, REPLAY)


def traffic_of(
    load: str, *, rate_per_s: float, duration: Duration, cv: float = 0.0, trace: Trace | None = None
) -> Traffic:
    """The traffic of a named load.

    Raises
    ------
    ConfigError
        For an unknown load, a rate that is not over 0, a parameter that the load does not have.
    """
    if load not in NAMES:
        near = difflib.get_close_matches(load, NAMES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown load {load!r}", hint=f"{hint}there are: {', '.join(NAMES)}")
    if cv and load not in _WITH_CV:
        raise ConfigError(f"cv {cv:g}: only for the loads {', '.join(_WITH_CV)}, not {load!r}")
    if trace and load != REPLAY:
        raise ConfigError(f"trace {trace.file}: only for the load {REPLAY}, not {load!r}")
    try:
        if load == REPLAY:
            return Traffic(model="replay", duration=duration, trace=trace)
        if not rate_per_s > 0:
            raise ConfigError(f"rate {rate_per_s:g}/s must be over 0")
        expected = rate_per_s * duration
        if expected > MOST_ARRIVALS:
            raise ConfigError(f"rate {rate_per_s:g}/s over {duration}: {too_many(expected)}")
        requests = round(expected)
        if not requests:
            raise ConfigError(f"rate {rate_per_s:g}/s over {duration}: less than one arrival")
        return _LOADS[load](requests, duration, cv)
    except ValueError as error:
        raise ConfigError(str(error).splitlines()) from error
