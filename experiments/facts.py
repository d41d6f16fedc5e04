"""What a campaign ran on and with: everything in `campaign.json`. Endpoints and credentials stay out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.cell_run import Bench
from experiments.model import Experiment
from experiments.plan import Group
from fave import manifest, traces
from fave.clock import utc_ns
from fave.records import SCHEMA
from fave.settings import to_plain
from fave.validity import at_most
from regimes import openfaas

# What must be the same for runs to belong to one campaign, and what is only told.
_SAME_HERE = ("regimes", "assets", "traces")
_SAME_THERE = ("embedded", "nodes", "images")
_SAME_OF_HOST = ("cpu_model", "cores")
_SAME_OF_PLATFORM = ("provider", "limits", "function_settings", "places")
_TOLD = ("versions", "source")
# A reboot may leave a machine some kilobytes more or less.
_MEMORY_TOLERANCE = 0.05


def of_here(experiment: Experiment) -> dict[str, Any]:
    """What can be known without a platform."""
    return {
        "host": manifest.host(),
        "versions": manifest.versions(),
        "assets": manifest.assets(),
        "source": manifest.commit(),
        "regimes": {
            load: {regime: to_plain(experiment.settings(load, regime)) for regime in experiment.regimes_of(load)}
            for load in experiment.loads
        },
        **of_traces(experiment),
    }


def of_traces(experiment: Experiment) -> dict[str, dict[str, str]]:
    """By load that replays one: which file it is, and how it is read."""
    replayed = {name: load.traffic.trace for name, load in experiment.loads.items() if load.traffic.trace}
    return {
        "traces": {name: sha256(Path(trace.file)) for name, trace in replayed.items()},
        "traces_read_as": {name: traces.recognised(trace) for name, trace in replayed.items()},
    }


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_campaign(name: str, groups: list[Group], bench: Bench) -> dict[str, Any]:
    embedded = bench.endpoints.embedded
    return {
        "schema": SCHEMA,
        "name": name,
        "started_at_ns": utc_ns(),
        "experiment": to_plain(bench.experiment),
        "order": order(groups),
        "schedules_sha256": schedules(groups),
        **of_here(bench.experiment),
        "platform": bench.gateway.info(),
        "capabilities": openfaas.capabilities(bench.gateway),
        "nodes": bench.cluster.nodes() if bench.cluster else [],
        "images": bench.cluster.images() if bench.cluster else {},
        "embedded": embedded,
        "co_located": embedded,
    }


def unlike(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Why runs made now would be other runs than those of `then`; empty when they belong together.

    Only facts that both have are compared: earlier versions did not have all of them.
    """
    found = [f"{key} is another than when it began" for key in (*_SAME_HERE, *_SAME_THERE) if _differ(then, now, key)]
    for part, keys in (("host", _SAME_OF_HOST), ("platform", _SAME_OF_PLATFORM)):
        one, two = then.get(part, {}), now.get(part, {})
        found += [f"{part}: {key} was {one[key]}, is {two[key]}" for key in keys if _differ(one, two, key)]
    one_kb, two_kb = (each.get("host", {}).get("memory_kb", 0) for each in (then, now))
    if one_kb and two_kb and not at_most(abs(one_kb - two_kb), _MEMORY_TOLERANCE * one_kb):
        found.append(f"host: memory_kb was {one_kb}, is {two_kb}")
    return found


def told(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed and is worth a line, though runs may go on."""
    return [
        f"{part}.{key}: was {then[part].get(key)}, is {value}"
        for part in _TOLD
        if part in then and part in now
        for key, value in now[part].items()
        if then[part].get(key) != value
    ]


def _differ(one: Mapping[str, Any], two: Mapping[str, Any], key: str) -> bool:
    return key in one and key in two and one[key] != two[key]


def order(groups: list[Group]) -> list[str]:
    return [cell.folder(1) for group in groups for cell in group.cells]


def schedules(groups: list[Group]) -> dict[str, str]:
    return {f"{group.block:02d}_{group.load}": group.sha256 for group in groups}
