"""One request as a person makes it, and the smoke test: the doors behind `make invoke` and `make smoke`."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from fave.processes import OwnedProcess, wait_until
from fave.settings import ROOT
from tests.support import media

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def door(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        cwd=ROOT,
        env={**environment, "BROWSER": "/bin/true"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_file_of_this_machine_is_uploaded_searched_and_shown(pipeline, child_environment, tmp_path):
    video = tmp_path / "mein Urlaub.mp4"
    shutil.copy(media.SHORT, video)
    done = door(child_environment, "invoke", str(video), "find scenes with cars", "--open", "--like", "0:08.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "uploading mein Urlaub.mp4" in done.stdout
    for stage in ("stage-ffmpeg-0", "stage-deepspeech", "stage-explainer"):
        assert stage in done.stdout, "progress does not name every stage"
    first, second = re.findall(r"^(\d)\. (clip-\d+)", done.stdout, re.MULTILINE)
    assert (first[1], second[1]) == ("clip-001", "clip-000")
    assert "car 0." in done.stdout
    assert "amiable" in done.stdout
    assert "1 of 2 clips answer" in done.stdout
    assert "pictures like the one of clip-001 at 0:08.1" in done.stdout
    page = re.search(r"^page: (.*)$", done.stdout, re.MULTILINE)[1]
    html = Path(page).read_text(encoding="utf-8")
    secrets = (pipeline.platform.endpoints.secret_key, pipeline.platform.endpoints.gateway_password)
    assert not any(secret in html for secret in secrets)
    links = [link.replace("&amp;", "&") for link in re.findall(r'(?:src|poster)="([^"]+)"', html)]
    assert html.count("<img") >= 6, "distinct pictures of both clips, the given one and those like it"
    assert len(links) == 4 + html.count("<img")
    kinds = {requests.get(link, timeout=30).content[:3] for link in links}
    assert b"\xff\xd8\xff" in kinds, "no picture"
    assert all(requests.get(link, timeout=30).status_code == 200 for link in links)


def test_asynchronously_the_result_is_the_same(pipeline, child_environment):
    done = door(child_environment, "invoke", pipeline.store.uri("samples/short.mp4"), "cars", "--async")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "queued as call" in done.stdout
    assert "1. clip-001" in done.stdout


def test_an_earlier_request_is_gone_on_with_by_its_id(pipeline, child_environment):
    """A retryable failure says how; what was done is not done again."""
    video, hasty = (
        pipeline.store.uri("samples/short.mp4"),
        '{"orchestrator": {"stage_timeout_s": 0.2, "max_attempts": 1}}',
    )
    first = door(child_environment, "invoke", video, "cars", "--request-id", "by-id", "--config", hasty)
    assert first.returncode == 6, first.stdout + first.stderr
    assert "[timeout]" in first.stderr
    assert "--request-id by-id" in first.stderr
    before = pipeline.executions("by-id")
    again = door(child_environment, "invoke", video, "cars", "--request-id", "by-id", "--config", hasty)
    assert again.returncode == 6
    assert "[timeout]" in again.stderr
    after = pipeline.executions("by-id")
    assert all(after[task] == count for task, count in before.items() if count), "finished work was repeated"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["invoke", "/nowhere/x.mp4", "cars"], 2, "there is no such file"),
        (["invoke", "short", "  "], 2, "QUERY is empty"),
        (["invoke", "short", "cars", "--config", "{"], 2, "not JSON"),
        (["invoke", "short", "cars", "--config", '{"stage-ffmpeg-3": {"fps": 0}}'], 6, "stage-ffmpeg-3"),
        (["invoke", "s3://fave-artifacts/samples/absent.mp4", "cars"], 6, "[not-found]"),
        (["invoke", "s3://other/x.mp4", "cars"], 6, "[forbidden]"),
    ],
)
def test_a_mistake_is_one_clear_message_and_an_exit_code(pipeline, child_environment, arguments, code, words):
    done = door(child_environment, *arguments)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_aborts_the_request_and_says_so(pipeline, child_environment, tmp_path):
    slow = '{"stage-ffmpeg-2": {"preset": "veryslow", "height_px": 1080, "crf": 0}}'
    command = [sys.executable, "-m", "search", "invoke", "short", "cars", "--config", slow]
    with OwnedProcess("invoke", command, log=tmp_path / "log", env=child_environment, cwd=ROOT) as process:
        assert wait_until(lambda: "stage-ffmpeg-1" in process.log_tail(), timeout_s=60), process.log_tail()
        os.kill(process.pid, signal.SIGINT)
        assert wait_until(lambda: not process.running(), timeout_s=30)
        assert process.process.returncode == 130
        said = process.log_tail()
    assert "aborting the request" in said
    assert "Traceback" not in said
    request_id = re.search(r"request (invoke-\S+)", said)[1]
    assert wait_until(lambda: pipeline.state(request_id).status == "ABORTED", timeout_s=30)


def test_the_smoke_test_names_every_function_and_what_it_moved(pipeline, child_environment):
    done = door(child_environment, "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 11 functions answer and reach the object store" in done.stdout
    assert "NO" not in done.stdout


def test_no_log_and_no_object_holds_a_secret(pipeline):
    """After everything that the tests before this one did."""
    secrets = {pipeline.platform.endpoints.secret_key, pipeline.platform.endpoints.gateway_password}
    for function in ("orchestrator", "stage-librosa"):
        secrets |= {p.environ()["AWS_SECRET_ACCESS_KEY"] for p in pipeline.platform.replica_processes(function)}
    assert len(secrets) == 4
    for path in (pipeline.platform.state / "logs").rglob("*.log"):
        text = path.read_text(errors="replace")
        assert not any(secret in text for secret in secrets), path
    for key in pipeline.store.keys("requests/"):
        if key.endswith(".json"):
            text = pipeline.store.get(pipeline.store.uri(key)).decode()
            assert not any(secret in text for secret in secrets), key
