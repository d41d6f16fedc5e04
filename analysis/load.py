"""A run folder into tables: one row per run, per request, per invocation, per replica observation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
import polars as pl

from fave.errors import ConfigError
from fave.records import SCHEMA, ReplicaRow, RequestRow, StageRow
from fave.rundir import CellDir, read_json, read_jsonl
from fave.validity import Verdict

_KEYS = ("block", "load", "regime", "attempt")


class Run(NamedTuple):
    """One finished cell: who it was, what it was judged to be, what its replicas could use.

    settings: by function, as they were applied.
    """

    block: int
    load: str
    regime: str
    attempt: int
    target: str
    verdict: Verdict
    settings: dict[str, dict[str, Any]]
    initial_ready: dict[str, int]
    started_at_ns: int
    folder: str

    @property
    def key(self) -> tuple[int, str, str, int]:
        return (self.block, self.load, self.regime, self.attempt)

    @property
    def memory_limit_mb(self) -> dict[str, int]:
        return {name: each["memory_limit_mb"] for name, each in self.settings.items()}

    @property
    def max_replicas(self) -> dict[str, int]:
        return {name: each["max_replicas"] for name, each in self.settings.items()}


class Campaign(NamedTuple):
    """`requests`, `stages`, `replicas` carry the columns block, load, regime, attempt beside their own.

    experiment: with defaults for what campaigns of earlier versions did not have.
    stopping: by load, what the stopping rule decided; empty without one.
    cut_short: cells that were begun and not finished.
    """

    name: str
    info: dict[str, Any]
    stopping: dict[str, dict[str, int]]
    runs: list[Run]
    cut_short: list[str]
    requests: pl.DataFrame
    stages: pl.DataFrame
    replicas: pl.DataFrame

    @property
    def experiment(self) -> dict[str, Any]:
        return {"thresholds": [], "controls": [], "capacity": [], "stopping": None, **self.info["experiment"]}


def load(folder: Path) -> Campaign:
    info = read_json(folder / "campaign.json")
    if info.get("schema") != SCHEMA:
        raise ConfigError(f"{folder.name}: schema {info.get('schema')} is not known here (this is schema {SCHEMA})")
    runs: list[Run] = []
    tables: dict[str, list[pl.DataFrame]] = {"requests": [], "stages": [], "replicas": []}
    for path in sorted((folder / "cells").glob("*/cell.json")):
        cell = CellDir(path.parent)
        run = _run(cell)
        runs.append(run)
        for table, file, cls in (
            ("requests", cell.requests, RequestRow),
            ("stages", cell.stages, StageRow),
            ("replicas", cell.replicas, ReplicaRow),
        ):
            tables[table].append(_tagged(_read(file, cls), run))
    return Campaign(
        name=info.get("campaign", folder.name),
        info=info,
        stopping=read_json(folder / "stopping.json") if (folder / "stopping.json").exists() else {},
        runs=runs,
        cut_short=sorted(path.name for path in (folder / "cells").glob("*_*") if not CellDir(path).finished),
        requests=_joined(tables["requests"], RequestRow),
        stages=_joined(tables["stages"], StageRow),
        replicas=_joined(tables["replicas"], ReplicaRow),
    )


def _run(cell: CellDir) -> Run:
    facts = read_json(cell.cell)
    verdict = msgspec.convert(read_json(cell.verdict)["verdict"], Verdict)
    return Run(
        block=facts["block"],
        load=facts["load"],
        regime=facts["regime"],
        attempt=int(cell.path.name.rpartition("_")[2]),
        target=facts["target"],
        verdict=verdict,
        settings=facts["settings"],
        initial_ready=facts["initial_ready"],
        started_at_ns=facts["started_at_ns"],
        folder=cell.path.name,
    )


def _read(path: Path, cls: type[msgspec.Struct]) -> pl.DataFrame:
    """JSON lines by polars; by the tolerant reader where a crash cut the last line short."""
    schema = polars_schema(cls)
    if not path.exists() or not path.stat().st_size:
        return pl.DataFrame(schema=schema)
    try:
        return pl.read_ndjson(path, schema=schema)
    except pl.exceptions.ComputeError:
        return pl.DataFrame([msgspec.structs.asdict(row) for row in read_jsonl(path, cls)], schema=schema)


def polars_schema(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Column types from the fields of a row; a field that may be None keeps its other type."""
    return {name: _polars_type(kind) for name, kind in get_type_hints(cls).items()}


def _polars_type(kind: Any) -> Any:
    plain = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String}
    options = [option for option in get_args(kind) or (kind,) if option is not type(None)]
    return plain.get(options[0], pl.String)


def _tagged(table: pl.DataFrame, run: Run) -> pl.DataFrame:
    own = [pl.lit(run.block).alias("block"), pl.lit(run.load).alias("load"), pl.lit(run.regime).alias("regime")]
    return table.with_columns(*own, pl.lit(run.attempt).alias("attempt"))


def _joined(parts: list[pl.DataFrame], cls: type[msgspec.Struct]) -> pl.DataFrame:
    if parts:
        return pl.concat(parts)
    keys = {"block": pl.Int32, "load": pl.String, "regime": pl.String, "attempt": pl.Int32}
    return pl.DataFrame(schema=polars_schema(cls) | keys)


def of_run(table: pl.DataFrame, run: Run) -> pl.DataFrame:
    return table.filter(
        (pl.col("block") == run.block)
        & (pl.col("load") == run.load)
        & (pl.col("regime") == run.regime)
        & (pl.col("attempt") == run.attempt)
    )


def regimes_of(experiment: dict[str, Any], load: str) -> list[str]:
    """The regimes that a load runs in; all of the experiment's unless it names some."""
    return list(experiment["loads"][load].get("regimes") or experiment["regimes"])


def used_runs(runs: list[Run], experiment: dict[str, Any]) -> list[Run]:
    """The runs of whole, valid blocks: of each block and load the last try, if every regime's run in it is valid.

    One invalid run takes its block with it: otherwise regimes would be compared over different schedules.
    """
    tries: dict[tuple[int, str], int] = {}
    for run in runs:
        tries[run.block, run.load] = max(run.attempt, tries.get((run.block, run.load), 0))
    last = [run for run in runs if run.attempt == tries[run.block, run.load]]
    valid: dict[tuple[int, str], set[str]] = {}
    for run in last:
        if run.verdict.valid:
            valid.setdefault((run.block, run.load), set()).add(run.regime)
    return [run for run in last if valid.get((run.block, run.load), set()) >= set(regimes_of(experiment, run.load))]
