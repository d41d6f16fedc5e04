"""`make bench-pipeline`: what the platform adds to the handlers, what fan-out gains, what cold starts and crowds cost.

On the short sample, interleaved in one run so that a drift of the machine meets all alike: the warm pipeline through
gateway and orchestrator, and the same handlers called in a row in one process. On the long sample: six clips one at a
time and all at once. Then each stage's cold start beside a bare process that only imports the handler, and a hundred
requests at four in flight.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec
import psutil

from fave.calling import Caller
from fave.campaign.experiment import Scaling
from fave.clock import utc_ns
from fave.endpoints import Endpoints
from fave.images import handler_of
from fave.processes import wait_until
from fave.settings import ROOT
from fave.storage import Store
from fave.wire.invocation import Invocation
from platforms.gateway import Gateway
from platforms.model import Platform
from platforms.session import opened
from regimes.apply import apply
from regimes.model import resolve
from tests.support.videosearcher import FUNCTIONS, ORCHESTRATOR, WORK
from workloads.graph import GRAPH

PASSES = 5
COLD_STARTS = 3
CONFIG = {"stage-ffmpeg-3": {"fps": 1}}
QUERY = "find scenes with cars"

CROWD, IN_FLIGHT = 100, 4
FAN_OUT_PASSES = 3

# Runs in a process of its own: the handlers as plain functions, one after another, against the same object store.
IN_A_ROW = """
import json, sys, time
from importlib import import_module
from types import SimpleNamespace
from fave.clock import utc_ns
from fave.wire.envelope import Envelope
from fave.wire.invocation import Invocation
from functions.host.logs import Log
from functions.host.replica import Identity
from functions.host.work import Work
from workloads.graph import GRAPH
from workloads.model import shipped
from workloads.workflow import complete, runnable
import msgspec
GRAPH = shipped().graph
modules = {n: import_module("functions." + n.replace("-", "_") + ".handler") for n in GRAPH.functions}
config = json.loads(sys.argv[2]); identity = Identity.from_environment(); log = Log(identity)
def once(request):
    done = {}
    while not complete(GRAPH, done):
        for task in runnable(GRAPH, sys.argv[1], done, frozenset(done)):
            folder = f"s3://fave-artifacts/requests/{request}/{task.name}/"
            envelope = Envelope(request_id=request, stage=task.stage, clip=task.clip, input_uris=task.inputs,
                                output_uri=folder, config=config.get(task.stage, {}))
            call = Invocation(request_id=request, invocation_id="x", sent_at_ns=utc_ns())
            context = SimpleNamespace(replica=identity, invocation=call, ready_at_ns=1, start_peak_rss_mb=0.0,
                                      received_at_ns=utc_ns(), started_at_ns=utc_ns(), invocations_before=1,
                                      work=Work(), log=log)
            with context.work.begun():
                reply = modules[task.stage].handle(SimpleNamespace(body=msgspec.json.encode(envelope)), context)
            done[task.name] = tuple(json.loads(reply["body"])["outputs"])
once("row-warm")
print("ready", flush=True)
for line in sys.stdin:
    began = time.monotonic(); once(line.strip()); print(time.monotonic() - began, flush=True)
