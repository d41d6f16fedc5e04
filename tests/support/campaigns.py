"""Campaigns that are made up row by row, in memory or as run folders."""

import random
from pathlib import Path

import msgspec
import polars as pl
from msgspec import structs

from analysis.answers.results import results
from analysis.rows import digest
from analysis.rows.folder import Campaign, Rows, Run, polars_schema
from fave.campaign.experiment import Experiment, Policy
from fave.campaign.record import Manifest, Stopping
from fave.campaign.results import Results
from fave.campaign.rundir import CellDir, write_json, write_jsonl
from fave.campaign.validity import Gates, Verdict
from fave.settings import from_plain, to_plain
from fave.wire.records import ReplicaRow, RequestRow, StageRow
from workloads.model import recorded

S = 1_000_000_000
SETTINGS = {
    "f": {
        "min_replicas": 0,
        "max_replicas": 40,
        "idle_timeout": "1s",
        "target_in_flight": 1.0,
        "max_in_flight": 1,
        "memory_limit_mb": 1024,
        "exec_timeout": "9s",
    }
}
POLICIES = from_plain(SETTINGS, dict[str, Policy])
HOST = {"cpu_model": "c", "cores": 2, "memory_kb": 1, "kernel": "k"}


def load(**change):
    traffic = {"model": "paced", "requests": 100, "duration": "10s", "bursts": 0}
    load = {"target": "f", "traffic": traffic, "blocks": 2, "descriptive": False, "regimes": [], "overrides": {}}
    return load | change


def experiment(**change):
    base = {
        "description": "d",
        "expected_duration": "1m",
        "seed": 1,
        "regimes": ["a", "b"],
        "loads": {"l": load()},
        "contrasts": [["a", "b"]],
        "primary_outcome": "invocation_cold_rate",
        "equivalence_margin": 0.05,
        "gates": to_plain(Gates()),
    }
    return base | change


def with_experiment(whole, **change):
    """Another experiment, with the same runs. change: as it stands in campaign.json."""
    made = from_plain(to_plain(whole.experiment) | change, Experiment)
    return whole._replace(facts=structs.replace(whole.facts, experiment=made))


def of_load(whole, load, **change):
    """A campaign as if it had that load only, and no looks; change: of its experiment."""
    loads = {load: to_plain(whole.experiment.loads[load])}
    return with_experiment(whole, loads=loads, looks=[], **change)._replace(
        runs=[run for run in whole.runs if run.load == load], stopping=Stopping()
    )


def campaign(made, cells, **info):
    """cells: (block, load, regime) -> (stage rows, replica rows); a request row for each stage row."""
    runs, rows = [], {}
    for (block, name, regime), (stages, replicas) in cells.items():
        valid, folder = Verdict(valid=True, findings=()), f"{block:02d}_{name}_{regime}_1"
        end_ns = min(10 * S, max((row.returned_at_ns for row in stages), default=0))
        runs.append(Run(block, name, regime, 1, "f", valid, POLICIES, {"f": 0}, 0, end_ns, folder, entries=("f",)))
        requests = [request_of(k, row, name, regime) for k, row in enumerate(stages)]
        kinds = ((requests, RequestRow), (stages, StageRow), (replicas, ReplicaRow))
        rows[folder] = Rows(*(as_table(made_of, cls) for made_of, cls in kinds))
    facts = from_plain(facts_of(made, [run.folder for run in runs]) | info, Manifest)
    return Campaign("made", facts, recorded({}), Stopping(), runs, [], lambda run: rows[run.folder])


def facts_of(made, order):
    """campaign.json."""
    return {
        "schema": 1,
        "campaign": "made",
        "experiment": made,
        "name": "made",
        "started_at_ns": 0,
        "co_located": True,
        "order": order,
        "host": HOST,
        "versions": {"locust": "1"},
        "source": {"commit": "x", "dirty": False},
        "platform": {"provider": {"provider": "fave-local"}},
    }


def summed(rows):
    """With request rows that are the sums of their stage rows, as the driver writes them."""
    cold = pl.col("cold").fill_null(value=False)
    sums = rows.stages.group_by("request_id").agg(
        pl.len().cast(pl.Int64).alias("invocations"), cold.sum().cast(pl.Int64).alias("cold_invocations")
    )
    requests = rows.requests.drop("invocations", "cold_invocations").join(sums, on="request_id", how="left")
    return rows._replace(requests=requests.with_columns(pl.col("invocations", "cold_invocations").fill_null(0)))


