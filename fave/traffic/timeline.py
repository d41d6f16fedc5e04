"""A run in phases: which regime stands and which load is sent, for how long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic.arrivals import Traffic, seed_for, stream, too_many
from fave.traffic.loads import traffic_of
from fave.traffic.traces import MOST_ARRIVALS
from fave.yaml_file import load_yaml

_PHASE = re.compile(r"(?P<regime>[a-z0-9-]+)/(?P<load>[a-z-]+)@(?P<rate>[0-9.]+):(?P<duration>[0-9a-z.]+)")


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """`rate`: arrivals per second. `cv`: of the gaps, for the loads that have one."""

    regime: str
    load: str
    rate: float
    duration: Duration
    cv: float = 0.0

    def __post_init__(self) -> None:
        try:
            self.traffic()
        except ConfigError as error:
            raise ValueError(str(error)) from error

    def traffic(self) -> Traffic:
        return traffic_of(self.load, rate_per_s=self.rate, duration=self.duration, cv=self.cv)


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError("phases: at least one")
        total = sum(phase.traffic().requests for phase in self.phases)
        if total > MOST_ARRIVALS:
            raise ValueError(f"phases: {too_many(total)}")

    @property
    def starts_us(self) -> list[int]:
        """When each phase begins, from the start of the run."""
        starts, at_us = [], 0
        for phase in self.phases:
            starts.append(at_us)
            at_us += round(phase.duration * 1e6)
        return starts

    def arrivals(self, seed: int) -> Iterator[int]:
        """The phases' schedules one after the other, each with a seed of its own."""
        for i, (phase, start_us) in enumerate(zip(self.phases, self.starts_us, strict=True)):
            for at_us in stream(phase.traffic(), seed_for(seed, phase.load, i)):
                yield start_us + at_us


def parse(text: str) -> Timeline:
    """`cold/steady@2:60s, warm/bursty@2:60s` (regime/load@rate:duration), or the name of a YAML file with `phases`.

    Raises
    ------
    ConfigError
        With every mistake.
    """
    if text.endswith((".yml", ".yaml")):
        return load_yaml(Path(text), Timeline)
    phases, problems = [], []
    for part in text.split(","):
        match = _PHASE.fullmatch(part.strip())
        if not match:
            problems.append(f"--timeline: {part.strip()!r} is not regime/load@rate:duration, e.g. cold/steady@2:60s")
            continue
        try:
            duration = Duration.parse(match["duration"])
            phases.append(
                Phase(regime=match["regime"], load=match["load"], rate=float(match["rate"]), duration=duration)
            )
        except ValueError as error:
            problems.append(f"--timeline: {part.strip()}: {error}")
    if problems:
        raise ConfigError(problems)
    try:
        return Timeline(phases=tuple(phases))
    except ValueError as error:
        raise ConfigError(f"--timeline: {error}") from error
