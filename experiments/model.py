"""An experiment file: regimes x loads x blocks, the primary outcome, the planned contrasts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

import regimes.model as regimes
from fave.arrivals import Traffic
from fave.errors import ConfigError
from fave.settings import NAME_PATTERN, Duration, load_yaml
from fave.validity import Gates
from fave.workload import PIPELINE, SAMPLE_INPUTS, STAGES, functions_of
from regimes.model import Scaling, resolve

FOLDER = Path(__file__).parent


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of traffic at one target. `overrides` are laid over a regime for this load only.

    descriptive: shown, but not compared (too few blocks for a test to say anything).
    """

    target: str
    traffic: Traffic
    blocks: int
    overrides: dict[str, Scaling] = {}
    inputs: tuple[str, ...] = ()
    query: str = "find scenes with cars"
    settings: dict[str, Any] = {}
    max_in_flight: int = 200
    request_timeout: Duration = Duration(120)
    descriptive: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.target not in (PIPELINE, *STAGES):
            problems.append(f"target: {self.target!r} is neither {PIPELINE} nor one of {', '.join(STAGES)}")
        elif self.target not in (PIPELINE, *SAMPLE_INPUTS) and not self.inputs:
            problems.append(f"inputs: {self.target} needs some; samples are shipped for {', '.join(SAMPLE_INPUTS)}")
        if self.blocks < 1:
            problems.append(f"blocks: {self.blocks} must be at least 1")
        if self.max_in_flight < 1:
            problems.append(f"max_in_flight: {self.max_in_flight} must be at least 1")
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def functions(self) -> tuple[str, ...]:
        return functions_of(self.target)


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """`contrasts` are pairs of regimes (a, b), for a - b. `attempts`: tries for a block that came out invalid."""

    description: str
    expected_duration: str
    seed: int
    regimes: tuple[str, ...]
    loads: dict[str, Load]
    contrasts: tuple[tuple[str, str], ...]
    primary_outcome: Literal["invocation_cold_rate", "request_cold_rate"]
    equivalence_margin: float = 0.05
    gates: Gates = Gates()
    attempts: int = 2

    def __post_init__(self) -> None:
        problems = [f"{kind}: name {name!r} must match {NAME_PATTERN.pattern}" for kind, name in self._bad_names()]
        if len(set(self.regimes)) < len(self.regimes):
            problems.append("regimes: a name stands twice")
        problems += [
            f"contrasts: {name!r} is not among the regimes"
            for pair in self.contrasts
            for name in pair
            if name not in self.regimes
        ]
        problems += [
            f"loads.{load}.overrides: {name!r} is not among the regimes"
            for load, each in self.loads.items()
            for name in each.overrides
            if name not in self.regimes
        ]
        if len(set(self.contrasts)) < len(self.contrasts) or any(a == b for a, b in self.contrasts):
            problems.append("contrasts: each pair of two different regimes once")
        if self.attempts < 1:
            problems.append(f"attempts: {self.attempts} must be at least 1")
        if not 0 < self.equivalence_margin < 1:
            problems.append(f"equivalence_margin: {self.equivalence_margin} must lie between 0 and 1")
        if not self.regimes or not self.loads:
            problems.append("regimes, loads: at least one of each")
        if problems:
            raise ValueError("\n".join(problems))

    def _bad_names(self) -> list[tuple[str, str]]:
        named = [("regimes", name) for name in self.regimes] + [("loads", name) for name in self.loads]
        return [(kind, name) for kind, name in named if not NAME_PATTERN.fullmatch(name)]


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yml"))


def load(name: str) -> Experiment:
    """`experiments/{name}.yml`, or the file itself when `name` ends in .yml; checked with the regimes it names.

    Raises
    ------
    ConfigError
        With every mistake in the file, or those of its regimes.
    """
    path = Path(name) if name.endswith(".yml") else FOLDER / f"{name}.yml"
    if not path.exists() and name.endswith(".yml"):
        raise ConfigError(f"{name}: there is no such file")
    if not path.exists():
        raise ConfigError(f"unknown experiment {name!r}", hint=f"there are: {', '.join(names())}; or give a .yml file")
    experiment = load_yaml(path, Experiment)
    unknown = [regime for regime in experiment.regimes if regime not in regimes.names()]
    problems = [f"{path.name}: regimes: unknown {r!r} (there are: {', '.join(regimes.names())})" for r in unknown]
    for label, each in experiment.loads.items():
        for regime in set(experiment.regimes) - set(unknown):
            try:
                resolve(regime, each.functions, each.overrides.get(regime))
            except ConfigError as error:
                problems += [f"{path.name}: loads.{label}: {line}" for line in error.problems]
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return experiment