"""


def main() -> None:
    subprocess.run([sys.executable, "-m", "assets", "--quiet", "long"], cwd=ROOT, check=True)
    with opened(print) as platform:
        subprocess.run([sys.executable, "-m", "assets", "--quiet", "--upload", "short", "long"], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        bench = Bench(platform)
        _print_warm(*_warm_passes(bench))
        _print_fan_out(_fan_out(bench))
        _print_crowd(_crowd(bench))
        _print_cold(_cold_starts(bench))


class Bench:
    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.endpoints = platform.endpoints
        self.caller = Caller(platform.endpoints.gateway_url)
        self.store = Store.at(platform.endpoints)

    def fixed(self, replicas: int) -> None:
        """So many replicas of every function, neither more nor less."""
        scaling = Scaling(min_replicas=replicas, max_replicas=replicas)
        settings = resolve("warm", FUNCTIONS, scaling)
        apply(self.platform, WORK, "bench", settings)

    def one_pass(self, name: str, video: str = "short", **config: dict) -> tuple[float, dict]:
        """(seconds, `final.json`)"""
        request_id = f"bench-{os.getpid()}-{name}"
        video = f"s3://fave-artifacts/samples/{video}.mp4"
        named = {function.replace("_", "-"): value for function, value in config.items()}
        body = {"video_uri": video, "query": QUERY, "config": {**CONFIG, **named}}
        call = Invocation(request_id=request_id, invocation_id="b", sent_at_ns=utc_ns())
        began_s = time.monotonic()
        reply = self.caller.invoke(ORCHESTRATOR, json.dumps(body).encode(), call.headers())
        took_s = time.monotonic() - began_s
        if reply.status_code != 200:
            raise SystemExit(f"the pipeline failed: {reply.text}")
        return took_s, json.loads(self.store.get(reply.json()["final_uri"]))


def _warm_passes(bench: Bench) -> tuple[dict[int, list[float]], list[float]]:
    """Seconds of each pass: through the platform with 1 and 2 replicas a stage, and in a row."""
    through: dict[int, list[float]] = {1: [], 2: []}
    row: list[float] = []
    with _handlers_in_a_row(bench.endpoints) as in_a_row:
        for replicas, values in through.items():
            bench.fixed(replicas)
            for number in range(2):
                bench.one_pass(f"touch-{replicas}-{number}")
            for number in range(PASSES):
                values.append(bench.one_pass(f"{replicas}-{number}")[0])
                row.append(in_a_row(f"row-{replicas}-{number}"))
    return through, row


def _fan_out(bench: Bench) -> dict[str, dict[int, list[float]]]:
    """Seconds by what is timed and by how many invocations of a request may run at once (2 replicas a stage)."""
    found: dict[str, dict[int, list[float]]] = {
        "whole request": {1: [], 8: []},
        "from first to last clip": {1: [], 8: []},
    }
    bench.fixed(2)
    bench.one_pass("touch-long", "long")
    for number in range(FAN_OUT_PASSES):
        for most in (1, 8):
            options = {"max_concurrent_invocations": most}
            took_s, final = bench.one_pass(f"fan-{most}-{number}", "long", orchestrator=options)
            clips = [row for row in final["rows"] if row["clip"]]
            span_ns = max(row["returned_at_ns"] for row in clips) - min(row["sent_at_ns"] for row in clips)
            found["whole request"][most].append(took_s)
            found["from first to last clip"][most].append(span_ns / 1e9)
    return found


class Crowd(NamedTuple):
    took_s: float
    latencies_s: list[float]
    completed: int
    lost_updates: int
    peak_rss_mb: dict[str, float]
    replicas_mb: float


def _crowd(bench: Bench) -> Crowd:
    """Many requests, a few at a time, with 2 replicas a stage.

    A lost update: a state or a final record in which a task or a row is missing or there twice.
    """
    bench.fixed(2)
    gateway = next(p for p in psutil.process_iter() if "local.gateway" in " ".join(_cmdline(p)))
    heaviest_mb, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            total = sum(_rss(process) for process in gateway.children(recursive=True))
            heaviest_mb[0] = max(heaviest_mb[0], total / 2**20)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began_s = time.monotonic()
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        passes = list(threads.map(lambda number: bench.one_pass(f"crowd-{number}"), range(CROWD)))
    took_s = time.monotonic() - began_s
    stop.set()
    watcher.join()
    finals = [final for _, final in passes]
    peaks: dict[str, float] = {}
    for row in (row for final in finals for row in [final["invocation"], *final["rows"]]):
        peaks[row["stage"]] = max(peaks.get(row["stage"], 0.0), row["peak_rss_mb"])
    return Crowd(
        took_s=took_s,
        latencies_s=[took for took, _ in passes],
        completed=sum(final["status"] == "COMPLETED" for final in finals),
        lost_updates=sum(not _whole(bench, final) for final in finals),
        peak_rss_mb=peaks,
        replicas_mb=heaviest_mb[0],
    )


def _whole(bench: Bench, final: dict) -> bool:
    uri = bench.store.uri(f"requests/{final['request_id']}/metadata/state.json")
    state = json.loads(bench.store.get(uri))
    done = [f"{row['stage']}/{row['clip']}".rstrip("/") for row in final["rows"] if row["status"] == "ok"]
    return state["status"] == "COMPLETED" and sorted(done) == sorted(state["tasks"]) and len(state["tasks"]) == 14


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


@contextlib.contextmanager
def _handlers_in_a_row(endpoints: Endpoints) -> Iterator:
    config = {**CONFIG, "stage-search": {"query": QUERY}, "stage-embedder": {"query": QUERY}}
    command = [sys.executable, "-c", IN_A_ROW, "s3://fave-artifacts/samples/short.mp4", json.dumps(config)]
    with subprocess.Popen(
        command, cwd=ROOT, env=_environment(endpoints), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdout.readline()

        def one_pass(name: str) -> float:
            child.stdin.write(f"{name}-{os.getpid()}\n")
            child.stdin.flush()
            return float(child.stdout.readline())

        yield one_pass
        child.stdin.close()


def _cold_starts(bench: Bench) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """Per function, seconds: start event to ready; a bare process importing the handler; the same, loading lazily."""
    found = {}
    for function in FUNCTIONS:
        apply(bench.platform, WORK, "cold", resolve("cold", WORK.some([function])))
        platform_s, bare_s, lazy_s = [], [], []
        for _ in range(COLD_STARTS):
            platform_s.append(_start_once(Gateway.at(bench.endpoints), function))
            bare_s.append(_import_once(function, bench.endpoints))
            lazy_s.append(_import_once(function, bench.endpoints, FAVE_LAZY="1"))
        found[function] = (platform_s, bare_s, lazy_s)
    return found


def _start_once(gateway: Gateway, stage: str) -> float:
    seen = gateway.events()[-1]["seq"]
    gateway.scale(stage, 1)

    def at_ns() -> dict[str, int]:
        return {event["event"]: event["at_ns"] for event in gateway.events(seen) if event["function"] == stage}

    if not wait_until(lambda: "ready" in at_ns(), timeout_s=60):
        raise SystemExit(f"{stage} did not become ready")
    gateway.scale(stage, 0)
    return (at_ns()["ready"] - at_ns()["start"]) / 1e9


def _import_once(function: str, endpoints: Endpoints, **extra: str) -> float:
    # Without the interpreter's tidying up at the end, which a replica does not wait for either.
    script = f"import os, {handler_of(function)}; os._exit(0)"
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=_environment(endpoints) | extra, check=True)
    return time.monotonic() - began_s


def _environment(endpoints: Endpoints) -> dict[str, str]:
    """As a replica has it: one thread, compiled modules kept."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    graph = {GRAPH: msgspec.json.encode(WORK.graph).decode()}
    return {**inherited, **endpoints.storage_environment(), **graph, "OMP_NUM_THREADS": "1", "FAVE_THREADS": "1"}


