"""`make ui`: platform, regime and Locust's web UI together, until interrupted."""

from __future__ import annotations

import sys

from experiments.platform_session import clients, platform, upload_samples
from experiments.progress import say
from fave import environment
from fave.endpoints import STATE
from fave.gateway_client import answers
from fave.processes import OwnedProcess, free_port
from fave.settings import ROOT
from fave.workload import PIPELINE, functions_of
from regimes import openfaas
from regimes.model import resolve


def run(*, regime: str, target: str, port: int) -> int:
    settings = resolve(regime, functions_of(target))
    with platform(say) as endpoints:
        upload_samples()
        gateway, prometheus = clients(endpoints)
        say(f"applying regime {regime} for {target} ...")
        openfaas.apply(gateway, prometheus, regime, settings, say)
        port = free_port(port)
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "load.py")]
        command += ["--web-host", "127.0.0.1"]
        command += ["--web-port", str(port), "--host", endpoints.gateway_url, "--users", "1", "--spawn-rate", "1"]
        command += ["--target", target, "--regime", regime]
        if target == PIPELINE:
            # One a second, the default, is more than two cores can do with a whole pipeline.
            command += ["--rate", "0.2"]
        env = environment.for_doors(**endpoints.environment(), HOME=str(STATE))
        with OwnedProcess("locust", command, log=STATE / "logs" / "locust-ui.log", env=env, cwd=ROOT) as locust:
            locust.wait_ready(lambda: answers(f"http://127.0.0.1:{port}/"), timeout_s=30)
            say(f"Locust web UI: http://127.0.0.1:{port}   (Ctrl-C stops everything that was started here)")
            return locust.process.wait()
