"""Programs that know nothing of FAVE, on the embedded platform: any HTTP server is a function."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from msgspec import structs

from fave.campaign.experiment import Scaling
from fave.errors import PlatformError
from fave.processes import wait_until
from fave.wire.openfaas import INHERITS, READY_PATH, READY_TIMEOUT, FunctionSpec
from platforms import borrowed
from regimes.apply import apply
from regimes.model import resolve
from workloads.model import Function, Request, Workload

pytestmark = pytest.mark.integration

# Answers every GET and POST with its own environment; /healthz only once a file is there.
SERVER = """
import http.server, json, os, sys, time
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(20 * (self.path == '/slow'))
        if self.path == '/break':
            return os.close(self.connection.detach())
        ill = self.path == '/healthz' and 'ILL' in os.environ
        body = json.dumps({'env': dict(os.environ), 'path': self.path}).encode()
        self.send_response(503 if ill else 200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    log_message = lambda *a: None
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H).serve_forever()
"""


@pytest.fixture
def program(platform, tmp_path):
    """Deploys the server, or another command; it is deleted afterwards."""
    (tmp_path / "server.py").write_text(SERVER)
    deployed = []

    def deploy(
        name, command=f"{sys.executable} {tmp_path / 'server.py'} {{port}}", annotations=None, limits=None, **env
    ):
        labels = {"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "60s"}
        spec = FunctionSpec(
            service=name,
            image="",
            env_process=command,
            annotations=annotations or {},
            labels=labels,
            limits=limits or {},
            env_vars=env,
        )
        platform.gateway.deploy(spec)
        deployed.append(name)
        return name

    yield deploy
    for name in deployed:
        platform.gateway.delete(name)


def test_any_server_is_a_function_and_the_gateway_stamps_its_replies(platform, program):
    name = program("anybody")
    first, second = (platform.caller.invoke(f"{name}/where?a=1", b"") for _ in range(2))
    assert first.json()["path"] == "/where?a=1"
    (ready,) = [event for event in platform.events(name) if event["event"] == "ready"]
    for before, reply in enumerate((first, second)):
        at = {
            key: int(reply.headers[f"X-Fave-{key}-At"]) for key in ("Process-Started", "Ready", "Started", "Finished")
        }
        assert reply.headers["X-Fave-Replica-Id"] == ready["replica_id"]
        assert reply.headers["X-Fave-Invocations-Before"] == str(before)
        assert at["Process-Started"] < at["Ready"] <= ready["at_ns"]
        assert at["Ready"] < at["Started"] < at["Finished"]


def test_it_gets_what_it_declares_and_nothing_of_the_platforms(platform, program, monkeypatch):
    name = program("private", LEVEL="high")
    env = platform.caller.invoke(name, b"").json()["env"]
    assert (env["LEVEL"], env["port"].isdigit()) == ("high", True)
    ours = [key for key in env if key.startswith(("FAVE_", "AWS_", "S3_", "GATEWAY_", "PYTHON", "OMP_", "CONFIG_"))]
    assert ours == []


def test_the_platforms_own_variables_cannot_be_inherited(program):
    with pytest.raises(Exception, match="FAVE_OWN_ENV: the platform's own variables are no function's business"):
        program("curious", annotations={INHERITS: "FAVE_OWN_ENV"})


@pytest.mark.parametrize(
    ("name", "command", "annotations", "env", "why"),
    [
        ("deaf", "sleep 60", {READY_TIMEOUT: "1s"}, {}, "nothing listened on port"),
        ("brief", "false", {}, {}, "ended before ready"),
        ("absent", "/no/such/program", {}, {}, "/no/such/program"),
        (
            "ill",
            None,
            {READY_PATH: "/healthz", READY_TIMEOUT: "1s"},
            {"ILL": "1"},
            "/healthz did not answer 200 on port",
        ),
    ],
)
def test_why_a_start_failed_is_told(platform, program, name, command, annotations, env, why):
    more = {"command": command} if command else {}
    program(name, annotations=annotations, **more, **env)
    platform.gateway.scale(name, 1)
    assert wait_until(lambda: any(e["event"] == "start_failed" for e in platform.events(name)), timeout_s=30)
    event = next(e for e in platform.events(name) if e["event"] == "start_failed")
    assert why in event["reason"]


def test_who_waits_for_a_start_that_fails_hears_why_once_its_time_is_over(platform, program):
    name = program("mute", command="sh -c 'echo no port for me; sleep 60'", annotations={READY_TIMEOUT: "2s"})
    began_s = time.monotonic()
    reply = platform.caller.invoke(name, b"")
    assert time.monotonic() - began_s < 20
    assert reply.status_code == 500
    assert "nothing listened on port" in reply.text
    assert reply.text.endswith("within 2 s; the end of the log:\nno port for me)")


BORROWED = Workload(
    description="deployed by somebody else",
    functions={"lent": Function(memory_limit_mb=128)},
    requests={"r": Request(function="lent")},
    deploy=False,
)


def test_a_borrowed_function_is_scaled_by_its_labels_alone_and_put_back(platform, program, tmp_path, monkeypatch):
    monkeypatch.setattr(borrowed, "PLACE", tmp_path / "borrowed.json")
    program("lent", annotations={"team": "theirs"}, LEVEL="high", limits={"memory": "128Mi"})
    platform.gateway.scale("lent", 1)
    assert wait_until(lambda: platform.counts("lent") == (1, 1), timeout_s=30)
    before = platform.gateway.function("lent")
    settings = resolve("warm", BORROWED.functions, Scaling(max_replicas=3))
    apply(platform.here, BORROWED, "warm", settings, lambda _: None)
    during = platform.gateway.function("lent")
    assert during.labels["com.openfaas.scale.max"] == "3"
    same = ("env_process", "env_vars", "annotations", "limits", "image")
    assert all(getattr(during, name) == getattr(before, name) for name in same)
    apply(platform.here, BORROWED, "cold", settings, lambda _: None, initial=1)
    # Its owner deploys anew meanwhile: that stays.
    platform.gateway.deploy(structs.replace(borrowed.as_spec(during, {}), env_vars={"LEVEL": "low"}))
    # As after a kill: nothing but the file tells.
    assert borrowed.give_back(platform.gateway) == ["lent"]
    there = platform.gateway.function("lent")
    assert (there.labels, there.env_vars) == (before.labels, {"LEVEL": "low"})
    assert wait_until(lambda: platform.counts("lent") == (1, 1), timeout_s=30)
    assert not (tmp_path / "borrowed.json").exists()
    assert borrowed.give_back(platform.gateway) == []


def test_what_is_not_deployed_or_has_other_limits_is_not_borrowed(platform, program, tmp_path, monkeypatch):
    monkeypatch.setattr(borrowed, "PLACE", tmp_path / "borrowed.json")
    settings = resolve("warm", BORROWED.functions)
    with pytest.raises(PlatformError, match=r"not deployed at http.*: lent"):
        apply(platform.here, BORROWED, "warm", settings, lambda _: None)
    program("lent", limits={"memory": "64Mi"})
    with pytest.raises(PlatformError, match=r"functions\.lent\.memory_limit_mb: 128, deployed is 64Mi"):
        apply(platform.here, BORROWED, "warm", settings, lambda _: None)
    assert not (tmp_path / "borrowed.json").exists(), "nothing was touched"


def test_a_caller_that_leaves_frees_the_slot_of_any_program_at_once(platform, program):
    """It was held until exec_timeout, and then the replica was killed with all that its neighbours asked."""
    name = program("abandoned", max_inflight="1")
    assert platform.caller.invoke(name, b"").status_code == 200
    url = f"{platform.endpoints.gateway_url}/function/{name}"
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{url}/slow", timeout=0.5)
    assert wait_until(lambda: platform.in_flight(name) == 0, timeout_s=5)
    assert requests.get(f"{url}/quick", timeout=5).json()["path"] == "/quick"
    assert [event["event"] for event in platform.events(name)] == ["deploy", "start", "ready"]


def test_no_limit_of_calls_or_time_is_none(platform, program):
    name = program("unbounded", max_inflight="0", exec_timeout="0")
    with ThreadPoolExecutor(8) as callers:
        replies = list(callers.map(lambda _: platform.caller.invoke(name, b"").status_code, range(8)))
    assert replies == [200] * 8
    assert sum(event["event"] == "start" for event in platform.events(name)) == 1


def test_a_function_may_have_a_path_of_its_own(platform, program):
    """What starts it is not looked up there."""
    assert platform.caller.invoke(program("elsewhere", PATH="/nowhere"), b"").json()["env"]["PATH"] == "/nowhere"


def test_a_connection_that_breaks_starts_no_replica_beyond_the_maximum(platform, program):
    name = program("breaks", max_inflight="4")
    platform.gateway.deploy(borrowed.as_spec(platform.gateway.function(name), {"com.openfaas.scale.max": "1"}))
    platform.caller.invoke(name, b"")
    assert platform.caller.invoke(f"{name}/break", b"").status_code == 500
    with ThreadPoolExecutor(4) as callers:
        replies = list(callers.map(lambda _: platform.caller.invoke(name, b"").status_code, range(4)))
    assert replies == [200] * 4
    assert sum(event["event"] == "start" for event in platform.events(name)) == 1
