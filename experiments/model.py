"""An experiment file: regimes x loads x blocks, initial state, primary outcome, planned contrasts, what must hold."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

import regimes.model as regimes
from analysis import thresholds
from fave import yaml_file
from fave.arrivals import Traffic
from fave.errors import ConfigError
from fave.settings import NAME_PATTERN, Duration, decode, key_of
from fave.validity import Gates
from fave.workload import PIPELINE, SAMPLE_INPUTS, STAGES, functions_of
from regimes.model import Scaling, Settings, Settle, resolve

Outcome = Literal["invocation_cold_rate", "request_cold_rate", "slow_request_rate"]
# What a variance needs, and a degree of freedom more.
_FEWEST_BLOCKS = 3
FOLDER = Path(__file__).parent
_QUERY = "find scenes with cars"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of traffic at one target. `overrides` are laid over a regime for this load only.

    sample: the video that the pipeline gets. inputs: `s3://` addresses instead of it, or what a stage's call is about.
    regimes: those of the experiment that this load runs in; empty: all of them.
    initial_replicas: ready replicas of each function at the start, by regime; without it the regime's minimum.
    slo: the limit of latency that requests are counted against: their share above it is the latency outcome.
    processes: of the load generator; they share the schedule.
    descriptive: shown, but not compared (too few blocks for a test to say anything).
    """

    target: str
    traffic: Traffic
    blocks: int
    regimes: tuple[str, ...] = ()
    overrides: dict[str, Scaling] = {}
    initial_replicas: dict[str, int] = {}
    sample: Literal["short", "long"] = "short"
    inputs: tuple[str, ...] = ()
    query: str = _QUERY
    settings: dict[str, Any] = {}
    slo: Duration | None = None
    max_in_flight: int = 200
    request_timeout: Duration = Duration(120)
    processes: int = 1
    descriptive: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.target not in (PIPELINE, *STAGES):
            problems.append(f"target: {self.target!r} is neither {PIPELINE} nor one of {', '.join(STAGES)}")
        elif self.target not in (PIPELINE, *SAMPLE_INPUTS) and not self.inputs:
            problems.append(f"inputs: {self.target} needs some; samples are shipped for {', '.join(SAMPLE_INPUTS)}")
        # What has no effect is a misunderstanding.
        if self.target != PIPELINE and (self.query, self.sample) != (_QUERY, "short"):
            problems.append(f"query, sample: only the pipeline has them; {self.target} is called with its inputs")
        if self.target == PIPELINE and len(self.inputs) > 1:
            problems.append(f"inputs: the pipeline takes one video, not {len(self.inputs)}")
        if self.slo is not None and not 0 < self.slo < self.request_timeout:
            problems.append(f"slo: {self.slo} must lie between 0 and request_timeout ({self.request_timeout})")
        if self.blocks < 1:
            problems.append(f"blocks: {self.blocks} must be at least 1")
        problems += [
            f"{name}: {value} must be at least 1"
            for name, value in (("max_in_flight", self.max_in_flight), ("processes", self.processes))
            if value < 1
        ]
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def functions(self) -> tuple[str, ...]:
        return functions_of(self.target)


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """What must come out if the instrument is right (methodology §5).

    same: two regimes that are one: no difference, interval within the margin. always-cold, never-cold: exactly all, or
    none, of the invocations. theory: triggered and affected shares as the simulator has them on the same arrivals.
    """

    kind: Literal["same", "always-cold", "never-cold", "theory"]
    load: str
    regimes: tuple[str, ...]


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """`contrasts` are pairs of regimes (a, b), for a - b. `attempts`: tries for a block that came out invalid.

    looks: blocks after which the campaign is judged, and loads that are decided end; without them once, at the end.
    control_variate: contrasts are decided with the simulator as control variate, where there is one. factorial: two
    factors, of each two levels, of each the two regimes that have it; their effects are planned, too. aliases: a second
    name of a regime, for A/A controls and for regimes that differ by overrides. capacity: loads of rising rate, of
    which the highest that a regime sustains is sought. thresholds: what must hold, e.g. `steady/warm: cold_rate.high <
    0.05`.
    """

    description: str
    expected_duration: str
    seed: int
    regimes: tuple[str, ...]
    loads: dict[str, Load]
    contrasts: tuple[tuple[str, str], ...]
    primary_outcome: Outcome
    aliases: dict[str, str] = {}
    equivalence_margin: float = 0.05
    settle: Settle = Settle()
    gates: Gates = Gates()
    attempts: int = 2
    looks: tuple[int, ...] = ()
    control_variate: bool = True
    factorial: dict[str, dict[str, tuple[str, str]]] = {}
    thresholds: tuple[str, ...] = ()
    controls: tuple[Control, ...] = ()
    capacity: tuple[str, ...] = ()

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
            f"loads.{load}.{key}: {name!r} is not among the regimes"
            for load, each in self.loads.items()
            for key, names, known in (
                ("regimes", each.regimes, self.regimes),
                ("overrides", each.overrides, each.regimes or self.regimes),
                ("initial_replicas", each.initial_replicas, each.regimes or self.regimes),
            )
            for name in names
            if name not in known
        ]
        problems += [
            f"loads.{load}.regimes: a name stands twice"
            for load, each in self.loads.items()
            if len(set(each.regimes)) < len(each.regimes)
        ]
        problems += [f"aliases: {name!r} is not among the regimes" for name in self.aliases if name not in self.regimes]
        problems += [f"capacity: {name!r} is not among the loads" for name in self.capacity if name not in self.loads]
        problems += self._wrong_controls() + self._wrong_thresholds()
        problems += [
            f"contrasts: no compared load has both {a!r} and {b!r}"
            for a, b in self.contrasts
            if {a, b} <= set(self.regimes) and not any((a, b) in self.contrasts_of(load) for load in self.loads)
        ]
        problems += self._wrong_looks() + self._wrong_factorial()
        if self.primary_outcome == "slow_request_rate":
            problems += [
                f"loads.{name}.slo: the primary outcome is the share of requests slower than it"
                for name, load in self.loads.items()
                if load.slo is None and self.contrasts_of(name)
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

    def _wrong_looks(self) -> list[str]:
        if not self.looks:
            return []
        said = ", ".join(map(str, self.looks))
        if list(self.looks) != sorted(set(self.looks)) or self.looks[0] < _FEWEST_BLOCKS:
            return [f"looks: {said}: must ascend from at least {_FEWEST_BLOCKS} blocks"]
        compared = {name: load.blocks for name, load in self.loads.items() if self.contrasts_of(name)}
        if not compared:
            return ["looks: there is no planned contrast to decide"]
        return [
            f"looks: the last one is after {self.looks[-1]} blocks, loads.{name} has {blocks}"
            for name, blocks in compared.items()
            if blocks != self.looks[-1]
        ]

    def _wrong_factorial(self) -> list[str]:
        """Two factors of two levels; each combination of levels is one regime."""
        if not self.factorial:
            return []
        if len(self.factorial) != 2 or any(len(levels) != 2 for levels in self.factorial.values()):
            return ["factorial: two factors of two levels each, of two regimes each"]
        problems = [
            f"factorial.{factor}.{level}: {name!r} is not among the regimes"
            for factor, levels in self.factorial.items()
            for level, names in levels.items()
            for name in names
            if name not in self.regimes
        ]
        one, other = self.factorial.values()
        crossed = [set(a) & set(b) for a in one.values() for b in other.values()]
        if any(len(each) != 1 for each in crossed) or len(set.union(*crossed)) != 4:
            problems.append("factorial: each combination of two levels must be one regime, four in all")
        if not problems and not any(self.crosses(load) for load in self.loads):
            problems.append("factorial: no compared load has its four regimes")
        return problems

    def crosses(self, load: str) -> bool:
        """Whether the load, a compared one, runs in all regimes of the factorial."""
        names = {name for levels in self.factorial.values() for level in levels.values() for name in level}
        return bool(names) and not self.loads[load].descriptive and names <= set(self.regimes_of(load))

    def _wrong_controls(self) -> list[str]:
        problems = []
        for index, control in enumerate(self.controls):
            where = f"controls[{index}]"
            if control.load not in self.loads:
                problems.append(f"{where}.load: {control.load!r} is not among the loads")
                continue
            load, mine = self.loads[control.load], self.regimes_of(control.load)
            problems += [
                f"{where}.regimes: {name!r} is not among those of load {control.load!r}"
                for name in control.regimes
                if name not in mine
            ]
            if control.kind == "same" and (load.descriptive or control.regimes not in self.contrasts):
                problems.append(f"{where}: {' - '.join(control.regimes)} is no planned contrast of a compared load")
            if control.kind == "theory" and load.target == PIPELINE:
                problems.append(f"{where}: the theory is about a single function, not the pipeline")
            needed = 2 if control.kind == "same" else 1
            if len(control.regimes) != needed:
                problems.append(f"{where}.regimes: kind {control.kind!r} takes {needed}, not {len(control.regimes)}")
        return problems

    def _wrong_thresholds(self) -> list[str]:
        problems = []
        for index, text in enumerate(self.thresholds):
            try:
                threshold = thresholds.parse(text)
            except ValueError as error:
                problems.append(f"thresholds[{index}]: {error}")
                continue
            unknown = [
                f"thresholds[{index}]: {name!r} is not among the {what}"
                for what, name, known in (
                    ("loads", threshold.load, self.loads),
                    ("regimes", threshold.regime, self.regimes),
                )
                if name != thresholds.ANY and name not in known
            ]
            cells = [(load, regime) for load in self.loads for regime in self.regimes_of(load)]
            if not unknown and not any(thresholds.applies(threshold, *cell) for cell in cells):
                unknown.append(f"thresholds[{index}]: {text!r} is about no cell: the load does not run in that regime")
            problems += unknown
        return problems

    def settings(self, load: str, regime: str) -> dict[str, Settings]:
        """Complete settings of the load's functions in a regime of this experiment."""
        each = self.loads[load]
        return resolve(self.regime_of(regime), each.functions, each.overrides.get(regime))

    def regimes_of(self, load: str) -> tuple[str, ...]:
        return self.loads[load].regimes or self.regimes

    def contrasts_of(self, load: str) -> list[tuple[str, str]]:
        """The planned contrasts of which the load has both regimes; none of a descriptive load."""
        if self.loads[load].descriptive:
            return []
        return [pair for pair in self.contrasts if set(pair) <= set(self.regimes_of(load))]

    def regime_of(self, name: str) -> str:
        """The regime file's name; `name` may be an alias."""
        return self.aliases.get(name, name)

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
    if not os.path.exists(path) and name.endswith(".yml"):
        raise ConfigError(f"{name}: there is no such file")
    if not os.path.exists(path):
        raise ConfigError(f"unknown experiment {name!r}", hint=f"there are: {', '.join(names())}; or give a .yml file")
    document = yaml_file.read(path)
    experiment = decode(document.data, Experiment, document.place)
    problems = _wrong_regimes(experiment)
    if not problems:
        for label in experiment.loads:
            problems += [f"loads.{label}{problem}" for problem in _wrong_settings(experiment, label)]
    if problems:
        raise ConfigError([f"{document.place(key_of(problem))}: {problem}" for problem in dict.fromkeys(problems)])
    return experiment


def _wrong_regimes(experiment: Experiment) -> list[str]:
    there = regimes.names()
    problems = [
        f"regimes: unknown {name!r}{_suggestion(name, there)}"
        for name in map(experiment.regime_of, experiment.regimes)
        if name not in there
    ]
    # A file's name in a report must mean that file.
    return problems + [
        f"aliases: {alias!r} is the name of a regime; take another one"
        for alias in experiment.aliases
        if alias in there
    ]


def _wrong_settings(experiment: Experiment, label: str) -> list[str]:
    """What cannot be, of one load's settings in each of its regimes; begins with the key below the load."""
    load = experiment.loads[label]
    problems = []
    for regime in experiment.regimes_of(label):
        try:
            settings = experiment.settings(label, regime)
        except ConfigError as error:
            problems += [f": {line}" for line in error.problems]
            continue
        count = load.initial_replicas.get(regime)
        for function, own in settings.items():
            if count is not None and not own.min_replicas <= count <= own.max_replicas:
                bounds = f"{own.min_replicas} to {own.max_replicas}"
                problems.append(
                    f".initial_replicas: {regime}: {count} is not within {bounds}, the bounds of {function}"
                )
    for control in experiment.controls:
        if (control.kind, control.load) == ("same", label) and not _same(experiment, label, *control.regimes):
            problems.append(
                f": a control of kind 'same' needs the same settings, {' and '.join(control.regimes)} differ"
            )
    return problems


def _same(experiment: Experiment, label: str, a: str, b: str) -> bool:
    initial = experiment.loads[label].initial_replicas
    return experiment.settings(label, a) == experiment.settings(label, b) and initial.get(a) == initial.get(b)


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (there are: {', '.join(known)})"
