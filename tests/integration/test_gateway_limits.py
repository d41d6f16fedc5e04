"""What bounds a replica: the kernel, where the machine has control groups, else a watcher that knows memory only."""

from __future__ import annotations

import time

import msgspec
import psutil
import pytest
import requests

from fave.processes import wait_until
from fave.wire.openfaas import HANDLER, FunctionSpec
from local.gateway.cgroups import MOUNT
from tests.conftest import alive, children_with, connect, start_platform

pytestmark = pytest.mark.integration
HUNGRY = "tests.handlers.hungry"


@pytest.fixture
def bounded(platform):
    if not platform.gateway.info()["limits"]["control_groups"]:
        pytest.skip("this machine has no control groups that we may use")
    return platform


def ask(running, method, path, value=None):
    url = f"{running.gateway.url}/system/{path}"
    return requests.request(method, url, data=msgspec.json.encode(value), auth=running.gateway.auth, timeout=30)


def usage(running, name):
    return ask(running, "GET", f"function/{name}?usage=1").json()["usage"]


def groups_of(gateway):
    return list(MOUNT.glob(f"**/fave-{gateway.pid}"))


def test_a_cpu_limit_is_kept_and_what_was_used_is_told(bounded, deploy):
    name = deploy("burning", handler=HUNGRY, low=1, cpu="200m")
    assert bounded.caller.invoke(name, b"").status_code == 200
    usage(bounded, name)
    began_s = time.monotonic()
    assert bounded.caller.invoke(f"{name}?burn_s=0.4", b"").status_code == 200
    # A fifth of a core; the first and last of its 100 ms periods may be short.
    assert time.monotonic() - began_s > 0.4 / 0.2 - 0.25
    used = usage(bounded, name)
    assert 10 < used["cpu"] < 300
    assert used["totalMemoryBytes"] > 2**20


def test_memory_of_whatever_a_replica_started_ends_the_whole_replica(bounded, deploy):
    name = deploy("parent", handler=HUNGRY, memory="128Mi")
    assert bounded.caller.invoke(f"{name}?eat_mb=300", b"").status_code in (200, 500)
    assert wait_until(lambda: any(e["event"] == "oom_killed" for e in bounded.events(name)), timeout_s=30)
    (killed,) = [event for event in bounded.events(name) if event["event"] == "oom_killed"]
    assert (killed["exit_code"], killed["reason"]) == (137, "over its limit of 128 MB")
    assert bounded.caller.invoke(name, b"").status_code == 200


def test_what_left_a_replicas_session_ends_with_it(bounded, deploy):
    name = deploy("leaving", handler=HUNGRY, low=1)
    eater = psutil.Process(int(bounded.caller.invoke(f"{name}?eat_mb=1", b"").text.split()[1]))
    bounded.gateway.scale(name, 0)
    assert wait_until(lambda: not alive(eater), timeout_s=30)


def test_without_control_groups_memory_is_watched_and_a_cpu_limit_that_nobody_keeps_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("FAVE_CONTROL_GROUPS", "0")
    supervisor = start_platform(tmp_path)
    try:
        running = connect(tmp_path)
        limits = {"memory": "128Mi", "cpu": "500m"}
        spec = FunctionSpec(service="f", image="", annotations={HANDLER: HUNGRY}, limits=limits)
        assert running.gateway.info()["limits"]["control_groups"] == 0
        running.gateway.deploy(spec)
        assert "limits.cpu is not kept" in ask(running, "PUT", "functions", spec).text
        assert running.caller.invoke("f?eat_mb=300", b"").status_code in (200, 500)
        assert wait_until(lambda: any(e["event"] == "oom_killed" for e in running.events("f")), timeout_s=30)
    finally:
        supervisor.stop()


def test_groups_go_with_their_gateway_and_those_of_a_killed_one_with_the_next(tmp_path):
    supervisor = start_platform(tmp_path)
    try:
        running = connect(tmp_path)
        if not running.gateway.info()["limits"]["control_groups"]:
            pytest.skip("this machine has no control groups that we may use")
        running.gateway.deploy(FunctionSpec(service="f", image="", annotations={HANDLER: HUNGRY}))
        assert running.caller.invoke("f", b"").status_code == 200
        killed = running.service("local.gateway")
        assert groups_of(killed)
        killed.kill()
        assert wait_until(lambda: not alive(killed) and running.gateway.healthy(), timeout_s=30)
        (gateway,) = children_with(running.supervisor, "local.gateway")[:1]
        assert groups_of(gateway)
        assert not groups_of(killed)
    finally:
        supervisor.stop()
    assert not groups_of(gateway)
