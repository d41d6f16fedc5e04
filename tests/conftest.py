"""Shared fixtures: one embedded platform for all tests that need one, and a check that nothing outlives it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import psutil
import pytest
import requests
from hypothesis import settings

from fave.calling import Caller
from fave.endpoints import Endpoints, find
from fave.processes import OwnedProcess, wait_until
from fave.settings import ROOT
from fave.storage import Store
from fave.wire.openfaas import HANDLER, FunctionSpec
from local.supervisor import running_platform
from platforms.gateway import Gateway
from platforms.model import Platform
from platforms.session import at
from prom.client import Prometheus

# Whether a property holds does not depend on how busy the machine is.
settings.register_profile("fave", deadline=None)
settings.load_profile("fave")

ECHO = "tests.handlers.echo"


class Running(NamedTuple):
    """A platform under test. `supervisor` is its root process."""

    state: Path
    endpoints: Endpoints
    gateway: Gateway
    caller: Caller
    here: Platform
    prometheus: Prometheus
    store: Store
    supervisor: psutil.Process

    def service(self, word: str) -> psutil.Process:
        """The service process whose command line holds `word`."""
        return next(p for p in self.supervisor.children() if any(word in part for part in p.cmdline()))

    def replica_processes(self, function: str) -> list[psutil.Process]:
        """The third witness: replicas as the operating system's process table has them."""
        return [p for p in self.service("local.gateway").children() if _function_of(p) == function]

    def events(self, function: str) -> list[dict]:
        return [event for event in self.gateway.events() if event["function"] == function]

    def metrics_url(self) -> str:
        return msgspec.json.decode((self.state / "endpoints.json").read_bytes())["metrics_url"] + "/metrics"

    def in_flight(self, function: str) -> float:
        """From the gateway itself: Prometheus' newest sample may still tell of the test before."""
        text = requests.get(self.metrics_url(), timeout=30).text
        head = f'gateway_function_invocation_inflight{{function_name="{function}.'
        return float(next(line for line in text.splitlines() if line.startswith(head)).rpartition(" ")[2])

    def counts(self, function: str) -> tuple[int, int]:
        """(desired, ready)"""
        status = self.gateway.function(function)
        return (status.replicas, status.available_replicas)


def children_with(process: psutil.Process, word: str) -> list[psutil.Process]:
    """Living descendants whose command line holds `word`; one that ends while it is looked at does not count."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if word in " ".join(child.cmdline()):
                    found.append(child)
    return found


def _function_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("FAVE_FUNCTION", "")
    except psutil.Error:
        return ""


def start_platform(state: Path) -> OwnedProcess:
    """The supervisor in the foreground, as a child of the tests, ready."""
    command = [sys.executable, "-m", "local", "serve", "--state", str(state)]
    supervisor = OwnedProcess("platform", command, log=state / "logs" / "supervisor.log", cwd=ROOT, stop_grace_s=60)
    supervisor.wait_ready(lambda: running_platform(state) is not None, timeout_s=90)
    return supervisor


def connect(state: Path) -> Running:
    endpoints = find(state)
    store = Store.at(endpoints)
    supervisor = psutil.Process(running_platform(state).pid)
    return Running(
        state,
        endpoints,
        Gateway.at(endpoints),
        Caller(endpoints.gateway_url),
        at(endpoints),
        Prometheus(endpoints.prometheus_url),
        store,
        supervisor,
    )


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One platform for the session; afterwards no process of it is left and its ports are free."""
    state = tmp_path_factory.mktemp("state")
    supervisor = start_platform(state)
    try:
        running = connect(state)
        family = [running.supervisor, *running.supervisor.children(recursive=True)]
        yield running
        family += running.supervisor.children(recursive=True)
    finally:
        supervisor.stop()
    assert wait_until(lambda: not any(alive(p) for p in family), timeout_s=30), "processes survived the platform"
    with pytest.raises(requests.ConnectionError):
        requests.get(running.endpoints.gateway_url, timeout=1)


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False  # ended between the two questions


@pytest.fixture(scope="session")
def child_environment(platform: Running) -> dict[str, str]:
    """For FAVE's own doors run as processes: they find the platform under test."""
    return {**os.environ, "FAVE_STATE": str(platform.state)}


@pytest.fixture
def deploy(platform: Running) -> Iterator[Callable[..., str]]:
    """Deploy a test function; it is deleted afterwards."""
    deployed: list[str] = []

    def deploy_function(
        name: str,
        *,
        handler: str = ECHO,
        low: int = 0,
        high: int = 2,
        idle: str = "60s",
        memory: str = "256Mi",
        cpu: str = "",
        **env: str,
    ) -> str:
        scaling = {"min": str(max(1, low)), "max": str(high), "down.window": idle}
        if not low:
            scaling |= {"zero": "true", "zero-duration": idle}
        labels = {f"com.openfaas.scale.{key}": value for key, value in scaling.items()}
        platform.gateway.deploy(
            FunctionSpec(
                service=name,
                image="",
                annotations={HANDLER: handler},
                labels=labels,
                env_vars=env,
                limits={"memory": memory} | ({"cpu": cpu} if cpu else {}),
            )
        )
        deployed.append(name)
        return name

    yield deploy_function
    for name in deployed:
        platform.gateway.delete(name)


# Files that take minutes come first, lest one of them is left to a single worker at the end.
_LONGEST = ("test_resume.py", "test_orchestrator.py", "test_campaign.py", "test_requirement_sets.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in _LONGEST)
