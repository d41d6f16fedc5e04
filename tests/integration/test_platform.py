"""The supervisor and its services: up, down, killed, on taken ports."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fave.errors import StorageError
from fave.processes import wait_until
from fave.settings import ROOT
from fave.storage import Store
from fave.wire.openfaas import HANDLER, FunctionSpec
from local.services import choose_ports
from tests.conftest import ECHO, alive, children_with, connect, start_platform
from tests.support.http_server import serving

pytestmark = pytest.mark.integration


def door(*arguments, state, **kwargs):
    command = [sys.executable, "-m", "local", *arguments, "--state", str(state)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **kwargs)


def test_the_bucket_has_the_rule_that_expires_requests_and_nothing_else(platform):
    client = platform.store.client
    (rule,) = client.get_bucket_lifecycle_configuration(Bucket="fave-artifacts")["Rules"]
    assert (rule["Status"], rule["Expiration"]["Days"]) == ("Enabled", 1)
    prefix = rule.get("Filter", {}).get("Prefix", rule.get("Prefix"))
    assert prefix == "requests/"


def test_the_object_store_refuses_strangers(platform):
    stranger = Store(
        endpoint_url=platform.endpoints.s3_endpoint_url,
        access_key="nobody",
        secret_key="wrong",
        bucket="fave-artifacts",
    )
    with pytest.raises(StorageError) as caught:
        stranger.put(stranger.uri("x"), b"1")
    assert caught.value.slug == "forbidden"


def test_conditional_writes_let_exactly_one_writer_win(platform):
    store = platform.store
    uri = store.uri("requests/cas/state.json")
    etag = store.put(uri, b"1", create=True)
    with pytest.raises(StorageError) as created:
        store.put(uri, b"2", create=True)
    assert created.value.slug == "conflict"
    store.put(uri, b"2", if_match=etag)
    with pytest.raises(StorageError) as changed:
        store.put(uri, b"3", if_match=etag)
    assert changed.value.slug == "conflict"
    assert store.get(uri) == b"2"
    with pytest.raises(StorageError) as absent:
        store.get(store.uri("requests/cas/absent"))
    assert absent.value.slug == "not-found"


def test_secrets_are_readable_by_their_owner_only_and_not_in_endpoints(platform):
    credentials = platform.state / "credentials.json"
    assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
    assert stat.S_IMODE((platform.state / "identities.json").stat().st_mode) == 0o600
    public = (platform.state / "endpoints.json").read_text()
    assert platform.endpoints.secret_key not in public
    assert platform.endpoints.gateway_password not in public


def test_a_second_platform_in_the_same_folder_is_refused(platform):
    reply = door("serve", state=platform.state)
    assert reply.returncode == 4
    assert "already runs" in reply.stderr
    assert "make down" in reply.stderr


def test_taken_ports_are_left_alone(platform):
    """The platform under test holds the defaults or others do: the next choice must be free."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        held.listen()
        ports = choose_ports()
        taken = {held.getsockname()[1]} | {
            int(url.rpartition(":")[2])
            for url in (
                platform.endpoints.gateway_url,
                platform.endpoints.prometheus_url,
                platform.endpoints.s3_endpoint_url,
            )
        }
        assert not taken & {getattr(ports, name) for name in ports.__struct_fields__}


def test_up_status_and_down_are_the_life_of_a_platform(tmp_path):
    assert door("status", state=tmp_path).returncode == 4
    up = door("up", state=tmp_path)
    assert up.returncode == 0, up.stderr
    try:
        assert "gateway" in up.stdout
        assert door("up", state=tmp_path).returncode == 0, "a second call finds it running"
        assert door("status", state=tmp_path).stdout.startswith("gateway")
        running = connect(tmp_path)
        family = running.supervisor.children(recursive=True)
        s3_port = running.endpoints.s3_endpoint_url.rpartition(":")[2]
    finally:
        down = door("down", state=tmp_path)
    assert down.stdout == "stopped\n"
    assert wait_until(lambda: not any(alive(process) for process in family), timeout_s=30)
    assert not list(Path("/tmp").glob(f"seaweedfs-*-{s3_port}.sock")), "the object store's sockets were left behind"
    assert door("down", state=tmp_path).stdout == "nothing was running\n"


def test_a_missing_program_is_one_clear_message(tmp_path):
    empty = {k: v for k, v in os.environ.items() if not k.startswith("FAVE_")}
    reply = door("serve", state=tmp_path, env={**empty, "XDG_CACHE_HOME": str(tmp_path), "PATH": "/nowhere"})
    assert reply.returncode == 3
    assert "prometheus is missing" in reply.stderr
    assert "python -m assets prometheus" in reply.stderr
    assert "Traceback" not in reply.stderr


@pytest.fixture
def own_platform(tmp_path):
    """One that may be killed."""
    supervisor = start_platform(tmp_path)
    yield connect(tmp_path)
    supervisor.stop()


