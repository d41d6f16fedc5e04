"""`make images-test`: every container image builds, and does its work against the embedded object store."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess

import msgspec
import pytest
import requests

from fave.processes import OwnedProcess, free_port
from fave.settings import ROOT
from fave.wire.envelope import StageMetadata
from functions.images.build import GROUPS, Target, build
from tests.support.videosearcher import FUNCTIONS, ORCHESTRATOR, STAGES

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]

if os.environ.get("FAVE_IMAGES_TEST") != "1":
    pytest.skip("needs a container engine and some minutes: make images-test", allow_module_level=True)

TARGET = Target(
    prefix="fave-test/",
    tag="test",
    debian_image=os.environ.get("FAVE_DEBIAN_IMAGE") or Target().debian_image,
    pip_index=os.environ.get("PIP_INDEX_URL", ""),
)


@pytest.fixture(scope="module")
def images():
    assert shutil.which("docker"), "no container engine"
    built = build(TARGET, GROUPS, print)
    assert set(built) == {TARGET.name(function) for function in FUNCTIONS}


@contextlib.contextmanager
def running(pipeline, function, log):
    """The function's container, as a cluster runs it: not root, nothing writable but /tmp, secrets as files."""
    port = free_port()
    endpoints = pipeline.platform.endpoints
    environment = {
        "port": str(port),
        "bind": "127.0.0.1",
        "FAVE_FUNCTION": function,
        "FAVE_MEMORY_LIMIT_MB": "768",
        "GATEWAY_URL": endpoints.gateway_url,
        **endpoints.storage_environment(),
    }
    name = f"fave-test-{function}-{os.getpid()}"
    command = ["docker", "run", "--rm", "--name", name, "--network", "host", "--read-only", "--tmpfs", "/tmp"]
    command += [part for key in environment for part in ("--env", key)]
    command.append(TARGET.name(function))
    with OwnedProcess(name, command, log=log, env={**os.environ, **environment}, stop_grace_s=20) as container:
        url = f"http://127.0.0.1:{port}"
        try:
            container.wait_ready(lambda: answers(url), timeout_s=120)
            yield url
        finally:
            subprocess.run(["docker", "stop", "--time", "5", name], capture_output=True, check=False)


def answers(url):
    try:
        return requests.get(f"{url}/_/ready", timeout=2).status_code == 200
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def stored(pipeline):
    """The orders of a finished request, by stage."""
    asked = pipeline.ask("find scenes with cars", request_id="for-images")
    assert asked.status == 200
    found = {}
    for key in pipeline.store.keys("requests/for-images/stage-"):
        if "/metadata." in key:
            metadata = msgspec.json.decode(pipeline.store.get(pipeline.store.uri(key)), type=StageMetadata)
            found[metadata.stage] = metadata
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stages_container_does_what_its_process_did(pipeline, images, stored, stage, tmp_path):
    with running(pipeline, stage, tmp_path / "log") as url:
        assert requests.get(f"{url}/_/health", timeout=30).status_code == 200
        # To a place of its own: another ffmpeg makes other bytes, and the next stage insists on those it was promised.
        box = pipeline.store.uri(f"requests/for-images/box/{stage}/")
        order = msgspec.structs.replace(stored[stage].envelope, output_uri=box)
        reply = requests.post(url, data=msgspec.json.encode(order), timeout=120)
        assert reply.status_code == 200, reply.text
        answer = reply.json()
        assert answer["status"] == "ok"
        assert [uri.rpartition("/")[2] for uri in answer["outputs"]] == [
            uri.rpartition("/")[2] for uri in stored[stage].outputs
        ]
        assert answer["telemetry"]["peak_rss_mb"] > 0


def test_the_orchestrators_container_directs_a_request(pipeline, images, tmp_path):
    with running(pipeline, ORCHESTRATOR, tmp_path / "log") as url:
        reply = requests.post(url, data=pipeline.body("find scenes with cars", request_id="in-a-box"), timeout=120)
        assert (reply.status_code, reply.json()["status"]) == (200, "COMPLETED"), reply.text
        assert reply.json()["ranking"][0]["clip"] == "clip-001"


def test_every_image_carries_the_notice(pipeline, images):
    for function in FUNCTIONS:
        command = ["docker", "run", "--rm", "--network", "none", TARGET.name(function), "cat", "NOTICE"]
        assert subprocess.run(command, capture_output=True, check=True).stdout == (ROOT / "NOTICE").read_bytes()


def test_no_container_is_root_or_may_write_into_its_image(pipeline, images):
    for function in FUNCTIONS:
        script = "import os; print(os.getuid()); open('/app/x', 'w')"
        done = subprocess.run(
            ["docker", "run", "--rm", "--network", "none", TARGET.name(function), "python", "-c", script],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == "10001"
        assert "PermissionError" in done.stderr
