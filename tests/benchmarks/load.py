"""Generators side by side: FAVE, plain Locust, k6, one after the other against a server that costs next to nothing.

    make bench-load        (6 minutes; on a machine that does nothing else)

The witness is the server: it stamps each request when it arrives. Lag is how much later a request arrives than the pace
that fits the earliest ones: the same rule for all, no generator is asked for its own opinion. CPU is that of the
generator's processes between the first and the last request, so start-up does not count. Rates are paced.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil
import requests

from fave.campaign.rundir import RUNS, write_atomic
from fave.campaign.validity import quantile
from fave.processes import OwnedProcess, free_port, wait_until
from fave.settings import ROOT

# Not imported from there: importing locust patches the process.
PER_USER_PER_S = 10
RATES = (50, 100, 200, 500, 1000, 2000)
HERE = Path(__file__).parent


class Result(NamedTuple):
    generator: str
    rate: int
    arrived: int
    achieved_per_s: float
    lag_ms: tuple[float, float, float]
    gap_cv: float
    cpu_us: float


def commands(url: str, rate: int, seconds: int, out: Path) -> dict[str, list[str]]:
    locust = [sys.executable, "-m", "locust", "--headless", "--only-summary", "--loglevel", "ERROR", "--host", url]
    fave = ["-f", str(ROOT / "locustfiles" / "load.py"), "--load", "paced", "--target", "stage-object-detector"]
    plain = ["-f", str(HERE / "plain_locust.py"), "-u", str(rate // PER_USER_PER_S), "-r", "100", "-t", f"{seconds}s"]
    found = {
        "FAVE (all rows recorded)": [
            *locust,
            *fave,
            "--rate",
            str(rate),
            "--duration",
            f"{seconds}s",
            "--out",
            str(out),
        ],
        "Locust constant_throughput": [*locust, *plain],
    }
    k6 = shutil.which("k6", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if k6:
        variables = {"RATE": rate, "SECONDS": seconds, "URL": f"{url}/function/stage-object-detector"}
        settings = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        found["k6 constant-arrival-rate"] = [
            k6,
            "run",
            "--quiet",
            "--no-usage-report",
            *settings,
            str(HERE / "k6_paced.js"),
        ]
    return found


@contextlib.contextmanager
def fast_server(logs: Path) -> Iterator[str]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.benchmarks.fast_server", str(port)]
    with OwnedProcess("server", command, log=logs / "server.log", cwd=ROOT) as server:
        server.wait_ready(lambda: _answers(url), timeout_s=20)
        yield url


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/arrivals", timeout=1).ok
    except requests.RequestException:
        return False


def environment(url: str) -> dict[str, str]:
    """The server as FAVE's platform: it asks it for its functions, and for nothing else."""
    return {**os.environ, "GATEWAY_URL": url, "PROMETHEUS_URL": url, "S3_ENDPOINT_URL": url}


