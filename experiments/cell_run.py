"""Run one cell: bring the regime about, send the schedule, drain, collect, judge."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from experiments.collect import Rows, Sources, collect
from experiments.generator import generate
from experiments.model import Experiment
from experiments.observe import Conditions, observe
from experiments.plan import Cell, Group
from experiments.standing import reference
from experiments.switching import followed, steps
from experiments.trial import ask_once
from fave.campaign import record
from fave.campaign.experiment import Policy
from fave.campaign.record import Times
from fave.campaign.rundir import CellDir, read_jsonl, write_json, write_jsonl, write_jsonl_gz
from fave.campaign.validity import Gates, Observed, Verdict, judge
from fave.clock import NS_PER_S, monotonic_s, utc_ns
from fave.errors import GatewayError
from fave.processes import wait_until
from fave.storage import Store
from fave.strain import HostStrain
from fave.traffic import arrivals
from fave.wire import keys
from fave.wire.records import ArrivalRow
from platforms.model import Platform, gateway_late_share, same_gateway
from regimes.apply import Say, apply
from regimes.model import resolve

_DRAIN_TIMEOUT_S = 60.0
# Of each function: enough to see what it did last.
_LOG_LINES = 200
# What a cell is doing now, for whoever watches.
Phase = Callable[[str], None]


class Bench(NamedTuple):
    """What every cell of a campaign uses."""

    experiment: Experiment
    platform: Platform
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
    times: Times


class Touched(NamedTuple):
    """images, pods: as a platform tells of them while functions are deployed; of all variants."""

    functions: list[str]
    images: dict[str, str]
    pods: dict[str, Any]


def touch_caches(bench: Bench, loads: list[str]) -> Touched:
    """Start one replica of each function, in each of its variants, once, so that page and compile caches are not part
    of the first cell.
    """
    experiment = bench.experiment
    targets, touched = [experiment.loads[load].target for load in loads], set[str]()
    images, pods = dict[str, str](), dict[str, Any]()
    for work in experiment.works(loads):
        asked = [target for target in targets if not target or target in work.requests]
        functions = {name: each for target in asked for name, each in work.functions_of(target).items()}
        touched |= functions.keys()
        policies = resolve("warm", functions)
        apply(bench.platform, work, "warm", policies, lambda _: None, settle=experiment.settle)
        ask_once(experiment, work, bench.platform, bench.campaign)
        there = bench.platform.facts()
        images, pods = there.images | images, there.pods | pods
    return Touched(sorted(touched), images, pods)


def run_cell(bench: Bench, group: Group, cell: Cell, folder: CellDir, say: Say, phase: Phase) -> Summary:
    """Measure one cell into `folder`.

    Raises
    ------
    PlatformError
        Or one of its kinds, when the platform or the generator fails: the cell is then unfinished.
    """
    began_s = monotonic_s()
    experiment, load, platform = bench.experiment, bench.experiment.loads[cell.load], bench.platform
    plan = steps(experiment, cell.load, cell.regime, group.schedule)
    regime = plan[0].regime

    def policies_in(regime: str) -> dict[str, Policy]:
        return experiment.policies(cell.load, cell.regime, regime)

    policies = policies_in(regime)
    load_1min = os.getloadavg()[0]
    with platform.observe(policies) as watch:
        phase("bringing the initial state about")
        initial = load.initial_replicas.get(cell.regime)
        work = experiment.work_of(cell.regime)
        applied = apply(platform, work, regime, policies, say, initial=initial, settle=experiment.settle)
        # Replica rows begin here, before the first arrival: integrals need the state at the start.
        verified_at_ns, host = watch.begin(), HostStrain([os.getpid(), *platform.own_processes()])
        before = platform.standing(policies)
        snapshot = _snapshot(bench, cell, folder)
        arrivals.write_csv(folder.schedule, group.schedule)
        phase("sending")
        with followed(platform, work, plan[1:], policies_in, folder, say) as changes:
            _generate(bench, group, cell, folder)
            generator = record.read(folder.path, "generator.json", record.Generated)
            # Every arm's costs count for the same time: the last silence belongs to it.
            phase("waiting for the planned end")
            planned_end_ns = generator.started_at_ns + int(load.traffic.duration * NS_PER_S)
            time.sleep(max(0, planned_end_ns - utc_ns()) / NS_PER_S)
        phase("draining")
        drained = drain(platform, policies)
        cpu = host.cpu_so_far()
        phase("collecting")
        seen = watch.end()
    stands = platform.standing(policies) == (changes[-1].standing if changes else before)
    switches, afterwards = tuple(each.change for each in changes), _snapshot(bench, cell, folder)
    write_json(folder.snapshots, {"before": snapshot, "after": afterwards})
    raw = [row for path in folder.arrivals() for row in read_jsonl(path, ArrivalRow)]
    rows = collect(Sources(bench.store, work, seen, applied.initial_ready), raw, regime=cell.regime, load=cell.load)
    write_jsonl(folder.requests, rows.requests)
    write_jsonl(folder.stages, rows.stages)
    write_jsonl(folder.replicas, seen.rows)
    write_jsonl_gz(folder.finals, rows.finals)
    _keep_logs(platform, policies, folder, verified_at_ns)
    observed = observe(
        rows,
        seen,
        generator,
        Conditions(
            initial_ready=applied.initial_ready,
            verified_at_ns=verified_at_ns,
            unchanged=stands and same_gateway(snapshot["gateway"], afterwards["gateway"]),
            drained=drained,
            cpu=cpu,
            gateway_late_share=gateway_late_share(snapshot["gateway"], afterwards["gateway"]),
            policies=applied.policies,
            switches=switches,
            missed=len(plan) - 1 - len(switches),
            switched_to={each: policies_in(each) for each in experiment.regimes_in(cell.regime)},
        ),
    )
    verdict = write_verdict(
        folder, observed, experiment.gates, reference(folder.path.parent, cell.load, experiment.regimes_of(cell.load))
    )
    times = _times(began_s, seen.until_ns, applied.took_s, float(load.traffic.duration), planned_end_ns)
    facts = record.Cell(
        index=cell.index,
        block=cell.block,
        load=cell.load,
        regime=cell.regime,
        target=load.target,
        schedule_sha256=group.sha256,
        applied_regime=regime,
        settings=applied.policies,
        labels=before,
        initial_ready=applied.initial_ready,
        applied_in_s=applied.took_s,
        started_at_ns=generator.started_at_ns,
        ended_at_ns=seen.until_ns,
        generator=generator,
        host_load_1min=load_1min,
        times=times,
        switches=switches,
        policies={each: policies_in(each) for each in experiment.regimes_in(cell.regime)} if switches else {},
    )
    record.write(folder.path, folder.cell.name, facts)
    return _summary(rows, verdict, times)


def write_verdict(folder: CellDir, observed: Observed, gates: Gates, reference_s: float | None) -> Verdict:
    observed = msgspec.structs.replace(observed, reference_latency_s=reference_s)
    verdict = judge(observed, gates)
    record.write(folder.path, folder.verdict.name, record.Judged(verdict, observed))
    return verdict


def _keep_logs(platform: Platform, functions: Iterable[str], folder: CellDir, since_ns: int) -> None:
    """The end of what each function wrote during the run, so that the report can quote it: replicas' logs go."""
    found: list[dict[str, Any]] = []
    for function in functions:
        with contextlib.suppress(GatewayError):
            found += platform.logs(function, since_ns, _LOG_LINES)
    write_jsonl_gz(folder.function_logs, found)


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
    sizes_bytes = bench.store.sizes_bytes(keys.REQUESTS + f"{prefix_of(bench, cell, folder)}-")
    return {
        "at_ns": utc_ns(),
        "gateway": bench.platform.counters(),
        "storage": {"objects": len(sizes_bytes), "bytes": sum(sizes_bytes.values())},
    }


