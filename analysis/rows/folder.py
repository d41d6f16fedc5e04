"""A run folder: what the campaign was, its runs, and each run's rows, read when they are asked for."""

from __future__ import annotations

import contextlib
import functools
import gzip
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
import numpy as np
import polars as pl

from fave.campaign import record
from fave.campaign.experiment import Experiment, Policy
from fave.campaign.record import Cell, Change, Manifest, Stopping
from fave.campaign.rundir import CellDir
from fave.campaign.validity import Judged, Verdict, reference_latency_s
from fave.errors import InvalidRunError
from fave.wire.records import SCHEMA, ReplicaRow, RequestRow, StageRow
from workloads.graph import Graph
from workloads.model import Recorded, recorded

# What no figure of the report is made of stays in the files: rows are many.
_NOT_NEEDED = frozenset(
    ("invocation_id", "parent_id", "process_started_at_ns", "input_bytes", "output_bytes", "bytes", "first_byte_at_ns")
)
_LAST_LINES = 3


class Run(NamedTuple):
    """One finished cell: who it was, what it was judged to be, what its replicas could use.

    settings: by function, as they were applied. planned_end_ns: of its schedule's duration, where its costs end too.
    scheduled: arrivals of its schedule, 0 where that is not recorded. entries: the functions that arrivals call. graph:
    where that is a director, of what it calls. applied_regime: what stood at the start. switches: of its regime, while
    it ran, and policies of each regime. problems: why it does not belong to its campaign. median_latency_s: as the
    driver observed it.
    """

    block: int
    load: str
    regime: str
    attempt: int
    target: str
    verdict: Verdict
    settings: dict[str, Policy]
    initial_ready: dict[str, int]
    started_at_ns: int
    planned_end_ns: int
    folder: str
    scheduled: int = 0
    problems: tuple[str, ...] = ()
    median_latency_s: float | None = None
    entries: tuple[str, ...] = ()
    graph: Graph | None = None
    applied_regime: str = ""
    switches: tuple[Change, ...] = ()
    policies: Mapping[str, Mapping[str, Policy]] = {}

    @property
    def function(self) -> str:
        """The only one that was called; empty where there are several."""
        return next(iter(self.settings)) if len(self.settings) == 1 else ""

    @property
    def key(self) -> tuple[int, str, str, int]:
        return (self.block, self.load, self.regime, self.attempt)

    @property
    def memory_limit_mb(self) -> dict[str, int]:
        return {name: each.memory_limit_mb for name, each in self.settings.items()}

    @property
    def max_replicas(self) -> dict[str, int]:
        """Of all regimes that it was in."""
        every = [self.settings, *self.policies.values()]
        return {name: max(each[name].max_replicas for each in every) for name in self.settings}


class Rows(NamedTuple):
    """One run's rows.

    problems: what is wrong with its files; rows that cannot be read are not in the tables.
    last_words: by replica, and by request, the last lines that were written, in runs where something went wrong.
    """

    requests: pl.DataFrame
    stages: pl.DataFrame
    replicas: pl.DataFrame
    problems: tuple[str, ...] = ()
    last_words: Mapping[str, Sequence[str]] = {}


class Campaign(NamedTuple):
    """rows: reads a run's rows. One run fits into memory, all runs of a campaign may not.

    stopping: looks that were taken, and after how many blocks a load was decided.
    cut_short: cells that were begun and not finished. unreadable: finished ones whose facts cannot be read, and why.
    """

    name: str
    facts: Manifest
    workload: Recorded
    stopping: Stopping
    runs: list[Run]
    cut_short: list[str]
    rows: Callable[[Run], Rows]
    unreadable: tuple[str, ...] = ()

    @property
    def experiment(self) -> Experiment:
        return self.facts.experiment

    @property
    def regimes(self) -> list[str]:
        return list(self.experiment.regimes)

    def reference_latency_s(self, load: str) -> float | None:
        """What the schedule lag of the load's runs is judged by."""
        runs = (run for run in self.runs if run.load == load)
        judged = [Judged(run.block, run.attempt, run.regime, run.median_latency_s, run.verdict) for run in runs]
        known = load in self.experiment.loads
        return reference_latency_s(judged, self.experiment.regimes_of(load)) if known else None