class CpuLog:
    """CPU seconds of a process and its children over time, sampled until it ends."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._samples: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        with contextlib.suppress(psutil.Error):
            while True:
                family = [self._process, *self._process.children(recursive=True)]
                times = [each.cpu_times() for each in family]
                self._samples.append((time.monotonic(), sum(each.user + each.system for each in times)))
                time.sleep(0.05)

    def between(self, from_s: float, to_s: float) -> float:
        self._thread.join()
        return self._at(to_s) - self._at(from_s)

    def _at(self, at_s: float) -> float:
        return next((cpu for sampled_s, cpu in self._samples if sampled_s >= at_s), self._samples[-1][1])


def measure(generator: str, command: list[str], url: str, rate: int, logs: Path) -> Result:
    requests.get(f"{url}/arrivals", timeout=5)
    with OwnedProcess("generator", command, log=logs / "generator.log", env=environment(url), cwd=ROOT) as process:
        cpu = CpuLog(process.pid)
        if not wait_until(lambda: not process.running(), timeout_s=120):
            raise SystemExit(f"{generator} did not end")
    times_s = [int(line) / 1e9 for line in requests.get(f"{url}/arrivals", timeout=5).text.split()]
    if len(times_s) < 10:
        raise SystemExit(f"{generator} sent {len(times_s)} requests:\n{process.log_tail()}")
    ahead = [at_s - k / rate for k, at_s in enumerate(times_s)]
    lags_ms = sorted((each - min(ahead)) * 1000 for each in ahead)
    gaps = [b - a for a, b in pairwise(times_s)]
    return Result(
        generator=generator,
        rate=rate,
        arrived=len(times_s),
        achieved_per_s=(len(times_s) - 1) / (times_s[-1] - times_s[0]),
        lag_ms=(quantile(lags_ms, 0.5), quantile(lags_ms, 0.99), lags_ms[-1]),
        gap_cv=statistics.pstdev(gaps) / statistics.fmean(gaps),
        cpu_us=cpu.between(times_s[0], times_s[-1]) / len(times_s) * 1e6,
    )


def table(results: list[Result]) -> str:
    lines = [
        "| arrivals/s | generator | achieved/s | error | lag p50/p99/max, ms | gap CV | CPU µs each | per CPU-second |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lag = " / ".join(f"{each:.1f}" for each in r.lag_ms)
        error = abs(r.achieved_per_s / r.rate - 1)
        lines.append(
            f"| {r.rate} | {r.generator} | {r.achieved_per_s:.2f} | {error:.2%} | {lag} | {r.gap_cv:.2f} "
            f"| {r.cpu_us:.0f} | {1e6 / r.cpu_us:,.0f} |"
        )
    return "\n".join(lines)


def tab_cost(url: str, seconds: int, logs: Path, pairs: int = 6) -> str:
    """The same load without and with the web UI whose FAVE tab somebody looks at; one pair alone is lost in noise."""
    rate = 500
    differences, headless = [], []
    for pair in range(pairs):
        shares = {}
        # Each goes first as often as the other.
        for look in (False, True) if pair % 2 else (True, False):
            shares[look] = _share(url, rate, seconds, logs / f"tab-{pair}-{look}", look=look)
        headless.append(shares[False])
        differences.append(shares[True] - shares[False])
    mean, error = statistics.fmean(differences), statistics.stdev(differences) / pairs**0.5
    return (
        f"Generator CPU at {rate}/s, share of a core: {statistics.fmean(headless):.1%} headless; with the FAVE tab "
        f"open (a snapshot and a question to Prometheus a second) {mean:+.1%}, standard error {error:.1%}, "
        f"{pairs} pairs."
    )


def _share(url: str, rate: int, seconds: int, logs: Path, *, look: bool) -> float:
    command = commands(url, rate, seconds, logs)["FAVE (all rows recorded)"]
    if not look:
        return measure("FAVE", command, url, rate, logs).cpu_us * rate / 1e6
    port = free_port()
    command = [part for part in command if part not in ("--headless", "--only-summary")]
    command += ["--autostart", "--autoquit", "0", "--web-host", "127.0.0.1", "--web-port", str(port)]
    command += ["--run-time", f"{seconds}s"]
    stop = threading.Event()
    looker = threading.Thread(target=_look, args=(f"http://127.0.0.1:{port}/fave/snapshot", stop), daemon=True)
    looker.start()
    result = measure("FAVE", command, url, rate, logs)
    stop.set()
    return result.cpu_us * rate / 1e6


def _look(url: str, stop: threading.Event) -> None:
    since = 0
    while not stop.wait(1.0):
        with contextlib.suppress(requests.RequestException, ValueError):
            points = requests.get(url, params={"since": since}, timeout=2).json()["points"]
            since = points[-1]["seq"] if points else since


def recording_cost() -> str:
    """One arrival's row, times and figures, beside what Locust's statistics take for it."""
    code = (
        "from tests.benchmarks.recording import measure; fave, locust = measure(); "
        "print(f'Recording: {fave:.1f} µs an arrival, beside {locust:.1f} µs for Locust\\'s own statistics.')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.load", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10, help="per generator and rate (default 10)")
    parser.add_argument("--rates", default=",".join(map(str, RATES)), help="arrivals per second, comma-separated")
    parser.add_argument("--out", type=Path, default=RUNS / "bench-load.md", help="where the table goes")
    arguments = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder, fast_server(Path(folder)) as url:
        for rate in map(int, arguments.rates.split(",")):
            for generator, command in commands(url, rate, arguments.seconds, Path(folder) / f"rows-{rate}").items():
                print(f"{generator} at {rate}/s ...", file=sys.stderr, flush=True)
                results.append(measure(generator, command, url, rate, Path(folder)))
        print("the web tab ...", file=sys.stderr, flush=True)
        tab = tab_cost(url, arguments.seconds, Path(folder))
    load = " ".join(f"{each:.2f}" for each in os.getloadavg())
    conditions = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python "
        f"{platform.python_version()}, {arguments.seconds} s each, paced, load average at the end {load}."
    )
    text = f"{table(results)}\n\n{tab}\n{recording_cost()}\n{conditions}\n"
    print(text)
    write_atomic(arguments.out, text)
    print(f"stored in {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
