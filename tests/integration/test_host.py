"""The function host, as real replicas behind the real gateway: how work ends, what is measured, what is logged."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from fave.calling import Cancellation
from fave.clock import utc_ns
from fave.processes import OwnedProcess, free_port, wait_until
from fave.settings import ROOT
from fave.wire.invocation import Invocation
from fave.wire.openfaas import FunctionSpec
from tests.conftest import children_with

pytestmark = pytest.mark.integration


def call(platform, name, path="", headers=None, timeout=60):
    return requests.post(f"{platform.endpoints.gateway_url}/function/{name}{path}", headers=headers, timeout=timeout)


def children_of(platform, name):
    """Sleeping children of the function's replicas, by the operating system's word."""
    replicas = platform.replica_processes(name)
    return [child for replica in replicas for child in children_with(replica, "sleep")]


def wait_for_child(platform, name):
    assert wait_until(lambda: children_of(platform, name), timeout_s=30)
    return children_of(platform, name)[0]


def test_the_exec_time_out_kills_child_processes_and_the_replica_lives_on(platform, deploy):
    name = deploy("childtimeout", exec_timeout="500ms")
    replica = call(platform, name).json()["replica"]
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(call, platform, name, "?child_s=30")
        child = wait_for_child(platform, name)
        reply = slow.result()
    assert (reply.status_code, reply.text) == (504, "timeout")
    assert not psutil.pid_exists(child.pid)
    assert call(platform, name).json()["replica"] == replica


def test_python_code_that_does_not_end_costs_its_replica_and_no_neighbour(platform, deploy):
    name = deploy("stubborn", high=1, exec_timeout="10s", max_inflight="2")
    first = call(platform, name).json()["replica"]
    with ThreadPoolExecutor(2) as threads:
        stubborn = threads.submit(call, platform, name, "?sleep_s=60", {"X-Timeout": "300ms"})
        neighbour = threads.submit(call, platform, name, "?sleep_s=1.2")
        assert stubborn.result().status_code == 504
        assert neighbour.result().status_code == 200
        assert neighbour.result().json()["replica"] == first
    assert wait_until(
        lambda: first not in {p.environ()["FAVE_REPLICA_ID"] for p in platform.replica_processes(name)}, timeout_s=30
    )
    assert call(platform, name).json()["replica"] != first


def test_when_the_caller_goes_its_work_ends_and_the_replica_serves_the_next(platform, deploy):
    name = deploy("gone", high=1)
    replica = call(platform, name).json()["replica"]
    cancellation = Cancellation()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(platform.caller.invoke, f"{name}?child_s=60", b"", cancellation=cancellation)
        child = wait_for_child(platform, name)
        cancellation.cancel()
        assert slow.exception() is not None
    assert wait_until(lambda: not child.is_running(), timeout_s=30)
    reply = call(platform, name)
    assert (reply.status_code, reply.json()["replica"]) == (200, replica)


def test_what_still_waits_for_a_replica_is_not_begun_when_its_caller_has_gone(platform, deploy):
    name = deploy("waiting", high=1)
    call(platform, name)
    cancellation = Cancellation()
    with ThreadPoolExecutor(2) as threads:
        busy = threads.submit(call, platform, name, "?sleep_s=1")
        assert wait_until(lambda: platform.in_flight(name) == 1, timeout_s=30)
        waiting = threads.submit(platform.caller.invoke, f"{name}?child_s=60", b"", cancellation=cancellation)
        assert wait_until(lambda: platform.in_flight(name) == 2, timeout_s=30)
        cancellation.cancel()
        assert waiting.exception() is not None
        assert busy.result().status_code == 200
    assert wait_until(lambda: platform.in_flight(name) == 0, timeout_s=30)
    assert children_of(platform, name) == []


@contextlib.contextmanager
def hosting(module, folder, **env):
    """A host without a gateway, as a container has it: its address, its process."""
    port = free_port()
    own = {"port": str(port), "max_inflight": "1", "FAVE_FUNCTION": "bare", "FAVE_MEMORY_LIMIT_MB": "512"}
    command = [sys.executable, "-m", "functions.host", module]
    url = f"http://127.0.0.1:{port}"
    with OwnedProcess("host", command, log=folder / "log", env={**os.environ, **own, **env}, cwd=ROOT) as process:
        process.wait_ready(lambda: answers(f"{url}/_/health"), timeout_s=30)
        yield url, process


@pytest.fixture
def bare_host(tmp_path):
    with hosting("tests.handlers.echo", tmp_path) as (url, process):
        assert wait_until(lambda: answers(f"{url}/_/ready"), timeout_s=30)
        yield url, process


@pytest.fixture
def loading(tmp_path):
    """One whose handler loads until it is let go on: address, process, and what lets it."""
    loaded = tmp_path / "loaded"
    with hosting("tests.handlers.loading", tmp_path, LOADED_WHEN=str(loaded), FAVE_HOST_QUEUE="2") as (url, process):
        yield url, process, loaded.touch


def answers(url):
    try:
        return requests.get(url, timeout=1).status_code == 200
    except requests.RequestException:
        return False


def test_one_request_too_many_is_429_in_the_watchdogs_words(bare_host):
    url, _ = bare_host
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(requests.post, f"{url}/?sleep_s=1", timeout=30)
        assert wait_until(
            lambda: "http_requests_in_flight 1.0" in requests.get(f"{url}/_/metrics", timeout=30).text, timeout_s=30
        )
        refused = requests.post(url, timeout=30)
        assert (refused.status_code, refused.text) == (
            429,
            "Concurrent request limit exceeded. Max concurrent requests: 1",
        )
        assert requests.get(f"{url}/_/health", timeout=30).status_code == 200
        assert slow.result().status_code == 200


def test_a_caller_that_hangs_up_is_noticed_without_a_gateway_too(bare_host):
    """As on a cluster, where the gateway closes the connection to the function."""
    url, process = bare_host

    def children():
        return children_with(psutil.Process(process.pid), "sleep")

    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("POST", "/?child_s=60")
    assert wait_until(children, timeout_s=30), "the work was not begun"
    (child,) = children()
    connection.close()
    assert wait_until(lambda: not child.is_running(), timeout_s=30)
    assert wait_until(lambda: requests.post(url, timeout=30).status_code == 200, timeout_s=30)


def test_on_sigterm_it_is_not_ready_any_more_and_finishes_what_is_in_flight(bare_host):
    url, process = bare_host
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(requests.post, f"{url}/?sleep_s=1", timeout=30)
        assert wait_until(lambda: "in_flight 1.0" in requests.get(f"{url}/_/metrics", timeout=30).text, timeout_s=30)
        process.process.terminate()
        assert wait_until(lambda: requests.get(f"{url}/_/ready", timeout=30).status_code == 503, timeout_s=30)
        assert slow.result().status_code == 200
    assert process.process.wait(30) == 0


def test_metrics_and_log_tell_the_same_of_an_invocation(bare_host):
    url, process = bare_host
    call_headers = Invocation(request_id="r1", invocation_id="i1", sent_at_ns=utc_ns()).headers()
    requests.post(f"{url}/?sleep_s=0.1", headers=call_headers, timeout=30)
    lines = [json.loads(line) for line in process.log.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "r1"]
    assert line["stage"] == "bare"
    assert line["timestamp"].endswith("Z")
    assert (line["invocation_id"], line["attempt"], line["cold"], line["status"]) == ("i1", 1, False, 200)
    assert (line["memory_limit_mb"], line["level"]) == (512, "info")
    assert line["duration_ms"] >= 100
    assert 5 < line["peak_rss_mb"] < 512
    assert line["replica_id"]
    text = requests.get(f"{url}/_/metrics", timeout=30).text
    assert 'http_requests_total{code="200"} 1.0' in text
    assert 'http_request_duration_seconds_bucket{le="0.05"} 0.0' in text
    assert 'http_request_duration_seconds_bucket{le="+Inf"} 1.0' in text
    cost = float(next(x for x in text.splitlines() if x.startswith("fave_cost_gb_seconds_total")).split()[1])
    assert cost == pytest.approx(line["duration_ms"] / 1000 * 0.5, rel=0.01)


def test_logs_reach_the_object_store_by_setting(platform, deploy):
    name = deploy("shipping", FAVE_SHIP_LOGS="200ms")
    for number in range(3):
        headers = Invocation(request_id=f"shipped-{number}", invocation_id="i", sent_at_ns=utc_ns()).headers()
        replica = call(platform, name, headers=headers).json()["replica"]
    prefix = f"logs/{name}/{replica}/"

    def shipped():
        keys = platform.store.keys(prefix)
        text = b"".join(platform.store.get(platform.store.uri(key)) for key in keys).decode()
        return [json.loads(line)["request_id"] for line in text.splitlines() if "request_id" in line]

    assert wait_until(lambda: len(shipped()) == 3, timeout_s=30)
    assert sorted(shipped()) == ["shipped-0", "shipped-1", "shipped-2"]


def test_the_last_lines_are_shipped_when_a_replica_stops(platform, deploy):
    name = deploy("lastwords", FAVE_SHIP_LOGS="1h")
    replica = call(platform, name).json()["replica"]
    platform.gateway.scale(name, 0)
    assert wait_until(lambda: platform.store.keys(f"logs/{name}/{replica}/"), timeout_s=30)


def test_models_load_before_ready_or_lazily_by_setting_and_the_row_says_so(platform):
    subprocess.run(
        [sys.executable, "-m", "assets", "--upload", "--quiet"],
        cwd=ROOT,
        env={**os.environ, "FAVE_STATE": str(platform.state)},
        check=True,
        capture_output=True,
    )
    frame = platform.store.uri("samples/frames/0005.jpg")
    init_s = {}
    for lazy in ("0", "1"):
        name = f"lazy{lazy}"
        platform.gateway.deploy(FunctionSpec(service=name, image="stage-object-detector", env_vars={"FAVE_LAZY": lazy}))
        try:
            for number in range(2):
                body = {
                    "request_id": f"{name}-{number}",
                    "stage": name,
                    "input_uris": [frame],
                    "output_uri": platform.store.uri(f"requests/{name}-{number}/out/"),
                }
                reply = platform.caller.invoke(name, json.dumps(body).encode())
                assert reply.status_code == 200, reply.text
                init_s[lazy, number] = reply.json()["telemetry"]["init_s"]
        finally:
            platform.gateway.delete(name)
    assert init_s["0", 0] == init_s["0", 1] == init_s["1", 1] == 0.0
    assert init_s["1", 0] > 0.05


def test_threads_of_one_replica_do_not_mix_their_log_lines(bare_host):
    url, process = bare_host
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(lambda: requests.post(url, timeout=30)) for _ in range(40)]
        assert all(future.result().status_code in (200, 429) for future in done)
    for line in process.log.read_text().splitlines():
        assert json.loads(line)["stage"] == "bare"


def test_it_lives_while_its_handler_loads_and_so_many_calls_as_have_places_wait(loading):
    url, _, go_on = loading
    assert requests.get(f"{url}/_/ready", timeout=30).status_code == 503
    with ThreadPoolExecutor(2) as threads:
        early = [threads.submit(requests.post, url, timeout=60) for _ in range(2)]
        assert wait_until(
            lambda: "fave_waiting_invocations 2.0" in requests.get(f"{url}/_/metrics", timeout=30).text, timeout_s=30
        )
        assert requests.get(f"{url}/_/health", timeout=30).status_code == 200
        assert requests.post(url, timeout=30).status_code == 429
        let_go_at_ns = utc_ns()
        go_on()
        replies = [each.result() for each in early]
    assert {reply.text for reply in replies} == {"0", "1"}
    stamps = [
        {name: int(reply.headers[f"X-Fave-{name}-At"]) for name in ("Received", "Ready", "Started")}
        for reply in replies
    ]
    assert all(each["Received"] < let_go_at_ns < each["Ready"] <= each["Started"] for each in stamps)
    assert requests.get(f"{url}/_/ready", timeout=30).status_code == 200


def test_ended_while_it_loads_it_did_not_crash(loading):
    _, process, _ = loading
    process.process.terminate()
    assert process.process.wait(30) == 0


def test_full_it_may_say_that_it_is_not_ready(tmp_path):
    with (
        hosting("tests.handlers.echo", tmp_path, FAVE_UNREADY_WHEN_FULL="1") as (url, _),
        ThreadPoolExecutor(1) as threads,
    ):
        assert wait_until(lambda: answers(f"{url}/_/ready"), timeout_s=30)
        busy = threads.submit(requests.post, f"{url}/?sleep_s=1", timeout=30)
        assert wait_until(lambda: not answers(f"{url}/_/ready"), timeout_s=30)
        assert busy.result().status_code == 200
        assert answers(f"{url}/_/ready")