def _print_warm(through: dict[int, list[float]], row: list[float]) -> None:
    in_a_row = statistics.median(row)
    print(f"\none warm pass of the short sample, median of {PASSES} (lowest to highest)")
    print(f"{'handlers in a row, one process':48}{_spread(row)}")
    for most, values in through.items():
        ratio = statistics.median(values) / in_a_row
        print(f"{f'gateway and orchestrator, {most} replica(s) a stage':48}{_spread(values)}   {ratio:.2f} x in a row")


def _print_fan_out(found: dict[str, dict[int, list[float]]]) -> None:
    print(f"\nsix clips of the long sample, 2 replicas a stage, median of {FAN_OUT_PASSES} (lowest to highest)")
    print(f"{'':26}{'one at a time':>26}{'up to 8 at a time':>26}{'faster':>9}")
    for what, values in found.items():
        gain = statistics.median(values[1]) / statistics.median(values[8])
        print(f"{what:26}{_spread(values[1]):>26}{_spread(values[8]):>26}{gain:7.2f} x")


def _print_crowd(crowd: Crowd) -> None:
    print(f"\n{CROWD} requests on the short sample, {IN_FLIGHT} in flight, 2 replicas a stage")
    print(f"completed {crowd.completed} of {CROWD}, lost updates {crowd.lost_updates}, {crowd.took_s:.0f} s in all,")
    print(f"{_spread(crowd.latencies_s)} a request, all replicas together at most {crowd.replicas_mb:.0f} MB resident")
    peaks = [f"{name.removeprefix('stage-')} {peak:.0f}" for name, peak in crowd.peak_rss_mb.items()]
    print(f"highest memory of one invocation, MB: {', '.join(peaks)}")


def _print_cold(found: dict[str, tuple[list[float], list[float], list[float]]]) -> None:
    print(f"\ncold start, start event to ready, median of {COLD_STARTS} (lowest to highest)")
    print(f"{'function':24}{'on the platform':>24}{'bare process':>24}{'ratio':>8}{'imports alone':>16}")
    for function, (platform_s, bare_s, lazy_s) in found.items():
        ratio = statistics.median(platform_s) / statistics.median(bare_s)
        row = f"{function:24}{_spread(platform_s):>24}{_spread(bare_s):>24}{ratio:8.2f}"
        print(f"{row}{statistics.median(lazy_s):14.2f} s")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