def load(folder: Path) -> Campaign:
    """The facts of a campaign.

    Raises
    ------
    InvalidRunError
        When `campaign.json` cannot be read, or is of a schema that is not known here.
    """
    facts = record.manifest(folder)
    workload = recorded(facts.workload)
    runs, unreadable = [], []
    for path in sorted((folder / "cells").glob("*/cell.json")):
        try:
            runs.append(_run(CellDir(path.parent), facts, workload))
        except InvalidRunError as error:
            unreadable.append(error.message)
    stopped = (folder / "stopping.json").exists()
    return Campaign(
        name=facts.campaign or folder.name,
        facts=facts,
        workload=workload,
        stopping=record.read(folder, "stopping.json", Stopping) if stopped else Stopping(),
        runs=runs,
        cut_short=sorted(path.name for path in (folder / "cells").glob("*_*") if not CellDir(path).finished),
        rows=lambda run: read_rows(CellDir(folder / "cells" / run.folder)),
        unreadable=tuple(unreadable),
    )


def _run(folder: CellDir, facts: Manifest, workload: Recorded) -> Run:
    cell = record.read(folder.path, folder.cell.name, Cell)
    judged = record.read(folder.path, folder.verdict.name, record.Judged)
    entries = workload.entries_of(cell.target)
    parts = facts.experiment.decompositions.get(cell.regime)
    graph = workload.graph.with_parts(parts) if workload.graph and parts else workload.graph
    return Run(
        block=cell.block,
        load=cell.load,
        regime=cell.regime,
        attempt=int(folder.path.name.rpartition("_")[2]),
        target=cell.target,
        verdict=judged.verdict,
        settings=cell.settings,
        initial_ready=cell.initial_ready,
        started_at_ns=cell.started_at_ns,
        planned_end_ns=_planned_end_ns(cell, facts.experiment),
        folder=folder.path.name,
        scheduled=cell.scheduled,
        problems=tuple(_foreign(cell, folder.path.name, facts)),
        median_latency_s=judged.median_latency_s,
        entries=entries,
        applied_regime=cell.applied_regime,
        switches=cell.switches,
        policies=cell.policies,
        graph=graph.called() if graph and entries == (graph.director,) else None,
    )


def _planned_end_ns(cell: Cell, experiment: Experiment) -> int:
    """Drivers before 2026-11-26 did not wait for it: where their rows end earlier, nothing is known from there on."""
    load = experiment.loads.get(cell.load)
    planned_ns = cell.started_at_ns + (int(load.traffic.duration * 1e9) if load else 0)
    return min(planned_ns, cell.ended_at_ns or planned_ns)


def _foreign(cell: Cell, name: str, facts: Manifest) -> list[str]:
    """Why a cell is not one of this campaign: folders that were copied together are no experiment."""
    experiment, load, regime = facts.experiment, cell.load, cell.regime
    if load not in experiment.loads or regime not in experiment.regimes:
        return [f"mixed campaigns: {load}, {regime} is not of this experiment"]
    problems = []
    if not name.startswith(f"{cell.block:02d}_{load}_{regime}_"):
        problems.append("mixed campaigns: cell.json is of another cell than its folder")
    if cell.target != experiment.loads[load].target:
        problems.append(f"mixed campaigns: its target is {cell.target}")
    planned, used = facts.schedules_sha256.get(f"{cell.block:02d}_{load}"), cell.schedule_sha256
    if planned and used and planned != used:
        problems.append(f"mixed campaigns: schedule {used[:12]}, this campaign's is {planned[:12]}")
    settings = facts.regimes.get(load, {}).get(regime)
    if settings and settings != cell.settings and not experiment.switches(regime):
        problems.append(f"mixed campaigns: its settings are not those of {regime} in campaign.json")
    policies = facts.policies.get(load, {}).get(regime)
    if policies and cell.policies and policies != cell.policies:
        problems.append(f"mixed campaigns: the policies that it switched to are not those of {regime} in campaign.json")
    return problems


def read_rows(cell: CellDir) -> Rows:
    tables, problems = [], []
    for path, cls in ((cell.requests, RequestRow), (cell.stages, StageRow), (cell.replicas, ReplicaRow)):
        table, wrong = _table(path, cls)
        tables.append(table)
        problems += wrong
    requests, stages, replicas = tables
    return Rows(requests, with_routable(stages), replicas, tuple(problems), _last_words(cell))


def with_routable(stages: pl.DataFrame) -> pl.DataFrame:
    """Where no platform said since when it could send to a replica, its own stamp is the best that is known."""
    known = pl.when(pl.col("routable_at_ns") > 0).then("routable_at_ns").otherwise("ready_at_ns")
    return stages.with_columns(known.alias("routable_at_ns"))


