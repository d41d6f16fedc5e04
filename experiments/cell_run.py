"""Run one cell: bring the regime about, send the schedule, drain, collect, judge."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from experiments.collect import Rows, collect, replica_rows
from experiments.generator import generate
from experiments.model import Experiment
from experiments.observe import Conditions, observe
from experiments.plan import Cell, Group
from experiments.standing import reference
from fave import arrivals
from fave.clock import NS_PER_S, iso, monotonic_s, utc_ns
from fave.endpoints import Endpoints
from fave.errors import GatewayError
from fave.gateway_client import GatewayClient
from fave.processes import wait_until
from fave.records import ArrivalRow, ReplicaRow
from fave.rundir import CellDir, read_json, read_jsonl, write_json, write_jsonl, write_jsonl_gz
from fave.settings import to_plain
from fave.storage import Store
from fave.strain import HostStrain, Strain
from fave.validity import Gates, Observed, Verdict, judge
from prom.client import Prometheus
from regimes import openfaas
from regimes.cluster import Cluster
from regimes.model import resolve

_DRAIN_TIMEOUT_S = 60.0
_ENDED_BADLY = frozenset(("crashed", "oom_killed", "start_failed"))
# Of each function: enough to see what it did last.
_LOG_LINES = 200
# What a cell is doing now, for whoever watches.
Phase = Callable[[str], None]


class Bench(NamedTuple):
    """What every cell of a campaign uses. cluster: where Kubernetes can be asked."""

    experiment: Experiment
    endpoints: Endpoints
    gateway: GatewayClient
    prometheus: Prometheus
    store: Store
    campaign: str
    cluster: Cluster | None = None


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Where a cell's wall time went.

    state_s: bringing the initial state about and verifying it. load_s: from the start of the schedule to its planned
    end. drain_s: from there until nothing was in flight any more.
    """

    state_s: float
    load_s: float
    drain_s: float
    other_s: float


class Summary(NamedTuple):
    """For the progress line."""

    requests: int
    failures: int
    invocations: int
    cold_invocations: int
    median_latency_s: float | None
    verdict: Verdict
    times: Times


def touch_caches(bench: Bench, loads: list[str]) -> list[str]:
    """Start one replica of each function once, so that page and compile caches are not part of the first cell."""
    functions = tuple(sorted({name for load in loads for name in bench.experiment.loads[load].functions}))
    settings, rule = resolve("warm", functions), bench.experiment.settle
    openfaas.apply(bench.gateway, bench.prometheus, "warm", settings, lambda _: None, settle=rule)
    return list(functions)


