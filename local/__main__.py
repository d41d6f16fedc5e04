"""`python -m local`: the embedded OpenFaaS-compatible platform of one machine."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import requests

from fave import environment
from fave.cli import run_door
from fave.endpoints import STATE, PublicEndpoints, find
from fave.errors import EXIT_PLATFORM, PlatformError
from fave.processes import wait_until
from fave.settings import ROOT
from local.status import samples_of, table
from local.supervisor import Incidents, running_platform, serve, stop_platform
from platforms.gateway import Gateway

_UP_TIMEOUT_S = 90.0
_CLEAR = "\x1b[H\x1b[2J"
# Of what failed, as much as stays readable.
_MOST_TOLD = 5


def up(state: Path) -> int:
    public = running_platform(state)
    if public is None:
        public = _start_in_background(state)
    print(_where(public))
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


def status(state: Path, *, watch: bool = False) -> int:
    """0 with a table when a platform runs, 4 when none does. watch: again and again, until Ctrl-C."""
    while True:
        text = _standing(state)
        if not watch:
            print(text)
            return 0
        print(f"{_CLEAR}{text}\n\nevery second; Ctrl-C ends it", flush=True)
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            return 0


def _standing(state: Path) -> str:
    public, told = running_platform(state), Incidents(state).told()
    if public is None:
        raise PlatformError("\n".join(["no platform is running", *told[-1:]]), hint="`make up` starts one")
    endpoints = find(state)
    functions = Gateway(public.gateway_url, endpoints.gateway_user, endpoints.gateway_password).functions()
    exposition = requests.get(f"{public.metrics_url}/metrics", timeout=5).text
    return "\n".join([_where(public), *told[-_MOST_TOLD:], "", table(functions, samples_of(exposition))])


def _where(public: PublicEndpoints) -> str:
    return (
        f"gateway     {public.gateway_url}   (metrics {public.metrics_url}/metrics)\n"
        f"prometheus  {public.prometheus_url}\n"
        f"s3          {public.s3_endpoint_url}   (bucket {public.bucket})"
    )


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
        if name == "status":
            command.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")
    arguments = parser.parse_args()
    state = arguments.state.resolve()
    if arguments.command == "status":
        return status(state, watch=arguments.watch)
    return {"up": up, "down": down, "serve": serve}[arguments.command](state)


if __name__ == "__main__":
    sys.exit(run_door(main))