def test_kill_9_of_the_supervisor_leaves_no_orphan(own_platform):
    running = own_platform
    spec = FunctionSpec(service="f", image="", annotations={HANDLER: ECHO}, labels={"com.openfaas.scale.min": "2"})
    running.gateway.deploy(spec)
    assert wait_until(lambda: running.counts("f") == (2, 2), timeout_s=30)
    family = running.supervisor.children(recursive=True)
    assert len(running.replica_processes("f")) == 2
    os.kill(running.supervisor.pid, signal.SIGKILL)
    assert wait_until(lambda: not any(alive(process) for process in family), timeout_s=30)


def test_after_kill_9_of_the_gateway_all_stands_as_it_did(own_platform, tmp_path):
    """Functions, their scaling, secrets, calls that were queued; at the same address, for the same password."""
    running = own_platform
    running.gateway.put_secret("word", "sesame")
    labels = {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "4"}
    spec = FunctionSpec(service="f", image="", annotations={HANDLER: ECHO}, labels=labels, secrets=("word",))
    running.gateway.deploy(spec)
    # A shell that starts a server and waits for it: killing the shell alone would leave the server.
    server = f"{sys.executable} {ROOT / 'tests/support/stranger.py'} {{port}}"
    running.gateway.deploy(FunctionSpec(service="shell", image="", env_process=f"sh -c '{server} & wait'"))
    running.gateway.deploy(FunctionSpec(service="gone", image="", annotations={HANDLER: ECHO}))
    running.gateway.delete("gone")
    running.gateway.scale("f", 2)
    assert wait_until(lambda: running.counts("f") == (2, 2) and running.counts("shell") == (1, 1), timeout_s=30)
    created = running.gateway.function("f").created_at
    stood = [running.service(word) for word in ("weed", "prometheus")]
    gateway = running.service("local.gateway")
    replicas = gateway.children(recursive=True)
    assert any("stranger.py" in " ".join(each.cmdline()) for each in replicas)
    kept = [path for path in (tmp_path / "gateway.json", tmp_path / "queue") if path.stat().st_mode & 0o077]
    assert kept == [], "others could read them"
    heard = []
    with serving(lambda request: (heard.append(request), (200, {}, b""))[1]) as url:
        calls = [running.caller.invoke_async("f?sleep_s=1", b"", callback_url=url) for _ in range(6)]
        gateway.kill()
        assert wait_until(lambda: not any(alive(each) for each in replicas), timeout_s=30)
        assert wait_until(running.gateway.healthy, timeout_s=30)
        assert wait_until(lambda: running.counts("f") == (2, 2), timeout_s=30)
        assert wait_until(lambda: {each.headers["x-call-id"] for each in heard} == set(calls), timeout_s=60)
    there = running.gateway.function("f")
    assert (there.labels, there.created_at) == (labels | {"faas_function": "f"}, created)
    assert running.caller.invoke("f?secret=word", b"").text == "sesame"
    assert running.gateway.function("gone") is None
    assert all(alive(each) for each in stood)
    ended = [event for event in running.events("f") if event["event"] == "crashed"]
    assert {event["reason"] for event in ended} == {"the gateway was killed"}
    assert len(ended) >= 2
    numbers = [event["seq"] for event in running.gateway.events()]
    assert numbers == sorted(set(numbers))
    assert "gateway was killed by SIGKILL: started again" in door("status", state=tmp_path).stdout


def test_bodies_may_reach_functions_chunked_and_a_stopped_platform_leaves_nothing_of_what_it_kept(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("FAVE_CHUNKED_BODIES", "1")
    supervisor = start_platform(tmp_path)
    try:
        running = connect(tmp_path)
        command = f"{sys.executable} {ROOT / 'tests/support/stranger.py'} {{port}}"
        running.gateway.deploy(FunctionSpec(service="f", image="", env_process=command))
        seen = running.caller.invoke("f/seen", b"12345").json()
        assert (dict(seen["headers"]).get("Transfer-Encoding"), seen["size"]) == ("chunked", 5)
        assert "Content-Length" not in dict(seen["headers"])
    finally:
        supervisor.stop()
    assert not [name for name in ("gateway.json", "queue", "tmp") if (tmp_path / name).exists()]


def test_a_gateway_that_dies_again_and_again_ends_the_platform(tmp_path):
    supervisor = start_platform(tmp_path)
    running = connect(tmp_path)
    try:
        killed = set()

        def kill_another():
            """True once there is none to come."""
            for gateway in children_with(running.supervisor, "local.gateway"):
                if gateway.pid not in killed:
                    killed.add(gateway.pid)
                    gateway.kill()
            return not supervisor.running()

        assert wait_until(kill_another, timeout_s=60)
    finally:
        supervisor.stop()
    assert "6 times in 60 s: the platform ends" in door("status", state=tmp_path).stderr