def _generate(bench: Bench, group: Group, cell: Cell, folder: CellDir) -> None:
    """One Locust process that sends the schedule and ends by itself."""
    load = bench.experiment.loads[cell.load]
    options = {
        "--schedule": folder.schedule,
        # Locust gets another home, where `~` would be something else.
        "--workload": os.path.expanduser(bench.experiment.workload),
        "--target": load.target,
        "--variables": json.dumps(load.variables),
        "--seed": group.seed,
        "--regime": bench.experiment.regime_of(cell.regime),
        "--parts": json.dumps(bench.experiment.decompositions.get(cell.regime, {})),
        "--regime-stands": None,
        "--id-prefix": prefix_of(bench, cell, folder),
        "--max-in-flight": load.max_in_flight,
        "--request-timeout": load.request_timeout,
        "--processes": load.processes if load.processes > 1 else "",
    }
    generate(
        "load.py",
        options,
        out=folder.path,
        log=folder.logs / "locust.log",
        platform=bench.platform,
        deadline_s=load.traffic.duration + load.request_timeout + 60,
    )


def drain(platform: Platform, functions: Iterable[str]) -> bool:
    """Wait until nothing is in flight any more: a caller's timeout does not end the work."""
    since_ns = utc_ns()

    def quiet() -> bool:
        # Only what was scraped from now on: the newest sample may be older than the last request.
        newest = platform.in_flight_since(since_ns)
        return all(newest.get(function) == 0 for function in functions)

    return wait_until(quiet, timeout_s=_DRAIN_TIMEOUT_S, interval_s=0.25)


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
