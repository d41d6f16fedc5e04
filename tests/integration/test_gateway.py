"""The embedded gateway as a client of OpenFaaS sees it, on real processes."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from fave.clock import utc_ns
from fave.errors import GatewayError
from fave.processes import wait_until
from platforms.gateway import Gateway

pytestmark = pytest.mark.integration


def call(platform, name, *, path="", method="POST", timeout=60, **kwargs):
    return requests.request(
        method, f"{platform.endpoints.gateway_url}/function/{name}{path}", timeout=timeout, **kwargs
    )


def test_system_routes_need_the_password_and_functions_do_not(platform, deploy):
    name = deploy("auth")
    reply = requests.get(f"{platform.endpoints.gateway_url}/system/functions", timeout=30)
    assert (reply.status_code, reply.text) == (401, "invalid credentials")
    assert reply.headers["WWW-Authenticate"] == 'Basic realm="Restricted"'
    with pytest.raises(GatewayError, match="401"):
        Gateway(platform.endpoints.gateway_url, "admin", "wrong").functions()
    assert call(platform, name).status_code == 200


def test_every_method_path_query_header_and_body_reaches_the_function(platform, deploy):
    name = deploy("echo")
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        reply = call(platform, name, method=method, path="/a/b?x=1&y=z", data="hello", headers={"X-Mine": "1"})
        seen = reply.json()
        assert (seen["method"], seen["path"], seen["query"], seen["body"]) == (
            method,
            "/a/b",
            {"x": "1", "y": "z"},
            "hello",
        )
        assert seen["headers"]["x-mine"] == "1"
        assert seen["headers"]["x-call-id"] == reply.headers["X-Call-Id"]
        assert reply.headers["X-Test"] == "yes"
        assert float(reply.headers["X-Duration-Seconds"]) >= 0


def test_a_chunked_body_arrives_whole(platform, deploy):
    name = deploy("chunked")
    parts = [b"one ", b"two ", b"three"]
    assert call(platform, name, data=iter(parts)).json()["body"] == "one two three"


def test_what_is_encoded_stays_encoded_on_its_way(platform, deploy):
    name = deploy("encoded")
    seen = call(platform, name, path="/a%2Fb%3Fc?x=a%26b%23c&y=%2B").json()
    assert seen["query"] == {"x": "a&b#c", "y": "+"}
    assert seen["path"] == "/a/b?c"


def test_redirects_and_errors_of_a_function_pass_through(platform, deploy):
    name = deploy("statuses")
    assert call(platform, name, path="?status=418").status_code == 418
    assert call(platform, name, path="?status=302", allow_redirects=False).headers["Location"] == "/elsewhere"


def test_unknown_functions_and_bad_requests_answer_as_openfaas_does(platform):
    assert call(platform, "nobody").status_code == 404
    assert platform.gateway.function("nobody") is None
    system, auth = f"{platform.endpoints.gateway_url}/system", platform.gateway.auth
    assert (
        requests.put(
            f"{system}/functions", json={"service": "x", "image": "stage-search"}, auth=auth, timeout=30
        ).status_code
        == 404
    )
    assert (
        requests.post(f"{system}/functions", json={"service": "x", "image": "no"}, auth=auth, timeout=30).status_code
        == 400
    )
    assert requests.post(f"{system}/functions", data="{", auth=auth, timeout=30).status_code == 400
    assert (
        requests.post(f"{system}/scale-function/nobody", json={"replicas": 1}, auth=auth, timeout=30).status_code == 404
    )
    assert (
        requests.post(f"{system}/scale-function/nobody", json={"replicas": -1}, auth=auth, timeout=30).status_code
        == 400
    )
    assert requests.delete(f"{system}/functions", json={}, auth=auth, timeout=30).status_code == 400
    assert requests.get(f"{platform.endpoints.gateway_url}/healthz", timeout=30).status_code == 200
    assert platform.gateway.info()["provider"]["routing"] == "most-recently-used"


def test_a_request_from_zero_is_held_answered_and_labelled_cold(platform, deploy):
    name = deploy("fromzero")
    assert platform.counts(name) == (0, 0)
    sent_at_ns = utc_ns()
    reply = call(platform, name)
    assert reply.status_code == 200
    assert int(reply.headers["X-Fave-Ready-At"]) > sent_at_ns
    assert reply.headers["X-Fave-Invocations-Before"] == "0"
    again_at_ns = utc_ns()
    again = call(platform, name)
    assert int(again.headers["X-Fave-Ready-At"]) < again_at_ns
    assert again.headers["X-Fave-Invocations-Before"] == "1"
    assert again.headers["X-Fave-Replica-Id"] == reply.headers["X-Fave-Replica-Id"]
    started = int(reply.headers["X-Fave-Process-Started-At"])
    # The kernel counts a process's start in ticks of 10 ms.
    assert sent_at_ns - 20_000_000 <= started < int(reply.headers["X-Fave-Ready-At"])


def test_idle_replicas_stop_after_the_time_out_down_to_min(platform, deploy):
    zero, one = deploy("idlezero", idle="300ms"), deploy("idleone", low=1, idle="300ms")
    call(platform, zero)
    platform.gateway.scale(one, 2)
    # By events: the first may be idle for long enough before the second is ready.
    assert wait_until(lambda: sum(e["event"] == "ready" for e in platform.events(one)) >= 2, timeout_s=30)
    assert wait_until(lambda: platform.counts(zero) == (0, 0) and platform.counts(one) == (1, 1), timeout_s=30)
    assert wait_until(lambda: platform.replica_processes(zero) == [], timeout_s=30)
    assert wait_until(lambda: _stop_reasons(platform, zero) == ["idle"], timeout_s=30)


def test_waiting_requests_start_replicas_up_to_max_and_no_more(platform, deploy):
    name = deploy("scaleup", high=2)
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda _: call(platform, name, path="?sleep_s=0.3").json(), range(6)))
    assert len({reply["replica"] for reply in replies}) == 2
    assert sum(event["event"] == "start" for event in platform.events(name)) == 2


def test_a_replica_never_has_more_in_flight_than_its_limit(platform, deploy):
    name = deploy("limited", low=1, high=1, max_inflight="2")
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda _: call(platform, name, path="?sleep_s=0.2").status_code, range(4)))
    assert replies == [200] * 4


def test_a_waiting_request_whose_caller_has_gone_is_not_executed(platform, deploy):
    name = deploy("gone", low=1, high=1)
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(call, platform, name, path="?sleep_s=1")
        assert wait_until(lambda: platform.in_flight(name) == 1, timeout_s=30)
        with pytest.raises(requests.ReadTimeout):
            call(platform, name, timeout=0.2)
        assert busy.result().status_code == 200
    assert call(platform, name).headers["X-Fave-Invocations-Before"] == "1"


def test_a_full_queue_refuses_with_retry_after(platform, deploy):
    name = deploy("queue", low=1, high=1, max_waiting="1")
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    with ThreadPoolExecutor(5) as threads:
        replies = list(threads.map(lambda _: call(platform, name, path="?sleep_s=0.5"), range(5)))
    assert sorted(reply.status_code for reply in replies) == [200, 200, 429, 429, 429]
    assert all(reply.headers["Retry-After"] == "1" for reply in replies if reply.status_code == 429)


def test_the_most_recently_used_replica_takes_the_next_request(platform, deploy):
    name = deploy("routing", low=2)
    assert wait_until(lambda: platform.counts(name) == (2, 2), timeout_s=30)
    served = {call(platform, name).json()["replica"] for _ in range(6)}
    assert len(served) == 1


def test_scaling_down_lets_work_in_flight_finish(platform, deploy):
    name = deploy("drain", low=1)
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(call, platform, name, path="?sleep_s=1")
        assert wait_until(lambda: platform.in_flight(name) == 1, timeout_s=30)
        platform.gateway.scale(name, 0)
        assert platform.counts(name) == (0, 0)
        assert slow.result().status_code == 200
    assert wait_until(lambda: platform.replica_processes(name) == [], timeout_s=30)
    assert wait_until(lambda: _stop_reasons(platform, name) == ["scaled down"], timeout_s=30)
    assert platform.events(name)[-1]["exit_code"] == 0


def test_a_change_of_scaling_keeps_replicas_and_any_other_replaces_them(platform, deploy):
    name = deploy("update", low=1)
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    (before,) = {process.pid for process in platform.replica_processes(name)}
    deploy(name, low=1, high=3)
    assert call(platform, name).json()["pid"] == before
    deploy(name, low=1, high=3, EXTRA="1")
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    assert call(platform, name).json()["pid"] != before


def test_a_crash_fails_its_request_is_noticed_and_min_is_restored(platform, deploy):
    name = deploy("crash", low=1)
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    reply = call(platform, name, path="?crash=1")
    assert (reply.status_code, reply.text) == (500, f"Can't reach service for: {name}.")
    assert wait_until(lambda: any(e["event"] == "crashed" for e in platform.events(name)), timeout_s=30)
    assert call(platform, name).status_code == 200


def test_a_function_that_cannot_start_is_refused_after_some_tries_and_not_for_ever(platform, deploy):
    name = deploy("broken", handler="tests.handlers.broken")
    reply = call(platform, name)
    assert reply.status_code == 500
    assert "end before they are ready" in reply.text
    assert sum(event["event"] == "start_failed" for event in platform.events(name)) >= 3


def test_the_memory_limit_kills_and_the_function_recovers(platform, deploy):
    name = deploy("greedy", memory="128Mi")
    assert call(platform, name, path="?eat_mb=300").status_code == 500
    assert wait_until(lambda: any(e["event"] == "oom_killed" for e in platform.events(name)), timeout_s=30)
    (killed,) = [event for event in platform.events(name) if event["event"] == "oom_killed"]
    assert killed["exit_code"] == 137
    assert "128 MB" in killed["reason"]
    assert call(platform, name).status_code == 200


def test_the_exec_time_out_ends_the_work_and_the_replica_is_replaced(platform, deploy):
    name = deploy("slow", exec_timeout="500ms")
    first = call(platform, name).json()["replica"]
    assert call(platform, name, path="?sleep_s=30").status_code == 504
    assert wait_until(
        lambda: first not in {e.environ()["FAVE_REPLICA_ID"] for e in platform.replica_processes(name)}, timeout_s=30
    )
    assert call(platform, name).status_code == 200


def test_a_caller_may_lower_the_time_out_but_not_raise_it(platform, deploy):
    name = deploy("xtimeout", exec_timeout="1s")
    assert call(platform, name, path="?sleep_s=30", headers={"X-Timeout": "100ms"}).status_code == 504
    assert call(platform, name, path="?sleep_s=30", headers={"X-Timeout": "1h"}).status_code == 504


def test_prometheus_events_and_the_process_table_agree_on_ready_replicas(platform, deploy):
    name = deploy("witness", high=3)
    for wanted in (2, 3, 1, 0):
        platform.gateway.scale(name, wanted)
        assert wait_until(lambda n=wanted: platform.counts(name) == (n, n), timeout_s=30)
        assert wait_until(lambda n=wanted: platform.prometheus.replicas().get(name) == (n, n), timeout_s=30)
        assert wait_until(lambda n=wanted: len(platform.replica_processes(name)) == n, timeout_s=30)
        assert wait_until(lambda n=wanted: _ready_by_events(platform, name) == n, timeout_s=30)


def test_metrics_have_openfaas_names_and_count_invocations(platform, deploy):
    name = deploy("metrics")
    call(platform, name)
    text = requests.get(platform.metrics_url(), timeout=30).text
    assert 'gateway_loop_lag_seconds_bucket{le="0.025"}' in text
    label = f'function_name="{name}.openfaas-fn"'
    assert f'gateway_function_invocation_total{{code="200",{label}}} 1.0' in text
    assert f"gateway_function_invocation_started{{{label}}} 1.0" in text
    assert f"gateway_service_count{{{label}}} 1.0" in text
    assert f"gateway_service_ready_count{{{label}}} 1.0" in text
    assert f"gateway_function_invocation_inflight{{{label}}} 0.0" in text
    assert f'gateway_functions_seconds_bucket{{code="200",{label},le="10.0"}} 1.0' in text


def test_replica_samples_come_twice_a_second_with_their_own_times(platform, deploy):
    name = deploy("samples", low=1)
    start_ns = utc_ns()

    def samples():
        found = platform.prometheus.replica_samples(start_ns, utc_ns())
        return [sample for sample in found if sample.function == name]

    assert wait_until(lambda: len(samples()) >= 6, timeout_s=30)
    times = [sample.at_ns for sample in samples()]
    assert times == sorted(set(times))
    config = requests.get(f"{platform.endpoints.prometheus_url}/api/v1/status/config", timeout=30).json()
    assert "scrape_interval: 500ms" in config["data"]["yaml"]


def test_everything_listens_on_loopback_only(platform):
    for url in (platform.endpoints.gateway_url, platform.endpoints.prometheus_url, platform.endpoints.s3_endpoint_url):
        port = urlsplit(url).port
        with socket.socket() as probe, pytest.raises(OSError, match="refused"):
            # Another address of the loopback range: a server bound to 0.0.0.0 would answer.
            probe.connect(("127.0.0.2", port))


def _stop_reasons(platform, name):
    return [event["reason"] for event in platform.events(name) if event["event"] == "stop"]


def _ready_by_events(platform, name):
    ready = set()
    for event in platform.events(name):
        if event["event"] == "ready":
            ready.add(event["replica_id"])
        elif event["event"] != "start":
            ready.discard(event.get("replica_id"))
    return len(ready)
