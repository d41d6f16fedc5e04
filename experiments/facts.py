"""What a campaign ran on and with: everything in `campaign.json`. Endpoints and credentials stay out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.cell_run import Bench, Touched
from experiments.model import Experiment
from experiments.plan import Group
from fave import environment
from fave.campaign import manifest
from fave.campaign.alike import between, of_setup
from fave.campaign.record import Manifest
from fave.clock import utc_ns
from fave.settings import from_plain, to_plain
from fave.traffic import traces
from platforms.probe import Probe
from workloads.model import of_record


def of_here(experiment: Experiment) -> dict[str, Any]:
    """What can be known without a platform."""
    return {
        "host": manifest.host(),
        "versions": manifest.versions(),
        "assets": manifest.assets(),
        "source": manifest.commit(),
        "workload": of_record(experiment.work),
        "regimes": {
            load: {regime: to_plain(experiment.policies(load, regime)) for regime in experiment.regimes_of(load)}
            for load in experiment.loads
        },
        "policies": {
            load: {
                arm: {each: to_plain(experiment.policies(load, arm, each)) for each in experiment.regimes_in(arm)}
                for arm in experiment.regimes_of(load)
                if experiment.switches(arm)
            }
            for load in experiment.loads
        },
        **of_traces(experiment),
    }


def of_traces(experiment: Experiment) -> dict[str, dict[str, str]]:
    """By load that replays one: which file it is, and how it is read."""
    every = {name: load.traffic.traces for name, load in experiment.loads.items()}
    replayed = {f"{name}.{i}" if i else name: each for name, mine in every.items() for i, each in enumerate(mine)}
    return {
        "traces": {name: sha256(trace.path) for name, trace in replayed.items()},
        "traces_read_as": {name: traces.recognised(trace) for name, trace in replayed.items()},
    }


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_campaign(
    name: str, campaign: str, groups: list[Group], bench: Bench, probed: Probe | None, touched: Touched
) -> Manifest:
    platform = bench.platform.facts()
    known = {
        "name": name,
        "campaign": campaign,
        "started_at_ns": utc_ns(),
        "experiment": to_plain(bench.experiment),
        "order": order(groups),
        "schedules_sha256": schedules(groups),
        **of_here(bench.experiment),
        "platform": platform.info,
        "capabilities": to_plain(platform.capabilities),
        "nodes": platform.nodes,
        "images": touched.images,
        "pods": touched.pods,
        "probe": to_plain(probed) if probed else {},
        "idler": environment.idler(),
        "embedded": platform.co_located,
        "co_located": platform.co_located,
    }
    return from_plain(known, Manifest)


def unlike(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why runs made now would be other runs than those of `then`; empty when they belong together. Both as plain data.

    Only what both have recorded counts: earlier versions did not have all of it.
    """
    found = of_setup(then, now) + between(then, now, "", ("regimes", "policies"), refuses=True)
    return [each.said("{what}: {a} when it began, {b} now") for each in found if each.refuses]


def told(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed and is worth a line, though runs may go on."""
    return [each.said("{what}: was {a}, is {b}") for each in of_setup(then, now) if not each.refuses]


def order(groups: list[Group]) -> tuple[str, ...]:
    return tuple(cell.folder(1) for group in groups for cell in group.cells)


def schedules(groups: list[Group]) -> dict[str, str]:
    return {f"{group.block:02d}_{group.load}": group.sha256 for group in groups}
