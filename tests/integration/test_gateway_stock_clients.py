"""What other people's clients send, and what they expect: nulls, namespaces, quantities, logs; a replica that dies."""

from __future__ import annotations

import base64
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from fave.processes import wait_until
from fave.wire.openfaas import HANDLER, memory_mb
from tests.conftest import ECHO

pytestmark = pytest.mark.integration


@pytest.fixture
def ask(platform):
    def ask(method, path, **options):
        url = f"{platform.endpoints.gateway_url}/system/{path}"
        return requests.request(method, url, auth=platform.gateway.auth, timeout=30, **options)

    return ask


@pytest.fixture
def made(platform):
    names = []
    yield names.append
    for name in names:
        platform.gateway.delete(name)


def of_go(name, **more):
    """As Go's clients write a deployment: maps and lists that are not there are null."""
    absent = dict.fromkeys(("envVars", "constraints", "secrets", "labels", "limits", "requests"))
    return {"service": name, "image": "", "namespace": "", "annotations": {HANDLER: ECHO}} | absent | more


def test_null_is_absent_everywhere(ask, made, platform):
    made("nulls")
    assert ask("POST", "functions", json=of_go("nulls")).status_code == 202
    assert platform.caller.invoke("nulls", b"x").status_code == 200
    assert ask("PUT", "functions", json=of_go("nulls", labels={"a": None, "b": "1"})).status_code == 202
    assert platform.gateway.function("nulls").labels == {"b": "1", "faas_function": "nulls"}
    assert ask("POST", "scale-function/nulls", json={"serviceName": "nulls", "replicas": 1, "namespace": None}).ok


def test_a_description_is_whole(ask, made):
    made("whole")
    body = of_go("whole", constraints=["node=1"], labels={"faas_function": "forged"})
    assert ask("POST", "functions", json=body).status_code == 202
    found = ask("GET", "function/whole", params={"usage": "1"}).json()
    assert found["labels"] == {"faas_function": "whole"}
    assert found["constraints"] == ["node=1"]
    assert found["createdAt"].endswith("Z")
    assert found["usage"]["totalMemoryBytes"] >= 0


def test_another_namespace_is_refused_in_every_route_and_nothing_here_is_touched(ask, deploy, platform):
    name = deploy("mine", low=1)
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    other = {"namespace": "other"}
    answers = [
        ask("POST", "functions", json=of_go("new", **other)),
        ask("PUT", "functions", json=of_go(name, **other)),
        ask("DELETE", "functions", json={"functionName": name, **other}),
        ask("POST", f"scale-function/{name}", json={"serviceName": name, "replicas": 0, **other}),
        ask("POST", "secrets", json={"name": "s", "value": "v", **other}),
        *(ask("GET", path, params=other) for path in ("functions", f"function/{name}", "secrets", "info")),
        ask("GET", "logs", params={"name": name, **other}),
    ]
    assert [(answer.status_code, "there is only openfaas-fn" in answer.text) for answer in answers] == [
        (400, True)
    ] * 10
    assert platform.counts(name) == (1, 1)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"labels": {"com.openfaas.scale.max": "inf"}}, "max='inf' is not a number"),
        ({"labels": {"com.openfaas.scale.min": "nan"}}, "min='nan' is not a number"),
        ({"labels": {"com.openfaas.scale.max": "²"}}, "max='²' is not a number"),
        ({"labels": {"com.openfaas.scale.max": "1.5"}}, "max='1.5' is not a whole number"),
        ({"labels": {"com.openfaas.scale.zero-duration": "²"}}, "zero-duration"),
        ({"limits": {"memory": "much"}}, "'much' is not a quantity"),
        ({"limits": {"memory": "500m"}}, "write 500Mi"),
        ({"envVars": {"exec_timeout": "-1"}}, "exec_timeout='-1' must not be below 0"),
        ({"labels": {"com.openfaas.scale.zero-duration": "-4s"}}, "must not be below 0"),
        ({"envVars": {"exec_timeout": "0"}}, "only a command may have none"),
        ({"envVars": {"max_inflight": "0"}}, "must be at least 1"),
        ({"service": "again.openfaas-fn"}, "not end in .openfaas-fn"),
    ],
)
def test_values_that_are_none_are_refused_when_they_are_given(ask, body, says):
    answer = ask("POST", "functions", json=of_go("refused") | body)
    assert (answer.status_code, says in answer.text) == (400, True), answer.text


def test_what_is_scaled_beyond_its_maximum_says_so(ask, deploy):
    answer = ask("POST", f"scale-function/{deploy('little', high=1)}", json={"replicas": 5})
    assert (answer.status_code, answer.text) == (202, "scaled to 1, its maximum")


def test_a_secret_may_come_as_bytes(ask, platform):
    raw = base64.b64encode(b"opened").decode()
    assert ask("POST", "secrets", json={"name": "raw", "rawValue": raw}).status_code == 202
    assert ask("PUT", "secrets", json={"name": "raw", "rawValue": "%%"}).status_code == 400
    platform.gateway.delete_secret("raw")


def test_lines_with_any_time_or_none_come_in_their_order(ask, deploy, platform):
    name = deploy("writer")
    platform.caller.invoke(name, b"")
    lines = [f"{line}\n" for line in ('{"timestamp": "x"}', '{"timestamp": "2020-01-01"}', '{"timestamp": 7}', "plain")]
    (log,) = (platform.state / "logs" / name).glob("*.log")
    with log.open("a") as file:
        file.writelines(lines)
    answer = ask("GET", "logs", params={"name": name, "tail": "-1", "follow": "false"})
    texts = [json.loads(line)["text"] for line in answer.text.splitlines()]
    assert texts[-4:] == [line.strip() for line in lines]
    assert ask("GET", "logs", params={"name": name, "tail": "-2"}).status_code == 400


def test_a_replica_that_dies_costs_only_what_it_held(deploy, platform):
    """Many wait when it is killed: one had been sent to it, and nobody else is told of its death."""
    name = deploy("mortal", low=1, high=1, idle="60s")
    assert wait_until(lambda: platform.counts(name) == (1, 1), timeout_s=30)
    with ThreadPoolExecutor(31) as callers:
        replies = [callers.submit(platform.caller.invoke, f"{name}?sleep_s=0.5", b"") for _ in range(31)]
        assert wait_until(lambda: platform.in_flight(name) > 10, timeout_s=30)
        (process,) = platform.replica_processes(name)
        os.kill(process.pid, signal.SIGKILL)
        statuses = [reply.result().status_code for reply in replies]
    assert statuses.count(500) <= 1, statuses
    assert statuses.count(200) >= 30, statuses


def test_who_forwarded_a_call_before_is_kept(deploy, platform):
    headers = {"X-Forwarded-For": "10.0.0.9", "X-Forwarded-Host": "outside.example"}
    seen = platform.caller.invoke(deploy("forwarded"), b"", headers).json()["headers"]
    assert (seen["x-forwarded-for"], seen["x-forwarded-host"]) == ("10.0.0.9, 127.0.0.1", "outside.example")


@pytest.mark.parametrize(
    ("text", "size_mb"),
    [("512Mi", 512), ("0.5Gi", 512), ("1.5Gi", 1536), ("1Ti", 2**20), ("1e9", 954), ("536870912", 512), ("", 0)],
)
def test_quantities_are_kubernetes(text, size_mb):
    assert memory_mb(text) == size_mb
