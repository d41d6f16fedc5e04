"""How far a campaign has come, from its folder: what the driver goes on from, after a crash too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.model import Experiment
from experiments.plan import Group, plan
from experiments.stopping import due, so_far
from fave.campaign import record
from fave.campaign.rundir import CellDir
from fave.campaign.validity import Judged, reference_latency_s


class Standing(NamedTuple):
    """Of one group: the highest try there is anything of, the tries that came out invalid, whether one is valid."""

    attempts: int = 0
    invalid: int = 0
    done: bool = False


def wanted(experiment: Experiment, folder: Path) -> list[Group]:
    """All groups but those of loads that were decided before."""
    ended = so_far(folder).ended
    return [group for group in plan(experiment) if group.block < ended.get(group.load, group.block + 1)]


def left(experiment: Experiment, folder: Path) -> list[Group]:
    """Those that are not done and may be tried (again)."""
    return [group for group in wanted(experiment, folder) if may_run(experiment, standing(group, folder))]


def unfinished(experiment: Experiment, folder: Path) -> bool:
    """Whether there is something to run, or to decide."""
    groups = left(experiment, folder)
    return bool(groups) or due(experiment, folder, []) is not None


def may_run(experiment: Experiment, found: Standing) -> bool:
    return not found.done and found.invalid < experiment.attempts


def standing(group: Group, folder: Path) -> Standing:
    """A try counts as invalid when a finished run of it is; one that was cut short counts as neither."""
    attempts = invalid = 0
    done = False
    for attempt in sorted(_attempts(group, folder)):
        cells = [CellDir(folder / "cells" / cell.folder(attempt)) for cell in group.cells]
        valid = [_valid(cell) for cell in cells if cell.finished]
        attempts = attempt
        invalid += not all(valid)
        done = len(valid) == len(cells) and all(valid)
    return Standing(attempts=attempts, invalid=invalid, done=done)


def reference(cells: Path, load: str, regimes: Sequence[str]) -> float | None:
    """What the schedule lag of a load's runs is judged by, from those that are finished."""
    finished = [cell for cell in map(CellDir, sorted(cells.glob(f"*_{load}_*"))) if cell.finished]
    facts = [(cell, record.read(cell.path, cell.cell.name, record.Cell)) for cell in finished]
    judged = [_judged(cell, fact) for cell, fact in facts if fact.load == load]
    return reference_latency_s(judged, regimes)


def _judged(cell: CellDir, facts: record.Cell) -> Judged:
    found = record.read(cell.path, cell.verdict.name, record.Judged)
    attempt = int(cell.path.name.rpartition("_")[2])
    return Judged(facts.block, attempt, facts.regime, found.median_latency_s, found.verdict)


def _attempts(group: Group, folder: Path) -> set[int]:
    found = set()
    for cell in group.cells:
        for path in (folder / "cells").glob(f"{cell.folder(0).removesuffix('0')}*"):
            found.add(int(path.name.rpartition("_")[2]))
    return found


def _valid(cell: CellDir) -> bool:
    return record.read(cell.path, cell.verdict.name, record.Judged).verdict.valid
