"""Run one cell: bring the regime about, send the schedule, drain, collect, judge."""

from __future__ import annotations

import json
import statistics
from typing import Any, NamedTuple

from experiments.collect import Rows, collect, replica_rows
from experiments.generator import generate
from experiments.model import Experiment
from experiments.observe import observe
from experiments.plan import Cell, Group
from fave import arrivals
from fave.clock import utc_ns
from fave.endpoints import Endpoints
from fave.errors import GatewayError
from fave.gateway_client import GatewayClient
from fave.processes import wait_until
from fave.records import ArrivalRow
from fave.rundir import CellDir, read_json, read_jsonl, write_json, write_jsonl
from fave.settings import to_plain
from fave.storage import Store
from fave.validity import Verdict, judge
from prom import queries
from prom.client import Prometheus
from regimes import openfaas
from regimes.model import resolve

_DRAIN_TIMEOUT_S = 60.0


class Bench(NamedTuple):
    """What every cell of a campaign uses."""

    experiment: Experiment
    endpoints: Endpoints
    gateway: GatewayClient
    prometheus: Prometheus
    store: Store
    campaign: str


class Summary(NamedTuple):
    """For the progress line."""

    requests: int
    failures: int
    invocations: int
    cold_invocations: int
    median_latency_s: float | None
    verdict: Verdict


def warm_caches(bench: Bench, load: str) -> None:
    """Start one replica of each function once, so that page and compile caches are not part of the first cell."""
    functions = bench.experiment.loads[load].functions
    openfaas.apply(bench.gateway, bench.prometheus, "warm", resolve("warm", functions), lambda _: None)


def run_cell(bench: Bench, group: Group, cell: Cell, folder: CellDir, say: openfaas.Say) -> Summary:
    load = bench.experiment.loads[cell.load]
    settings = resolve(cell.regime, load.functions, load.overrides.get(cell.regime))
    applied = openfaas.apply(bench.gateway, bench.prometheus, cell.regime, settings, say)
    # Replica rows begin here, before the first arrival: integrals need the state at the start.
    verified_at_ns = utc_ns()
    before = openfaas.configuration(bench.gateway, settings)
    arrivals.write_csv(folder.schedule, group.schedule)
    _generate(bench, cell, folder)
    drained = drain(bench.prometheus, load.functions)
    ended_at_ns = utc_ns()
    raw = [row for path in folder.arrivals() for row in read_jsonl(path, ArrivalRow)]
    generator = read_json(folder.path / "generator.json")
    events = _events(bench.gateway)
    ready_at_ns = {event["replica_id"]: event["at_ns"] for event in events if event["event"] == "ready"}
    rows = collect(
        bench.store, raw, target=load.target, regime=cell.regime, load=cell.load, known=frozenset(ready_at_ns)
    )
    replicas = replica_rows(bench.prometheus, events, load.functions, verified_at_ns, ended_at_ns)
    write_jsonl(folder.requests, rows.requests)
    write_jsonl(folder.stages, rows.stages)
    write_jsonl(folder.replicas, replicas)
    observed = observe(
        rows,
        replicas,
        generator,
        ready_at_ns,
        initial_ready=applied.initial_ready,
        verified_at_ns=verified_at_ns,
        unchanged=openfaas.configuration(bench.gateway, settings) == before,
        drained=drained,
    )
    verdict = judge(observed, bench.experiment.gates)
    write_json(folder.verdict, {"observed": observed, "verdict": verdict})
    write_json(
        folder.cell,
        {
            "index": cell.index,
            "block": cell.block,
            "load": cell.load,
            "regime": cell.regime,
            "target": load.target,
            "schedule_sha256": group.sha256,
            "settings": to_plain(applied.settings),
            "initial_ready": applied.initial_ready,
            "applied_in_s": applied.took_s,
            "started_at_ns": generator["started_at_ns"],
            "ended_at_ns": ended_at_ns,
            "generator": generator,
        },
    )
    return _summary(rows, verdict)


def _generate(bench: Bench, cell: Cell, folder: CellDir) -> None:
    """One Locust process that sends the schedule and ends by itself."""
    load = bench.experiment.loads[cell.load]
    options = {
        "--schedule": folder.schedule,
        "--target": load.target,
        "--regime": cell.regime,
        "--regime-stands": None,
        "--id-prefix": f"{bench.campaign}-c{cell.index:04d}a{folder.path.name.rpartition('_')[2]}",
        "--query": load.query,
        "--inputs": ",".join(load.inputs),
        "--settings": json.dumps(load.settings),
        "--max-in-flight": load.max_in_flight,
        "--request-timeout": load.request_timeout,
    }
    generate(
        "load.py",
        options,
        out=folder.path,
        log=folder.logs / "locust.log",
        endpoints=bench.endpoints,
        deadline_s=load.traffic.duration + load.request_timeout + 60,
    )


def drain(prometheus: Prometheus, functions: tuple[str, ...]) -> bool:
    """Wait until nothing is in flight any more: a caller's time-out does not end the work."""
    since_ns = utc_ns()

    def quiet() -> bool:
        # Only what was scraped from now on: the newest sample may be older than the last request.
        newest = {s.function: s.value for s in prometheus.raw(queries.IN_FLIGHT, since_ns, utc_ns())}
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


def _summary(rows: Rows, verdict: Verdict) -> Summary:
    latencies = [row.latency_s for row in rows.requests if row.latency_s is not None]
    return Summary(
        requests=len(rows.requests),
        failures=sum(row.status != "ok" for row in rows.requests),
        invocations=len(rows.stages),
        cold_invocations=sum(bool(row.cold) for row in rows.stages),
        median_latency_s=statistics.median(latencies) if latencies else None,
        verdict=verdict,
    )
