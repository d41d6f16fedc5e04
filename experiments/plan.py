"""Which cells run, in which order. Pure: the same experiment always gives the same plan."""

from __future__ import annotations

import random
from typing import NamedTuple

import msgspec

from experiments.model import Experiment
from fave.errors import ConfigError
from fave.traffic.arrivals import Schedule, generate, seed_for, sha256


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One run: one regime under one load in one block. `index` numbers the planned cells of a campaign."""

    index: int
    block: int
    load: str
    regime: str

    def folder(self, attempt: int) -> str:
        return f"{self.block:02d}_{self.load}_{self.regime}_{attempt}"


class Group(NamedTuple):
    """The runs of one block and load: all regimes, the same schedule, in random order. Valid or repeated together.

    seed: from which the schedule was drawn, and what its arrivals ask is.
    """

    block: int
    load: str
    schedule: Schedule
    sha256: str
    cells: tuple[Cell, ...]
    seed: int = 0


def plan(experiment: Experiment) -> list[Group]:
    """Blocks in order; within a block the loads in random order; within a load the regimes in random order.

    A load with fewer blocks than the others takes part in the last ones, so that the first report comes early; where
    there are looks in the first ones, because the last ones may never come.

    Raises
    ------
    ConfigError
        For traffic whose draw for a block has no arrivals.
    """
    planned = max(load.blocks for load in experiment.loads.values())
    groups: list[Group] = []
    index = 0
    for block in range(planned):
        shuffle = random.Random(seed_for(experiment.seed, "order", block)).shuffle
        loads = [
            name
            for name, load in experiment.loads.items()
            if (block < load.blocks if experiment.looks else block >= planned - load.blocks)
        ]
        shuffle(loads)
        for load in loads:
            regimes = list(experiment.regimes_of(load))
            shuffle(regimes)
            seed = seed_for(experiment.seed, load, block)
            schedule = generate(experiment.loads[load].traffic, seed)
            if not schedule:
                raise ConfigError(
                    f"loads.{load}: no arrivals in block {block + 1}",
                    hint="a longer duration, more requests, or another seed",
                )
            cells = tuple(Cell(index=index + i, block=block, load=load, regime=r) for i, r in enumerate(regimes))
            index += len(cells)
            groups.append(Group(block, load, schedule, sha256(schedule), cells, seed))
    return groups


# Seconds beside the offered load, as seen on two cores; the driver corrects them by what it sees.
_CELL_OVERHEAD_S = 2.0
_PIPELINE_OVERHEAD_S = 3.0


def forecast_s(experiment: Experiment, groups: list[Group]) -> float:
    """Expected wall time of these groups, without reports."""
    total = 0.0
    for group in groups:
        load = experiment.loads[group.load]
        overhead_s = _CELL_OVERHEAD_S if len(experiment.functions_of(group.load)) == 1 else _PIPELINE_OVERHEAD_S
        total += len(group.cells) * (load.traffic.duration + overhead_s)
    return total
