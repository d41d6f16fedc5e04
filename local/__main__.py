"""`python -m local`: the embedded OpenFaaS-compatible platform of one machine."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from fave import environment
from fave.cli import run_door
from fave.endpoints import STATE, PublicEndpoints, find
from fave.errors import EXIT_PLATFORM, PlatformError
from fave.gateway_client import GatewayClient
from fave.processes import wait_until
from fave.settings import ROOT
from local.supervisor import running_platform, serve, stop_platform

_UP_TIMEOUT_S = 90.0


def up(state: Path) -> int:
    public = running_platform(state)
    if public is None:
        public = _start_in_background(state)
    _show(public)
    return 0


def _start_in_background(state: Path) -> PublicEndpoints:
    log = state / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    print("starting object store, gateway and Prometheus ...", flush=True)
    with log.open("w", encoding="utf-8") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "local", "serve", "--state", str(state)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment.for_doors(),
            start_new_session=True,
            cwd=ROOT,
        )
    wait_until(lambda: running_platform(state) is not None or child.poll() is not None, timeout_s=_UP_TIMEOUT_S)
    public = running_platform(state)
    if public is None:
        code = child.poll() or EXIT_PLATFORM
        child.terminate()
        said = log.read_text(encoding="utf-8", errors="replace").strip() or "it said nothing"
        error = PlatformError(f"the platform did not start: {said.removeprefix('error: ')}")
        # What kept it from starting says what kind of mistake it is.
        error.exit_code = code if code > 0 else EXIT_PLATFORM
        raise error
    return public


def down(state: Path) -> int:
    print("stopped" if stop_platform(state) else "nothing was running")
    return 0


def status(state: Path) -> int:
    """0 with a table when a platform runs, 4 when none does."""
    public = running_platform(state)
    if public is None:
        raise PlatformError("no platform is running", hint="`make up` starts one")
    _show(public)
    endpoints = find(state)
    functions = GatewayClient(public.gateway_url, endpoints.gateway_user, endpoints.gateway_password).functions()
    if functions:
        print(f"{'function':28}{'ready':>7}{'desired':>9}{'invocations':>13}")
    for function in functions:
        counts = f"{function.available_replicas:7}{function.replicas:9}{function.invocation_count:13.0f}"
        print(f"{function.name:28}{counts}")
    return 0


def _show(public: PublicEndpoints) -> None:
    print(f"gateway     {public.gateway_url}   (metrics {public.metrics_url}/metrics)")
    print(f"prometheus  {public.prometheus_url}")
    print(f"s3          {public.s3_endpoint_url}   (bucket {public.bucket})")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("--state", type=Path, default=STATE, help="where it keeps its files (default: .fave)")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (
        ("up", "start the platform in the background and print where it answers"),
        ("down", "stop it, and every replica with it"),
        ("status", "show where it answers and what its functions do"),
        ("serve", "run it in the foreground until interrupted"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--state", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    return {"up": up, "down": down, "status": status, "serve": serve}[arguments.command](arguments.state.resolve())


if __name__ == "__main__":
    sys.exit(run_door(main))
