"""What OpenFaaS' gateway does for its clients, asked by plain HTTP of the embedded gateway, or of any other:

    GATEWAY_URL=https://gateway.example GATEWAY_PASSWORD=… python -m pytest tests/conformance

It deploys functions whose names begin with `conform-`, from the image that OpenFaaS' own tests use, and deletes them.
Scaling to zero and by load are asked where CONFORMANCE_PRO is set, or of the embedded gateway: OpenFaaS' community
edition has neither.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from fave.processes import wait_until

pytestmark = pytest.mark.integration

ELSEWHERE = os.environ.get("GATEWAY_URL", "")
IMAGE = os.environ.get("CONFORMANCE_IMAGE", "ghcr.io/openfaas/alpine:latest")
WAIT_S = 120 if ELSEWHERE else 30
pro = pytest.mark.skipif(bool(ELSEWHERE) and "CONFORMANCE_PRO" not in os.environ, reason="OpenFaaS' community edition")


class Client:
    def __init__(self, url: str, auth: tuple[str, str]) -> None:
        self.url = url.rstrip("/")
        self.auth = auth

    def system(self, method, path, **options):
        return requests.request(method, f"{self.url}/system/{path}", auth=self.auth, timeout=60, **options)

    def call(self, name, body=b"", method="POST", **options):
        return requests.request(method, f"{self.url}/function/{name}", data=body, timeout=60, **options)

    def status(self, name):
        reply = self.system("GET", f"function/{name}")
        return reply.json() if reply.status_code == 200 else None

    def available(self, name):
        return (self.status(name) or {}).get("availableReplicas", 0)


@pytest.fixture(scope="module")
def client(request):
    if ELSEWHERE:
        auth = os.environ.get("GATEWAY_USER", "admin"), os.environ["GATEWAY_PASSWORD"]
        return Client(ELSEWHERE, auth)
    running = request.getfixturevalue("platform")
    return Client(running.endpoints.gateway_url, running.gateway.auth)


@pytest.fixture
def made(client):
    """Deploys; waits until it can be called, unless it is not to; deletes afterwards."""
    names = []

    def made(name, process="cat", *, method="POST", ready=True, **more):
        name = f"conform-{name}"
        body = {"service": name, "image": IMAGE, "envProcess": process, "envVars": None, "labels": None} | more
        names.append(name)
        reply = client.system(method, "functions", json=body)
        assert reply.status_code == 202, reply.text
        if ready:
            assert wait_until(lambda: client.available(name) >= 1, timeout_s=WAIT_S)
        return name

    yield made
    for name in set(names):
        client.system("DELETE", "functions", json={"functionName": name})


def test_a_function_is_deployed_listed_described_called_and_deleted(client, made):
    name = made("cycle")
    (listed,) = [each for each in client.system("GET", "functions").json() if each["name"] == name]
    described = client.status(name)
    for each in (listed, described):
        assert each["image"] == IMAGE
        assert each["replicas"] == 1
        assert each["labels"]["faas_function"] == name
        assert each["createdAt"][:2] == "20"
    assert described["envProcess"] == "cat"
    reply = client.call(name, b"hello")
    assert (reply.status_code, reply.content) == (200, b"hello")
    assert wait_until(lambda: client.status(name).get("invocationCount", 0) >= 1, timeout_s=WAIT_S)
    assert client.system("DELETE", "functions", json={"functionName": name}).status_code == 202
    assert wait_until(lambda: client.status(name) is None, timeout_s=WAIT_S)
    assert client.call(name).status_code == 404


def test_what_is_unknown_or_no_request_is_refused(client):
    assert client.call("conform-nobody").status_code == 404
    assert client.system("GET", "function/conform-nobody").status_code == 404
    assert client.system("DELETE", "functions", json={"functionName": "conform-nobody"}).status_code == 404
    assert client.system("DELETE", "functions", json={"functionName": ""}).status_code == 400
    for method in ("POST", "PUT"):
        assert client.system(method, "functions", data=b"{").status_code == 400
    absent = {"service": "conform-nobody", "image": IMAGE, "envProcess": "cat"}
    assert client.system("PUT", "functions", json=absent).status_code == 404


def test_variables_of_its_own_and_the_query_reach_the_program(client, made):
    name = made("env", "env", envVars={"custom_env": "yes, this one"})
    lines = client.call(f"{name}?a=1&b=2").text.splitlines()
    assert "custom_env=yes, this one" in lines
    assert "Http_Query=a=1&b=2" in lines
    assert "Http_Method=POST" in lines


def test_labels_and_annotations_come_back(client, made):
    name = made("labels", labels={"team": "a", "tier": "b"}, annotations={"link": "https://example.com/x?y=1"})
    there = client.status(name)
    assert {"team": "a", "tier": "b"}.items() <= there["labels"].items()
    assert there["annotations"]["link"] == "https://example.com/x?y=1"


def test_an_update_changes_what_is_called(client, made):
    name = made("update", "env", envVars={"word": "before"})
    assert "word=before" in client.call(name).text
    made("update", "env", method="PUT", ready=False, envVars={"word": "after"})
    assert wait_until(lambda: "word=after" in client.call(name).text, timeout_s=WAIT_S)


def test_every_way_to_ask_is_forwarded_with_its_headers(client, made):
    name = made("methods", "env")
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        reply = client.call(f"{name}/some/path", method=method, headers={"X-Mine": "1"})
        lines = reply.text.splitlines()
        assert f"Http_Method={method}" in lines
        assert "Http_Path=/some/path" in lines
        assert "Http_X_Mine=1" in lines
        assert reply.headers["X-Call-Id"]
        assert float(reply.headers["X-Duration-Seconds"]) >= 0
    assert client.call(name, headers={"X-Call-Id": "mine"}).headers["X-Call-Id"] == "mine"


def test_secrets_are_made_listed_changed_read_and_deleted(client, made):
    one = {"name": "conform-key", "value": "first"}
    client.system("DELETE", "secrets", json=one)
    try:
        assert client.system("POST", "secrets", json=one).status_code == 202
        assert "conform-key" in [each["name"] for each in client.system("GET", "secrets").json()]
        assert "first" not in client.system("GET", "secrets").text
        assert client.system("PUT", "secrets", json=one | {"value": "second"}).status_code == 202
        name = made("secret", "cat /var/openfaas/secrets/conform-key", secrets=["conform-key"])
        if not ELSEWHERE and os.geteuid() != 0:
            pytest.skip("a mount of its own takes root here")
        assert client.call(name).text == "second"
        client.system("DELETE", "functions", json={"functionName": name})
        assert wait_until(lambda: client.status(name) is None, timeout_s=WAIT_S)
    finally:
        assert client.system("DELETE", "secrets", json=one).status_code == 202
    assert client.system("DELETE", "secrets", json=one).status_code == 404


def test_an_operator_scales(client, made):
    name = made("scaled", labels={"com.openfaas.scale.max": "4"})
    for count in (2, 1):
        body = {"serviceName": name, "replicas": count}
        assert client.system("POST", f"scale-function/{name}", json=body).status_code == 202
        assert wait_until(lambda n=count: client.available(name) == n, timeout_s=WAIT_S)
    assert client.system("POST", f"scale-function/{name}", data=b"{").status_code == 400


def test_the_minimum_stands_from_the_beginning(client, made):
    name = made("minimum", labels={"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "3"})
    assert wait_until(lambda: client.available(name) == 2, timeout_s=WAIT_S)


@pro
def test_a_call_from_zero_is_held_until_it_can_be_answered(client, made):
    name = made("from-zero")
    assert client.system("POST", f"scale-function/{name}", json={"serviceName": name, "replicas": 0}).status_code == 202
    assert wait_until(lambda: client.available(name) == 0, timeout_s=WAIT_S)
    assert client.call(name, b"awake").content == b"awake"
    assert client.available(name) >= 1


@pro
def test_what_may_go_to_zero_goes_there_when_nobody_asks(client, made):
    labels = {"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "1s" if not ELSEWHERE else "1m"}
    name = made("to-zero", ready=False, labels=labels)
    assert client.call(name, b"x").content == b"x"
    assert wait_until(lambda: client.available(name) == 0, timeout_s=10 * WAIT_S)


@pro
def test_load_adds_replicas_and_its_end_takes_them_away(client, made):
    labels = {
        "com.openfaas.scale.type": "rps",
        "com.openfaas.scale.target": "5",
        "com.openfaas.scale.target-proportion": "1.0",
        "com.openfaas.scale.max": "3",
    }
    name = made("busy", labels=labels, envVars={"max_inflight": "20"})
    until_s = time.monotonic() + 10 * WAIT_S

    def ask(_):
        while client.available(name) < 2 and time.monotonic() < until_s:
            client.call(name, b"x")

    with ThreadPoolExecutor(4) as callers:
        list(callers.map(ask, range(4)))
    assert client.available(name) >= 2
    assert wait_until(lambda: client.available(name) == 1, timeout_s=10 * WAIT_S)


@pro
def test_equal_bounds_turn_scaling_off(client, made):
    labels = {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "1", "com.openfaas.scale.target": "1"}
    name = made("fixed", labels=labels, envVars={"max_inflight": "20"})
    with ThreadPoolExecutor(4) as callers:
        replies = list(callers.map(lambda _: client.call(name, b"x").status_code, range(40)))
    assert set(replies) == {200}
    assert client.status(name)["replicas"] == 1


def test_what_a_function_writes_can_be_read(client, made):
    name = made("talks", "sh -c 'echo something-to-read >&2'")
    client.call(name)

    def said():
        reply = client.system("GET", "logs", params={"name": name, "tail": "-1", "follow": "false"})
        assert reply.status_code == 200
        return [json.loads(line) for line in reply.text.splitlines() if "something-to-read" in line]

    assert wait_until(said, timeout_s=WAIT_S)
    line = said()[0]
    assert (line["name"], bool(line["instance"]), bool(line["timestamp"])) == (name, True, True)


def test_a_program_that_fails_is_an_error_of_the_function(client, made):
    assert client.call(made("fails", "false")).status_code == 500


def test_the_gateway_tells_of_itself(client):
    info = client.system("GET", "info").json()
    assert info["provider"]["provider"]
    assert info["provider"]["version"]["release"]
    assert info["arch"]
    assert client.system("GET", "namespaces").json()
    assert requests.get(f"{client.url}/healthz", timeout=30).status_code == 200


def test_administration_is_for_who_knows_the_password(client):
    reply = requests.get(f"{client.url}/system/functions", timeout=30)
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"].startswith("Basic")
    assert requests.get(f"{client.url}/system/functions", auth=("admin", "wrong"), timeout=30).status_code == 401


def test_a_call_that_nobody_waits_for_is_accepted(client, made):
    name = made("later")
    reply = requests.post(f"{client.url}/async-function/{name}", data=b"x", timeout=30)
    assert (reply.status_code, bool(reply.headers["X-Call-Id"])) == (202, True)
    refused = {"X-Callback-Url": "no address"}
    assert requests.post(f"{client.url}/async-function/{name}", headers=refused, timeout=30).status_code == 400