def run_cell(bench: Bench, group: Group, cell: Cell, folder: CellDir, say: openfaas.Say, phase: Phase) -> Summary:
    """Measure one cell into `folder`.

    Raises
    ------
    PlatformError
        Or one of its kinds, when the platform or the generator fails: the cell is then unfinished.
    """
    began_s = monotonic_s()
    experiment, load = bench.experiment, bench.experiment.loads[cell.load]
    regime, settings = experiment.regime_of(cell.regime), experiment.settings(cell.load, cell.regime)
    phase("bringing the initial state about")
    load_1min = os.getloadavg()[0]
    applied = openfaas.apply(
        bench.gateway,
        bench.prometheus,
        regime,
        settings,
        say,
        initial=load.initial_replicas.get(cell.regime),
        settle=experiment.settle,
    )
    # Replica rows begin here, before the first arrival: integrals need the state at the start.
    verified_at_ns, host = utc_ns(), HostStrain(_own_processes(bench))
    before = openfaas.configuration(bench.gateway, settings)
    snapshot = _snapshot(bench, cell, folder)
    arrivals.write_csv(folder.schedule, group.schedule)
    phase("sending")
    _generate(bench, cell, folder)
    generator = read_json(folder.path / "generator.json")
    # Every arm's costs count for the same time: the last silence belongs to it.
    phase("waiting for the planned end")
    planned_end_ns = generator["started_at_ns"] + int(load.traffic.duration * NS_PER_S)
    time.sleep(max(0, planned_end_ns - utc_ns()) / NS_PER_S)
    phase("draining")
    drained = drain(bench.prometheus, load.functions)
    ended_at_ns, cpu = utc_ns(), host.cpu_so_far()
    phase("collecting")
    write_json(folder.snapshots, {"before": snapshot, "after": _snapshot(bench, cell, folder)})
    raw = [row for path in folder.arrivals() for row in read_jsonl(path, ArrivalRow)]
    events = _events(bench.gateway)
    ready_at_ns = {event["replica_id"]: event["at_ns"] for event in events if event["event"] == "ready"}
    rows = collect(bench.store, raw, target=load.target, regime=cell.regime, load=cell.load, ready_at_ns=ready_at_ns)
    replicas = replica_rows(bench.prometheus, events, load.functions, verified_at_ns, ended_at_ns)
    if bench.cluster:
        seen = bench.cluster.replica_rows(load.functions, verified_at_ns, ended_at_ns)
        replicas = sorted([*replicas, *seen], key=lambda row: row.at_ns)
    write_jsonl(folder.requests, rows.requests)
    write_jsonl(folder.stages, rows.stages)
    write_jsonl(folder.replicas, replicas)
    write_jsonl_gz(folder.finals, rows.finals)
    if _trouble(rows, replicas):
        _keep_logs(bench.gateway, load.functions, folder, verified_at_ns)
    observed = observe(
        rows,
        replicas,
        generator,
        ready_at_ns,
        Conditions(
            initial_ready=applied.initial_ready,
            verified_at_ns=verified_at_ns,
            unchanged=openfaas.configuration(bench.gateway, settings) == before,
            drained=drained,
            strain=_strain(bench, host, verified_at_ns),
            cpu=cpu,
        ),
    )
    verdict = write_verdict(
        folder, observed, experiment.gates, reference(folder.path.parent, cell.load, experiment.regimes_of(cell.load))
    )
    times = _times(began_s, ended_at_ns, applied.took_s, float(load.traffic.duration), planned_end_ns)
    write_json(
        folder.cell,
        {
            "index": cell.index,
            "block": cell.block,
            "load": cell.load,
            "regime": cell.regime,
            "target": load.target,
            "schedule_sha256": group.sha256,
            "applied_regime": regime,
            "settings": to_plain(applied.settings),
            "labels": before,
            "initial_ready": applied.initial_ready,
            "applied_in_s": applied.took_s,
            "started_at_ns": generator["started_at_ns"],
            "ended_at_ns": ended_at_ns,
            "generator": generator,
            "host_load_1min": load_1min,
            "times": times,
        },
    )
    return _summary(rows, verdict, times)


def write_verdict(folder: CellDir, observed: Observed, gates: Gates, reference_s: float | None) -> Verdict:
    observed = msgspec.structs.replace(observed, reference_latency_s=reference_s)
    verdict = judge(observed, gates)
    write_json(folder.verdict, {"observed": observed, "verdict": verdict})
    return verdict


def _trouble(rows: Rows, replicas: list[ReplicaRow]) -> bool:
    failed = any(row.status not in ("ok", "dropped", "unsent") for row in rows.requests)
    return failed or any(row.event in _ENDED_BADLY for row in replicas)


def _keep_logs(gateway: GatewayClient, functions: tuple[str, ...], folder: CellDir, since_ns: int) -> None:
    """What the functions wrote during the run, so that the report can quote it: replicas and their logs go."""
    found: list[dict[str, Any]] = []
    for function in functions:
        with contextlib.suppress(GatewayError):
            found += gateway.logs(function, iso(since_ns), _LOG_LINES)
    write_jsonl(folder.function_logs, found)


def _own_processes(bench: Bench) -> list[int]:
    """Roots of the trees that are FAVE's: the driver with its generator, and the embedded platform's supervisor."""
    return [os.getpid(), *filter(None, [bench.endpoints.supervisor_pid])]


