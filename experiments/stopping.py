"""A sequential campaign's looks: which were taken, and which loads were decided at them. Kept in stopping.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.model import Experiment
from fave.campaign import record
from fave.campaign.record import Stopping
from fave.campaign.results import Results

FILE = "stopping.json"


def so_far(folder: Path) -> Stopping:
    return record.read(folder, FILE, Stopping) if (folder / FILE).exists() else Stopping()


def due(experiment: Experiment, folder: Path, blocks_left: Sequence[int]) -> int | None:
    """The look to take now: the first one that was not taken, when none of its blocks is left to run.

    blocks_left: numbers (from 0) of the blocks that have something to run.
    """
    found = so_far(folder)
    if found.ended.keys() >= {name for name in experiment.loads if experiment.contrasts_of(name)}:
        return None
    ahead = [look for look in experiment.looks if look not in found.taken]
    return ahead[0] if ahead and not any(block < ahead[0] for block in blocks_left) else None


def take(experiment: Experiment, results: Results, look: int, folder: Path) -> Stopping:
    """A load ends when all its planned contrasts and effects are decided."""
    before = so_far(folder)
    rows = [*results.contrasts, *results.effects]
    ended = {
        name: look
        for name in experiment.loads
        if name not in before.ended
        and (mine := [row for row in rows if row.load == name])
        and all(row.decided for row in mine)
    }
    found = Stopping(taken=(*before.taken, look), ended=before.ended | ended)
    record.write(folder, FILE, found)
    return found
