"""Stein's two-stage rule in a campaign: after the pilot blocks, how many are wanted in all. Decided once, and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from analysis import shape
from experiments.model import Experiment
from fave.rundir import write_json

FILE = "stopping.json"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Of one load. wanted_blocks: what the pilot's spread asks for; blocks: that, or max_blocks where it is less.

    complete: whether every block of the pilot could be used. Without it nothing follows from the pilot.
    """

    complete: bool
    pilot_blocks: int
    wanted_blocks: int
    blocks: int


def decided(folder: Path) -> dict[str, Decision] | None:
    """By load; None before the decision, and where there is no stopping rule."""
    if not (folder / FILE).exists():
        return None
    return msgspec.convert(shape.read(folder, FILE, dict[str, Decision]), dict[str, Decision])


def decide(experiment: Experiment, contrasts: list[dict[str, Any]], folder: Path) -> dict[str, Decision]:
    """From the pilot's planned contrasts (as results.json has them); the largest need of a load's contrasts counts.

    A load whose pilot is not complete keeps its blocks: there is nothing to decide from.
    """
    from analysis.power import stein_blocks  # scipy, which a campaign without a stopping rule does not need

    rule = experiment.stopping
    assert rule is not None
    found: dict[str, Decision] = {}
    for name, load in experiment.loads.items():
        if load.descriptive:
            continue
        mine = [row for row in contrasts if row["load"] == name]
        whole = all(row["risk_difference"] is not None and row["blocks"] == load.blocks for row in mine)
        # A contrast without a spread has no error, and asks for nothing more.
        needs = [
            stein_blocks(row["standard_error"] or 0.0, row["df"] or 1.0, load.blocks, rule.target_half_width)
            for row in mine
            if whole
        ]
        wanted = max(needs, default=load.blocks)
        found[name] = Decision(
            complete=bool(needs),
            pilot_blocks=load.blocks,
            wanted_blocks=wanted,
            blocks=max(load.blocks, min(wanted, rule.max_blocks)),
        )
    write_json(folder / FILE, found)
    return found