def _strain(bench: Bench, host: HostStrain, since_ns: int) -> Strain | None:
    """Of the machines that the functions run on: this one, the cluster's nodes, or nobody knows which."""
    if bench.endpoints.embedded:
        return host.so_far()
    return bench.cluster.strain(since_ns) if bench.cluster else None


def _times(began_s: float, ended_at_ns: int, state_s: float, load_s: float, planned_end_ns: int) -> Times:
    drain_s = max(0.0, (ended_at_ns - planned_end_ns) / NS_PER_S)
    other_s = max(0.0, monotonic_s() - began_s - state_s - load_s - drain_s)
    return Times(state_s=state_s, load_s=load_s, drain_s=drain_s, other_s=other_s)


def prefix_of(bench: Bench, cell: Cell, folder: CellDir) -> str:
    """What the ids of the cell's requests begin with, in this attempt and in no other."""
    return f"{bench.campaign}-c{cell.index:04d}a{folder.path.name.rpartition('_')[2]}"


def _snapshot(bench: Bench, cell: Cell, folder: CellDir) -> dict[str, Any]:
    """What the gateway has counted, and what the store holds of this cell."""
    # With the dash: attempt 1 is no prefix of attempt 10.
    sizes_bytes = bench.store.sizes_bytes(f"requests/{prefix_of(bench, cell, folder)}-")
    return {
        "at_ns": utc_ns(),
        "gateway": bench.prometheus.gateway(),
        "storage": {"objects": len(sizes_bytes), "bytes": sum(sizes_bytes.values())},
    }


def _generate(bench: Bench, cell: Cell, folder: CellDir) -> None:
    """One Locust process that sends the schedule and ends by itself."""
    load = bench.experiment.loads[cell.load]
    options = {
        "--schedule": folder.schedule,
        "--target": load.target,
        "--regime": bench.experiment.regime_of(cell.regime),
        "--regime-stands": None,
        "--id-prefix": prefix_of(bench, cell, folder),
        "--query": load.query,
        "--sample": load.sample,
        "--inputs": ",".join(_addresses(bench.store, load.inputs)),
        "--settings": json.dumps(load.settings),
        "--max-in-flight": load.max_in_flight,
        "--request-timeout": load.request_timeout,
        "--processes": load.processes if load.processes > 1 else "",
    }
    generate(
        "load.py",
        options,
        out=folder.path,
        log=folder.logs / "locust.log",
        endpoints=bench.endpoints,
        deadline_s=load.traffic.duration + load.request_timeout + 60,
    )


def _addresses(store: Store, inputs: tuple[str, ...]) -> list[str]:
    return [each if "://" in each else store.uri(each) for each in inputs]


def drain(prometheus: Prometheus, functions: tuple[str, ...]) -> bool:
    """Wait until nothing is in flight any more: a caller's timeout does not end the work."""
    since_ns = utc_ns()

    def quiet() -> bool:
        # Only what was scraped from now on: the newest sample may be older than the last request.
        newest = prometheus.in_flight_since(since_ns)
        return all(newest.get(function) == 0 for function in functions)

    return wait_until(quiet, timeout_s=_DRAIN_TIMEOUT_S, interval_s=0.25)


def _events(gateway: GatewayClient) -> list[dict[str, Any]]:
    """The platform's event log; empty where there is none (a real OpenFaaS)."""
    try:
        return gateway.events()
    except GatewayError as error:
        if error.status == 404:
            return []
        raise


def _summary(rows: Rows, verdict: Verdict, times: Times) -> Summary:
    latencies = [row.latency_s for row in rows.requests if row.latency_s is not None]
    return Summary(
        requests=len(rows.requests),
        failures=sum(row.status != "ok" for row in rows.requests),
        invocations=len(rows.stages),
        cold_invocations=sum(bool(row.cold) for row in rows.stages),
        median_latency_s=statistics.median(latencies) if latencies else None,
        verdict=verdict,
        times=times,
    )
