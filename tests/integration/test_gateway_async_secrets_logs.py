"""What the embedded gateway does beside plain invocations: asynchronous ones, secrets, logs."""

from __future__ import annotations

import json

import pytest
import requests

from fave.errors import GatewayError
from fave.processes import wait_until
from fave.wire.openfaas import HANDLER, FunctionSpec
from tests.conftest import ECHO
from tests.support.http_server import serving

pytestmark = pytest.mark.integration


def test_an_asynchronous_invocation_is_accepted_done_and_called_back(platform, deploy):
    name = deploy("later")
    heard = []

    def answer(request):
        heard.append(request)
        return 200, {}, b""

    with serving(answer) as url:
        call_id = platform.caller.invoke_async(f"{name}/a?x=1", b"hello", {"X-Mine": "1"}, callback_url=url)
        assert wait_until(lambda: heard, timeout_s=30)
    (callback,) = heard
    assert call_id
    assert callback.headers["x-call-id"] == call_id
    assert (callback.headers["x-function-name"], callback.headers["x-function-status"]) == (name, "200")
    assert float(callback.headers["x-duration-seconds"]) >= 0
    assert int(callback.headers["x-fave-ready-at"]) > 0, "the measurement travels with the callback"
    seen = json.loads(callback.body)
    assert (seen["body"], seen["path"], seen["query"]) == ("hello", "/a", {"x": "1"})
    assert "x-callback-url" not in seen["headers"]


def test_a_callback_that_fails_is_tried_again_with_the_same_call_id(platform, deploy):
    name = deploy("again")
    heard = []

    def answer(request):
        heard.append(request)
        return (500 if len(heard) == 1 else 200), {}, b""

    with serving(answer) as url:
        call_id = platform.caller.invoke_async(name, b"", callback_url=url)
        assert wait_until(lambda: len(heard) == 2, timeout_s=30)
    assert {request.headers["x-call-id"] for request in heard} == {call_id}
    assert heard[0].body == heard[1].body


def test_what_cannot_be_queued_is_refused_at_once(platform, deploy):
    name = deploy("refusing")
    with pytest.raises(GatewayError, match="404"):
        platform.caller.invoke_async("nobody", b"")
    with pytest.raises(GatewayError, match=r"400.*no http address"):
        platform.caller.invoke_async(name, b"", callback_url="file:///etc/passwd")


def test_secrets_are_made_changed_listed_and_deleted(platform):
    system, auth = f"{platform.endpoints.gateway_url}/system/secrets", platform.gateway.auth
    one = {"name": "token", "value": "1"}
    assert requests.put(system, json=one, auth=auth, timeout=30).status_code == 404
    assert requests.post(system, json=one, auth=auth, timeout=30).status_code == 202
    assert requests.post(system, json=one, auth=auth, timeout=30).status_code == 409
    platform.gateway.put_secret("token", "2")
    assert "token" in platform.gateway.secrets()
    assert "2" not in requests.get(system, auth=auth, timeout=30).text
    platform.gateway.delete_secret("token")
    assert "token" not in platform.gateway.secrets()
    assert requests.delete(system, json=one, auth=auth, timeout=30).status_code == 404
    assert requests.post(system, json={"name": "../x", "value": "1"}, auth=auth, timeout=30).status_code == 400
    assert requests.get(system, timeout=30).status_code == 401


def test_a_function_finds_its_secret_in_a_file_and_no_other_function_does(platform, deploy):
    platform.gateway.put_secret("mine", "open sesame")
    try:
        spec = FunctionSpec(service="secretive", image="", annotations={HANDLER: ECHO}, secrets=("mine",))
        platform.gateway.deploy(spec)
        assert platform.caller.invoke("secretive?secret=mine", b"").text == "open sesame"
        assert platform.caller.invoke(f"{deploy('curious')}?secret=mine", b"").status_code == 500
    finally:
        platform.gateway.delete("secretive")
        platform.gateway.delete_secret("mine")


def test_a_deployment_that_names_an_unknown_secret_is_refused(platform):
    with pytest.raises(GatewayError, match=r"400.*unable to find secret: absent"):
        platform.gateway.deploy(FunctionSpec(service="x", image="", annotations={HANDLER: ECHO}, secrets=("absent",)))


def test_logs_of_a_function_are_given_as_openfaas_gives_them(platform, deploy):
    name = deploy("talkative")
    for _ in range(3):
        platform.caller.invoke(name, b"")
    system, auth = f"{platform.endpoints.gateway_url}/system/logs", platform.gateway.auth

    def lines(**query):
        text = requests.get(system, params={"name": name, **query}, auth=auth, timeout=30).text
        return [json.loads(line) for line in text.splitlines()]

    everything = lines()
    assert len(everything) == 3
    assert {line["name"] for line in everything} == {name}
    assert json.loads(everything[0]["text"])["status"] == 200
    assert lines(tail=1) == everything[-1:]
    assert lines(since=everything[1]["timestamp"]) == everything[1:]
    assert lines(instance=everything[0]["instance"]) == everything
    assert platform.gateway.logs(name, everything[1]["timestamp"], tail=1) == everything[-1:]
    assert platform.gateway.logs("nobody-has-this-name", everything[0]["timestamp"], tail=9) == []
    assert lines(instance="other") == []
    assert requests.get(system, params={"name": "../x"}, auth=auth, timeout=30).status_code == 400


def test_logs_that_are_followed_come_as_they_are_written(platform, deploy):
    name = deploy("chatty")
    platform.caller.invoke(name, b"")
    url = f"{platform.endpoints.gateway_url}/system/logs"
    query = {"name": name, "follow": "true", "tail": "1"}
    with requests.get(url, params=query, auth=platform.gateway.auth, stream=True, timeout=30) as reply:
        lines = reply.iter_lines(chunk_size=1)
        assert json.loads(next(lines))["name"] == name
        for status in (418, 500):
            platform.caller.invoke(f"{name}?status={status}", b"")
            assert json.loads(json.loads(next(lines))["text"])["status"] == status
