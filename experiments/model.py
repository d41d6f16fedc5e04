"""Experiment files, checked with the workload and the regimes that they name."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

import regimes.model as regimes
from experiments import variants
from fave import yaml_file
from fave.campaign.experiment import Experiment as Planned
from fave.campaign.experiment import Policy
from fave.errors import ConfigError
from fave.settings import decode, key_of
from regimes.model import resolve
from workloads.asking import Asking
from workloads.model import Function, Workload
from workloads.model import load as workload_of

FOLDER = Path(__file__).parent


class Experiment(Planned, frozen=True, kw_only=True):
    """With the workload and the regimes that it names."""

    def policies(self, load: str, arm: str, regime: str = "") -> dict[str, Policy]:
        """Complete policies of the load's functions in an arm: in that one of its regimes, or the first."""
        each = self.loads[load]
        functions = self.work_of(arm).functions_of(each.target)
        return resolve(regime or self.regime_of(arm), functions, each.overrides.get(arm))

    def work_of(self, regime: str) -> Workload:
        """The workload as it is in that arm."""
        return variants.changed(self.composed(regime), self.variants.get(regime, {}))

    def composed(self, regime: str) -> Workload:
        """The workload with the stages as one function that are so in that arm."""
        parts = self.decompositions.get(regime)
        return self.work.composed(parts) if parts else self.work

    def provide(self) -> None:
        """Take the files of every commit that an arm names out of its checkout, once."""
        for regime, mine in self.variants.items():
            variants.provide(self.composed(regime), {regime: mine})

    def is_otherwise(self, regime: str) -> bool:
        """Whether the workload is another one in that arm than it says itself."""
        return regime in self.variants or regime in self.decompositions

    def works(self, loads: Iterable[str]) -> list[Workload]:
        """Each that runs in some arm of these loads, once; the first is the workload as it says itself."""
        arms = [regime for load in loads for regime in self.regimes_of(load)]
        found = [self.work_of(regime) for regime in sorted(set(arms), key=lambda arm: (self.is_otherwise(arm), arm))]
        return [work for index, work in enumerate(found) if work not in found[:index]]

    @property
    def work(self) -> Workload:
        return workload_of(self.workload)

    def functions_of(self, load: str) -> dict[str, Function]:
        return self.work.functions_of(self.loads[load].target)

    def asking(self, load: str, bucket: str = "") -> Asking:
        """What its arrivals ask, checked. Raises ConfigError."""
        each = self.loads[load]
        return Asking(self.work, each.target, bucket=bucket, variables=each.variables)


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
    problems = wrong_with_others(experiment)
    if problems:
        raise ConfigError([f"{document.place(key_of(problem))}: {problem}" for problem in problems])
    return pinned(experiment)


def pinned(experiment: Experiment) -> Experiment:
    """Without names that may mean something else tomorrow."""
    found = {
        regime: variants.pinned(experiment.composed(regime), {regime: mine})[regime]
        for regime, mine in experiment.variants.items()
    }
    return msgspec.structs.replace(experiment, variants=found)


def wrong_with_others(experiment: Experiment) -> list[str]:
    """What cannot be with the workload and the regimes that it names; each begins with its key."""
    problems = _wrong_workload(experiment) or [*_wrong_decompositions(experiment)]
    if not problems:
        for regime, mine in experiment.variants.items():
            problems += variants.wrong(experiment.composed(regime), {regime: mine})
    problems += _wrong_regimes(experiment)
    if not problems:
        for label in experiment.loads:
            problems += [f"loads.{label}{problem}" for problem in _wrong_policies(experiment, label)]
        problems += _twice(experiment)
    return list(dict.fromkeys(problems))


def _wrong_decompositions(experiment: Experiment) -> Iterator[str]:
    for arm in experiment.decompositions:
        try:
            work = experiment.composed(arm)
        except ConfigError as error:
            yield from (f"decompositions.{arm}: {line}" for line in error.problems)
            continue
        for label in experiment.loads:
            asked = experiment.loads[label].target
            if arm in experiment.regimes_of(label) and asked and asked not in work.requests:
                yield f"decompositions.{arm}: load {label} asks {asked}, which is no function by itself there"
            if arm in experiment.regimes_of(label) and not asked and work.asked("") != experiment.work.asked(""):
                yield f"decompositions.{arm}: load {label} asks a mix, of which some is no function by itself there"
        if not work.deploy:
            yield f"decompositions.{arm}: the workload says `deploy: false`, and functions of others are not exchanged"


def _twice(experiment: Experiment) -> Iterator[str]:
    """Arms that would show the same thing, where that is not what they are for: an A/A control has no variant."""
    arms = [arm for arm in experiment.regimes if experiment.is_otherwise(arm)]
    for arm in arms:
        for other in experiment.regimes:
            loads = [load for load in experiment.loads if {arm, other} <= set(experiment.regimes_of(load))]
            first = other not in arms or experiment.regimes.index(other) < experiment.regimes.index(arm)
            if other != arm and first and loads and _alike(experiment, loads[0], arm, other):
                key = "variants" if arm in experiment.variants else "decompositions"
                yield f"{key}.{arm}: is the same as {other}"


def _alike(experiment: Experiment, load: str, a: str, b: str) -> bool:
    one, other = ((experiment.work_of(arm), experiment.policies(load, arm)) for arm in (a, b))
    return one == other


def _wrong_workload(experiment: Experiment) -> list[str]:
    try:
        experiment.work  # noqa: B018 - it is read, and checked
    except ConfigError as error:
        return [f"workload: {line}" for line in error.problems]
    problems = []
    for label in experiment.loads:
        try:
            experiment.asking(label)
        except ConfigError as error:
            problems += [f"loads.{label}.{line}" for line in error.problems]
    if problems:
        return problems
    several = {label for label in experiment.loads if len(experiment.functions_of(label)) > 1}
    return [
        f"controls[{index}]: the theory is about a single function; load {control.load!r} has several"
        for index, control in enumerate(experiment.controls)
        if control.kind == "theory" and control.load in several
    ]


def _wrong_regimes(experiment: Experiment) -> list[str]:
    there = regimes.names()
    problems = [
        f"regimes: unknown {name!r}{_suggestion(name, there)}"
        for name in dict.fromkeys(name for arm in experiment.regimes for name in experiment.regimes_in(arm))
        if name not in there
    ]
    # A file's name in a report must mean that file.
    return problems + [
        f"{key}: {arm!r} is the name of a regime; take another one"
        for key in ("aliases", "switching", "prewarming")
        for arm in getattr(experiment, key)
        if arm in there
    ]


def _wrong_policies(experiment: Experiment, label: str) -> list[str]:
    """What cannot be, of one load's policies in each of its regimes; begins with the key below the load."""
    load = experiment.loads[label]
    problems = []
    for regime in experiment.regimes_of(label):
        try:
            every = [experiment.policies(label, regime, each) for each in experiment.regimes_in(regime)]
        except ConfigError as error:
            problems += [f": {line}" for line in error.problems]
            continue
        policies = every[0]
        if any(each == policies for each in every[1:]):
            problems.append(f".overrides: {regime}: leave nothing to switch, its regimes are the same with them")
        count = load.initial_replicas.get(regime)
        for function, own in policies.items():
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
    return experiment.policies(label, a) == experiment.policies(label, b) and initial.get(a) == initial.get(b)


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else f" (there are: {', '.join(known)})"
