"""`make bench-pipeline`: what the platform adds to the handlers, and what a cold start of each stage costs.

Three things on the short sample, in one run, interleaved so that a drift of the machine meets all alike:
the warm pipeline through gateway and orchestrator, the same handlers called in a row in one process, and each
stage's cold start on the platform beside a bare process that only imports the handler.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from experiments.platform_session import clients, platform, upload_samples
from fave.clock import utc_ns
from fave.endpoints import Endpoints
from fave.gateway_client import GatewayClient
from fave.invocation import Invocation
from fave.settings import ROOT
from fave.workload import ORCHESTRATOR, PIPELINE, STAGES, functions_of
from prom.client import Prometheus
from regimes import openfaas
from regimes.model import Scaling, resolve

PASSES = 5
COLD_STARTS = 3
CONFIG = {"stage-ffmpeg-3": {"fps": 1}}
QUERY = "find scenes with cars"

# Runs in a process of its own: the handlers as plain functions, one after another, against the same object store.
IN_A_ROW = """
import json, sys, time
from importlib import import_module
from types import SimpleNamespace
from fave.clock import utc_ns
from fave.envelope import Envelope
from fave.invocation import Invocation
from functions.host.replica import Identity
from orchestrator.workflow import PIPELINE, complete, runnable
import msgspec
modules = {n.stage: import_module("functions." + n.stage.replace("-", "_") + ".handler") for n in PIPELINE}
config = json.loads(sys.argv[2]); identity = Identity.from_environment()
def once(request):
    done = {}
    while not complete(PIPELINE, done):
        for task in runnable(PIPELINE, sys.argv[1], done, frozenset(done)):
            folder = f"s3://fave-artifacts/requests/{request}/{task.name}/"
            envelope = Envelope(request_id=request, stage=task.stage, clip=task.clip, input_uris=task.inputs,
                                output_uri=folder, config=config.get(task.stage, {}))
            call = Invocation(request_id=request, invocation_id="x", sent_at_ns=utc_ns())
            context = SimpleNamespace(replica=identity, invocation=call, ready_at_ns=1, received_at_ns=utc_ns(),
                                      started_at_ns=utc_ns(), invocations_before=1)
            reply = modules[task.stage].handle(SimpleNamespace(body=msgspec.json.encode(envelope)), context)
            done[task.name] = tuple(json.loads(reply["body"])["outputs"])
once("row-warm")
print("ready", flush=True)
for line in sys.stdin:
    began = time.monotonic(); once(line.strip()); print(time.monotonic() - began, flush=True)
"""


def main() -> None:
    with platform(print) as endpoints:
        upload_samples()
        gateway, prometheus = clients(endpoints)
        through, row = _warm_passes(endpoints, gateway, prometheus)
        _print_warm(through, row)
        _print_cold(_cold_starts(gateway, prometheus, endpoints))


def _warm_passes(
    endpoints: Endpoints, gateway: GatewayClient, prometheus: Prometheus
) -> tuple[dict[int, list[float]], list[float]]:
    """Seconds of each pass: through the platform with max 1 and max 2 replicas, and in a row."""
    through: dict[int, list[float]] = {1: [], 2: []}
    row: list[float] = []
    with _handlers_in_a_row(endpoints) as one_pass:
        for most in through:
            fixed = Scaling(min_replicas=most, max_replicas=most)
            openfaas.apply(gateway, prometheus, "bench", resolve("warm", functions_of(PIPELINE), fixed))
            _pipeline_pass(gateway, f"touch-{most}")
            for number in range(PASSES):
                through[most].append(_pipeline_pass(gateway, f"{most}-{number}"))
                row.append(one_pass(f"row-{most}-{number}"))
    return through, row


def _pipeline_pass(gateway: GatewayClient, name: str) -> float:
    video = "s3://fave-artifacts/samples/short.mp4"
    body = json.dumps({"video_uri": video, "query": QUERY, "config": CONFIG}).encode()
    call = Invocation(request_id=f"bench-{os.getpid()}-{name}", invocation_id="b", sent_at_ns=utc_ns())
    began_s = time.monotonic()
    reply = gateway.invoke(ORCHESTRATOR, body, call.headers())
    took_s = time.monotonic() - began_s
    if reply.status_code != 200:
        raise SystemExit(f"the pipeline failed: {reply.text}")
    return took_s


@contextlib.contextmanager
def _handlers_in_a_row(endpoints: Endpoints) -> Iterator:
    config = {**CONFIG, "stage-search": {"query": QUERY}}
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


def _cold_starts(
    gateway: GatewayClient, prometheus: Prometheus, endpoints: Endpoints
) -> dict[str, tuple[list[float], list[float]]]:
    """Per stage: seconds from the platform's start event to ready, and of a bare process importing the handler."""
    found = {}
    for stage in STAGES:
        openfaas.apply(gateway, prometheus, "cold", resolve("cold", (stage,)))
        platform_s, bare_s = [], []
        for _ in range(COLD_STARTS):
            platform_s.append(_start_once(gateway, stage))
            bare_s.append(_import_once(stage, endpoints))
        found[stage] = (platform_s, bare_s)
    return found


def _start_once(gateway: GatewayClient, stage: str) -> float:
    seen = gateway.events()[-1]["seq"]
    gateway.scale(stage, 1)
    while True:
        events = {event["event"]: event["at_ns"] for event in gateway.events(seen) if event["function"] == stage}
        if "ready" in events:
            gateway.scale(stage, 0)
            return (events["ready"] - events["start"]) / 1e9
        time.sleep(0.02)


def _import_once(stage: str, endpoints: Endpoints) -> float:
    module = f"functions.{stage.replace('-', '_')}.handler"
    # Without the interpreter's tidying up at the end, which a replica does not wait for either.
    script = f"import os, {module}; os._exit(0)"
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=_environment(endpoints), check=True)
    return time.monotonic() - began_s


def _environment(endpoints: Endpoints) -> dict[str, str]:
    """As a replica has it: one thread, compiled modules kept."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, **endpoints.storage_environment(), "OMP_NUM_THREADS": "1", "FAVE_THREADS": "1"}


def _print_warm(through: dict[int, list[float]], row: list[float]) -> None:
    in_a_row = statistics.median(row)
    print(f"\none warm pass of the short sample, median of {PASSES} (lowest to highest)")
    print(f"{'handlers in a row, one process':48}{_spread(row)}")
    for most, values in through.items():
        ratio = statistics.median(values) / in_a_row
        print(f"{f'gateway and orchestrator, {most} replica(s) a stage':48}{_spread(values)}   {ratio:.2f} x in a row")


def _print_cold(found: dict[str, tuple[list[float], list[float]]]) -> None:
    print(f"\ncold start, start event to ready, median of {COLD_STARTS} (lowest to highest)")
    print(f"{'stage':24}{'on the platform':>24}{'bare import':>24}{'ratio':>8}")
    for stage, (platform_s, bare_s) in found.items():
        ratio = statistics.median(platform_s) / statistics.median(bare_s)
        print(f"{stage:24}{_spread(platform_s):>24}{_spread(bare_s):>24}{ratio:8.2f}")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
