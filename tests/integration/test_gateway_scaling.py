"""Scaling labels at work: what OpenFaaS Pro says of them happens to real processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from fave.processes import wait_until
from fave.wire.openfaas import HANDLER, FunctionSpec
from tests.conftest import ECHO

pytestmark = pytest.mark.integration


@pytest.fixture
def scaled(platform):
    """Deploys the echo with these scaling labels; it is deleted afterwards."""
    names = []

    def scaled(name, env=None, **labels):
        named = {f"com.openfaas.scale.{key.replace('_', '-')}": value for key, value in labels.items()}
        if "window" in labels:
            named["com.openfaas.scale.down.window"] = named.pop("com.openfaas.scale.window")
        spec = FunctionSpec(
            service=name,
            image="",
            annotations={HANDLER: ECHO},
            labels=named,
            env_vars={"max_inflight": "8"} | (env or {}),
        )
        platform.gateway.deploy(spec)
        names.append(name)
        return name

    yield scaled
    for name in names:
        platform.gateway.delete(name)


def counts_become(platform, name, wanted):
    return wait_until(lambda: platform.counts(name) == (wanted, wanted), timeout_s=30)


def test_a_function_without_labels_stays_at_one_and_has_no_zero(platform, scaled):
    name = scaled("plain")
    assert counts_become(platform, name, 1)
    platform.caller.invoke(name, b"")
    assert platform.gateway.function(name).labels == {"faas_function": name}


def test_it_goes_to_zero_whatever_its_minimum_and_comes_back_to_it(platform, scaled):
    name = scaled("threefold", zero="true", zero_duration="300ms", window="60s", min="3")
    assert platform.counts(name) == (0, 0)
    assert platform.caller.invoke(name, b"").status_code == 200
    assert sum(event["event"] == "start" for event in platform.events(name)) == 3
    assert wait_until(lambda: platform.counts(name) == (0, 0) and platform.replica_processes(name) == [], timeout_s=30)
    assert {event["reason"] for event in platform.events(name) if event["event"] == "stop"} <= {"idle", "scaled down"}


def test_load_in_flight_plans_replicas_and_their_end_takes_them_away_after_the_window(platform, scaled):
    name = scaled("planned", type="capacity", target="2", target_proportion="0.5", max="4", window="500ms")
    assert counts_become(platform, name, 1)
    with ThreadPoolExecutor(3) as callers:
        replies = [callers.submit(platform.caller.invoke, f"{name}?sleep_s=2", b"") for _ in range(3)]
        # One for each request in flight, though the first could take them all.
        assert counts_become(platform, name, 3)
        assert {reply.result().status_code for reply in replies} == {200}
    assert counts_become(platform, name, 1)
    stopped = [event for event in platform.events(name) if event["event"] == "stop"]
    last_ready_ns = max(event["at_ns"] for event in platform.events(name) if event["event"] == "ready")
    assert all(event["at_ns"] - last_ready_ns > 0.4e9 for event in stopped)


def test_requests_per_second_plan_replicas_without_anybody_waiting(platform, scaled):
    name = scaled("busy", target="5", target_proportion="1.0", max="3", window="1s")
    assert counts_become(platform, name, 1)

    def enough():
        for _ in range(20):
            platform.caller.invoke(name, b"")
        return platform.counts(name) == (3, 3)

    assert wait_until(enough, timeout_s=30)
    assert counts_become(platform, name, 1), "they go when the rate has fallen"


def test_bounds_are_live(platform, scaled):
    name = scaled("bounded", min="1", max="4", window="60s")
    assert counts_become(platform, name, 1)
    scaled("bounded", min="3", max="4", window="60s")
    assert counts_become(platform, name, 3)
    scaled("bounded", min="1", max="2", window="60s")
    assert counts_become(platform, name, 2)
    scaled("bounded", min="1", max="2", window="300ms")
    assert counts_become(platform, name, 1)