def _last_words(cell: CellDir) -> dict[str, list[str]]:
    """What cannot be read of it is no reason to distrust the run."""
    found: dict[str, list[str]] = {}
    content, packed = b"", cell.function_logs
    with contextlib.suppress(OSError, EOFError):
        # Before November 2026 it was not packed, and there for runs with failures alone.
        content = gzip.decompress(packed.read_bytes()) if packed.exists() else packed.with_suffix("").read_bytes()
    for line in content.splitlines():
        with contextlib.suppress(msgspec.DecodeError, KeyError, TypeError):
            message = msgspec.json.decode(line)
            found.setdefault(message["instance"], []).append(message["text"])
            found.setdefault(msgspec.json.decode(message["text"])["request_id"], []).append(message["text"])
    return {about: lines[-_LAST_LINES:] for about, lines in found.items()}


def _table(path: Path, cls: type[msgspec.Struct]) -> tuple[pl.DataFrame, list[str]]:
    """The rows of a file, or of its compressed twin, and what is wrong with it."""
    schema = polars_schema(cls)
    packed = path.with_name(f"{path.name}.gz")
    try:
        if packed.exists() and not path.exists():
            data = gzip.decompress(packed.read_bytes())
            table = _parsed(data, schema)
        else:
            # By its name: a large file is not copied into memory first.
            table = _parsed(path, schema) if path.stat().st_size else pl.DataFrame(schema=schema)
            data = path.read_bytes() if table is None else b""
    except (OSError, EOFError) as error:
        return pl.DataFrame(schema=schema), [f"{path.name} cannot be read ({error})"]
    if table is not None:
        return table, _of_another_schema(table, path.name)
    lines = data.splitlines(keepends=True)
    broken = _broken(lines, 0, schema)
    whole = _parsed(b"".join(line for i, line in enumerate(lines) if i not in broken), schema)
    assert whole is not None, "every line was read by itself"
    half = len(lines) - 1 in broken and not lines[-1].endswith(b"\n")
    problems = [f"{path.name}: its last line is half written"] * half
    numbers = [str(i + 1) for i in sorted(broken) if not (half and i == len(lines) - 1)]
    if numbers:
        shown = ", ".join(numbers[:5]) + ", …" * (len(numbers) > 5)
        problems.append(f"{path.name}: {len(numbers)} lines are no rows, or not finite (line {shown})")
    return whole, problems + _of_another_schema(whole, path.name)


def _parsed(source: Path | bytes, schema: dict[str, Any]) -> pl.DataFrame | None:
    """None where a line of it is no row."""
    if source == b"":
        return pl.DataFrame(schema=schema)
    try:
        return pl.read_ndjson(source, schema=schema)
    except pl.exceptions.PolarsError:
        return None


def _broken(lines: Sequence[bytes], first: int, schema: dict[str, Any]) -> set[int]:
    """Numbers of the lines that are no rows, by halving: few lines are broken, if any."""
    if _parsed(b"".join(lines), schema) is not None:
        return set()
    if len(lines) == 1:
        return {first}
    half = len(lines) // 2
    return _broken(lines[:half], first, schema) | _broken(lines[half:], first + half, schema)


def _of_another_schema(table: pl.DataFrame, name: str) -> list[str]:
    unknown = np.setdiff1d(table["schema"].drop_nulls().to_numpy(), SCHEMA)
    return [f"{name}: schema {number} is not known here (this is schema {SCHEMA})" for number in unknown]


@functools.cache
def polars_schema(cls: type[msgspec.Struct]) -> dict[str, Any]:
    """Column types from the fields of a row that are needed; one that may be None keeps its other type."""
    return {name: _polars_type(kind) for name, kind in get_type_hints(cls).items() if name not in _NOT_NEEDED}


def _polars_type(kind: Any) -> Any:
    plain = {int: pl.Int64, float: pl.Float64, bool: pl.Boolean, str: pl.String}
    options = [option for option in get_args(kind) or (kind,) if option is not type(None)]
    return plain.get(options[0], pl.String)


def used_runs(runs: Sequence[Run], experiment: Experiment, unsound: frozenset[str] = frozenset()) -> list[Run]:
    """The runs of whole, valid blocks: of each block and load the last try, if every regime's run in it is valid.

    One invalid run takes its block with it: otherwise regimes would be compared over different schedules.
    unsound: folders of runs whose rows cannot be believed.
    """
    known = [run for run in runs if run.load in experiment.loads]
    tries: dict[tuple[int, str], int] = {}
    for run in known:
        tries[run.block, run.load] = max(run.attempt, tries.get((run.block, run.load), 0))
    last = [run for run in known if run.attempt == tries[run.block, run.load]]
    valid: dict[tuple[int, str], set[str]] = {}
    for run in last:
        if run.verdict.valid and not run.problems and run.folder not in unsound:
            valid.setdefault((run.block, run.load), set()).add(run.regime)
    return [run for run in last if valid.get((run.block, run.load), set()) >= set(experiment.regimes_of(run.load))]