def as_table(rows, cls):
    schema = polars_schema(cls)
    return pl.DataFrame([{name: getattr(row, name) for name in schema} for row in rows], schema=schema)


def answers(whole):
    """As results.json has them."""
    return msgspec.json.decode(msgspec.json.encode(results(whole, digest.of_all(whole))))


def typed(found):
    """results.json as its readers have it."""
    return from_plain(found, Results)


_CHECK = {"kind": "same", "load": "l", "regimes": ["a", "b"], "expected": "", "measured": ""}
_MET = {"threshold": "runs > 0", "load": "l", "regime": "a", "observed": None}


def results_of(*, valid=True, cells=(), contrasts=(), effects=(), controls=(), thresholds=()):
    """Results that say this; each part is laid over one of a small campaign, or of what a check looks like."""
    base = measured(1, blocks=3)
    laid = {
        "cells": (base["cells"][0], cells),
        "contrasts": (base["contrasts"][0], contrasts),
        "effects": (base["contrasts"][0], effects),
        "controls": (_CHECK, controls),
        "thresholds": (_MET, thresholds),
    }
    parts = {name: [below | each for each in several] for name, (below, several) in laid.items()}
    return typed(base | parts | {"validity": base["validity"] | {"valid": valid}})


def request_of(k, row, name, regime):
    return RequestRow(
        k=k,
        request_id=row.request_id,
        regime=regime,
        load=name,
        scheduled_at_ns=row.sent_at_ns,
        fired_at_ns=row.sent_at_ns,
        sent_at_ns=row.sent_at_ns,
        first_byte_at_ns=row.returned_at_ns,
        done_at_ns=row.returned_at_ns,
        latency_s=(row.returned_at_ns - row.sent_at_ns) / S,
        response_time_s=0.1,
        schedule_lag_s=0.0,
        status=row.status,
        error=row.error,
        dropped=False,
        cold=row.cold,
        cold_wait_s=row.cold_wait_s,
        invocations=1,
        cold_invocations=int(bool(row.cold)),
        cost_gb_s=row.cost_gb_s,
        bytes=0,
    )


def invocation(i, at_s, *, cold=False, wait_s=0.0, queue_s=0.0, held_s=0.1, status="ok", error=""):
    return StageRow(
        request_id=f"r{i}",
        invocation_id=f"i{i}",
        stage="f",
        replica_id="x",
        sent_at_ns=int(at_s * S),
        returned_at_ns=int((at_s + held_s) * S),
        cold=cold,
        cold_wait_s=wait_s,
        queue_s=queue_s,
        service_s=held_s,
        status=status,
        error=error,
    )


def start(i, at_s):
    return ReplicaRow(
        at_ns=int(at_s * S), source="gateway", function="f", event="start", replica_id=f"x{i}", request_id=f"r{i}"
    )


def with_cold(shares):
    """Cells of 20 invocations, by (block, regime), of which so many are cold."""
    return {
        (block, "l", regime): ([invocation(i, i / 2, cold=i < cold) for i in range(20)], [])
        for (block, regime), cold in shares.items()
    }


def measured(seed, a=9, b=3, blocks=8):
    """A campaign of 20 invocations a run, of which about a and b are cold."""
    chance = random.Random(seed)
    cold = {(i, regime): mean + chance.randint(-2, 2) for i in range(blocks) for regime, mean in (("a", a), ("b", b))}
    return answers(campaign(experiment(), with_cold(cold)))


def written(folder: Path, made, cells):
    """The same campaign as a run folder; its rows as the driver writes them."""
    whole = campaign(made, cells)
    write_json(folder / "campaign.json", facts_of(made, [run.folder for run in whole.runs]))
    for run, (stages, replicas) in zip(whole.runs, cells.values(), strict=True):
        cell = CellDir(folder / "cells" / run.folder)
        requests = [request_of(k, row, run.load, run.regime) for k, row in enumerate(stages)]
        write_jsonl(cell.requests, requests)
        write_jsonl(cell.stages, stages)
        write_jsonl(cell.replicas, replicas)
        write_json(cell.verdict, {"verdict": run.verdict})
        facts = {name: getattr(run, name) for name in ("block", "load", "regime", "target", "initial_ready")}
        facts["settings"] = SETTINGS
        generator = {"scheduled": len(stages)}
        write_json(cell.cell, facts | {"started_at_ns": 0, "ended_at_ns": run.planned_end_ns, "generator": generator})
    return folder
