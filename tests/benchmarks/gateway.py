"""The gateway's own cost: the same upstream direct, through FAVE's gateway and through others, in interleaved windows.

    make bench-gateway     (4 minutes; on a machine that does nothing else; needs wrk: apt-get install wrk)

REAL_GATEWAY="[name=]url ..." names others: each url invokes a function that costs as little as `fast_server` does. CPU
is that of the process that listens there. From zero: how long a call waits beyond what its replica itself needed, for a
function of FAVE's host (which stamps when it was ready) and for one of somebody else's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil
import requests

from fave.campaign.rundir import RUNS, write_atomic
from fave.processes import wait_until
from fave.settings import ROOT
from fave.wire.openfaas import DIRECTORY, HANDLER, FunctionSpec
from tests.benchmarks.load import fast_server
from tests.conftest import ECHO, Running, connect, start_platform

IN_FLIGHT = (1, 16, 64)
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


class Window(NamedTuple):
    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def measure(url: str, in_flight: int, seconds: int, process: psutil.Process | None) -> Window:
    before_s = _cpu_s(process)
    command = ["wrk", "-t1", f"-c{in_flight}", f"-d{seconds}s", "--latency", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"{url}:\n{text}")
    count = int(_found(r"(\d+) requests in", text))
    cpu_us = (_cpu_s(process) - before_s) / count * 1e6
    return Window(float(_found(r"Requests/sec:\s+([\d.]+)", text)), _ms("50%", text), _ms("99%", text), cpu_us)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk said nothing of {pattern}:\n{text}")
    return match[1]


def _ms(quantile: str, text: str) -> float:
    value, unit = re.search(rf"{quantile}\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(value) * _UNITS[unit]


def _cpu_s(process: psutil.Process | None) -> float:
    times = process.cpu_times() if process else None
    return times.user + times.system if times else 0.0


def listening(url: str) -> psutil.Process | None:
    port = urlsplit(url).port
    found = (each for each in psutil.net_connections("tcp") if each.status == "LISTEN" and each.laddr.port == port)
    return next((psutil.Process(each.pid) for each in found if each.pid), None)


def others() -> dict[str, str]:
    named = (word.rpartition("=") for word in os.environ.get("REAL_GATEWAY", "").split())
    return {name or urlsplit(url).netloc: url for name, _, url in named}


@contextlib.contextmanager
def fave_platform(folder: Path) -> Iterator[Running]:
    supervisor = start_platform(folder / "state")
    try:
        yield connect(folder / "state")
    finally:
        supervisor.stop()


def deploy(running: Running, name: str, low: int, in_flight: int, **more: object) -> str:
    labels = {"com.openfaas.scale.max": "1", "com.openfaas.scale.zero": str(not low).lower()}
    spec = FunctionSpec(service=name, image="", labels=labels, env_vars={"max_inflight": str(in_flight)}, **more)  # type: ignore[arg-type]
    running.gateway.deploy(spec)
    return f"{running.endpoints.gateway_url}/function/{name}"


def from_zero(running: Running, name: str, times: int) -> list[float]:
    """Milliseconds that a caller waits from zero beyond what its replica needed until it was ready, and worked."""
    beyond, session = [], requests.Session()
    for _ in range(times):
        running.gateway.scale(name, 0)
        # The one before would take a core for its end.
        assert wait_until(lambda: running.replica_processes(name) == [], timeout_s=30)
        began_s = time.perf_counter()
        headers = session.post(f"{running.endpoints.gateway_url}/function/{name}", timeout=60).headers
        took_ms = (time.perf_counter() - began_s) * 1e3
        start_ns = int(headers["X-Fave-Ready-At"]) - int(headers["X-Fave-Process-Started-At"])
        beyond.append(took_ms - start_ns / 1e6 - float(headers["X-Duration-Seconds"]) * 1e3)
    return beyond


def table(seen: dict[tuple[int, str], list[Window]]) -> str:
    lines = ["| in flight | setup | req/s | p50 ms | p99 ms | CPU µs/req |", "|---|---|---|---|---|---|"]
    for (in_flight, name), windows in seen.items():
        cells = [
            f"{statistics.median(w.per_s for w in windows):,.0f} ({max(w.per_s for w in windows):,.0f})",
            f"{statistics.median(w.p50_ms for w in windows):.2f} ({min(w.p50_ms for w in windows):.2f})",
            f"{statistics.median(w.p99_ms for w in windows):.1f} ({min(w.p99_ms for w in windows):.1f})",
            f"{statistics.median(w.cpu_us for w in windows):.0f}" if windows[0].cpu_us else "-",
        ]
        lines.append(f"| {in_flight} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=2, help="of each window")
    parser.add_argument("--starts", type=int, default=20, help="from zero, of each kind")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as name, fast_server(Path(name)) as direct, fave_platform(Path(name)) as running:
        command = f"{sys.executable} -m tests.benchmarks.fast_server {{port}}"
        own = deploy(running, "fast", 1, 1000, env_process=command, annotations={DIRECTORY: str(ROOT)})
        assert wait_until(lambda: running.counts("fast") == (1, 1), timeout_s=30)
        setups = {"direct": (direct, None), "FAVE": (own, running.service("local.gateway"))}
        setups |= {name: (url, listening(url)) for name, url in others().items()}
        seen: dict[tuple[int, str], list[Window]] = {}
        for in_flight in IN_FLIGHT:
            for _ in range(arguments.windows):
                for setup, (url, process) in setups.items():
                    window = measure(url, in_flight, arguments.seconds, process)
                    seen.setdefault((in_flight, setup), []).append(window)
            sys.stderr.write(f"{in_flight} in flight: measured\n")
        running.gateway.delete("fast")
        deploy(running, "hosted", 0, 1, annotations={HANDLER: ECHO})
        hosted = from_zero(running, "hosted", arguments.starts)
    where = f"{platform.machine()}, {os.cpu_count()} cores, {arguments.windows} windows of {arguments.seconds} s"
    text = (
        f"{where}; median (best)\n\n{table(seen)}\n\nFrom zero, {arguments.starts} starts: a call waits"
        f" {statistics.median(hosted):.1f} ms (worst {max(hosted):.1f}) beyond its replica's own start and work.\n"
    )
    write_atomic(RUNS / "bench-gateway.md", text.encode())
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
