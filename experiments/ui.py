"""`make ui`: platform, regime and Locust's web UI together, until interrupted."""

from __future__ import annotations

import os
import sys

from experiments.platform_session import clients, platform, upload_samples
from experiments.progress import say
from fave.endpoints import STATE
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
        say(f"bringing about regime {regime} for {target} ...")
        openfaas.apply(gateway, prometheus, regime, settings, say)
        port = free_port(port)
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "load.py")]
        command += ["--web-host", "127.0.0.1"]
        command += ["--web-port", str(port), "--host", endpoints.gateway_url, "--users", "1", "--spawn-rate", "1"]
        command += ["--target", target, "--regime", regime]
        if target == PIPELINE:
            # One a second, the default, is more than two cores can do with a whole pipeline.
            command += ["--rate", "0.2"]
        env = {**os.environ, **endpoints.environment()}
        with OwnedProcess("locust", command, log=STATE / "logs" / "locust-ui.log", env=env, cwd=ROOT) as locust:
            locust.wait_ready(lambda: _listens(port), timeout_s=30)
            say(f"Locust web UI: http://127.0.0.1:{port}   (Ctrl-C stops everything that was started here)")
            return locust.process.wait()


def _listens(port: int) -> bool:
    import requests

    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=1).status_code == 200
    except requests.RequestException:
        return False
