"""`make ui`: platform, regime and Locust's web UI together, until interrupted."""

from __future__ import annotations

import sys

from experiments.inputs import upload
from experiments.progress import say
from fave import environment
from fave.calling import answers
from fave.endpoints import STATE
from fave.processes import OwnedProcess, free_port
from fave.settings import ROOT
from fave.storage import Store
from platforms.session import opened
from regimes.apply import apply
from regimes.model import resolve
from workloads.model import load


def run(workload: str, *, regime: str, target: str, port: int) -> int:
    work = load(workload)
    policies = resolve(regime, work.functions_of(target))
    with opened(say) as platform:
        endpoints = platform.endpoints
        upload(work, Store.at(endpoints))
        try:
            say(f"applying regime {regime} to {', '.join(policies)} ...")
            apply(platform, work, regime, policies, say)
            port = free_port(port)
            command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "load.py")]
            command += ["--web-host", "127.0.0.1"]
            command += ["--web-port", str(port), "--host", endpoints.gateway_url, "--users", "1", "--spawn-rate", "1"]
            command += ["--workload", workload, "--target", target, "--regime", regime]
            if work.directed(target):
                # One a second, the default, is more than two cores can do with a whole graph of functions.
                command += ["--rate", "0.2"]
            env = environment.for_doors(**endpoints.environment(), HOME=str(STATE))
            with OwnedProcess("locust", command, log=STATE / "logs" / "locust-ui.log", env=env, cwd=ROOT) as locust:
                locust.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/"), timeout_s=30)
                say(f"Locust web UI: http://127.0.0.1:{port}   (Ctrl-C stops everything that was started here)")
                return locust.process.wait()
        finally:
            if not work.deploy:
                platform.give_back(work.functions)
