"""The VideoSearcher pipeline on the short sample: real video, real models, real store."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import count

import msgspec
import pytest

from fave.clock import utc_ns
from fave.invocation import Invocation
from fave.records import StageRow
from fave.settings import ROOT
from fave.workload import PIPELINE, functions_of
from regimes import openfaas
from regimes.model import resolve

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SPOKEN = (
    "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "he might even have been made amiable himself",
)
_ids = count()


@pytest.fixture(scope="module")
def pipeline(platform, child_environment):
    """The whole pipeline in the warm regime, with the samples in the store."""
    command = [sys.executable, "-m", "assets", "--upload"]
    subprocess.run(command, cwd=ROOT, env=child_environment, check=True, capture_output=True, timeout=600)
    settings = resolve("warm", functions_of(PIPELINE))
    openfaas.apply(platform.gateway, platform.prometheus, "warm", settings)
    yield platform
    for function in settings:
        platform.gateway.delete(function)


@pytest.fixture(scope="module")
def cars(pipeline):
    return search(pipeline, "find scenes with cars")


def search(platform, query, *, video=None, request_id=None):
    """(HTTP status, reply, final.json or None)"""
    request_id = request_id or f"e2e-{next(_ids)}"
    video = video or platform.store.uri("samples/short.mp4")
    body = {"video_uri": video, "query": query, "config": {"stage-ffmpeg-3": {"fps": 1}}}
    call = Invocation(request_id=request_id, invocation_id=f"i-{request_id}", sent_at_ns=utc_ns())
    reply = platform.gateway.invoke("orchestrator", json.dumps(body).encode(), call.headers(), timeout_s=120)
    answer = reply.json()
    final = json.loads(platform.store.get(answer["final_uri"])) if "final_uri" in answer else None
    return reply.status_code, answer, final


def words(text):
    return re.findall(r"[a-z]+", text.lower())


def word_errors(reference, heard):
    """Edit distance in words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        row, last = [i], row
        for j, other in enumerate(heard, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (word != other)))
    return row[-1]


def test_the_clip_with_cars_is_first_for_cars(cars):
    status, answer, _ = cars
    assert (status, answer["status"]) == (200, "COMPLETED")
    assert [clip["clip"] for clip in answer["ranking"]] == ["clip-001", "clip-000"]
    assert "car" in answer["ranking"][0]["labels"]
    assert answer["ranking"][1]["labels"] == {}


def test_the_clip_in_which_it_is_said_is_first_for_what_is_said(pipeline):
    _, answer, _ = search(pipeline, "who is cold hearted and selfish")
    assert answer["ranking"][0]["clip"] == "clip-000"


def test_most_words_of_the_human_speech_are_understood(cars):
    _, answer, _ = cars
    heard = {clip["clip"]: words(clip["text"]) for clip in answer["ranking"]}
    errors = sum(word_errors(words(text), heard[f"clip-{i:03d}"]) for i, text in enumerate(SPOKEN))
    assert errors / sum(len(words(text)) for text in SPOKEN) < 0.20


def test_every_invocation_has_a_complete_row_and_the_parts_add_up(cars):
    _, answer, final = cars
    rows = [msgspec.convert(row, StageRow) for row in final["rows"]]
    assert len(rows) == 12
    for row in rows:
        assert row.status == "ok"
        assert (row.cold, row.cold_wait_s) == (False, 0.0)
        assert row.evidence == "stamps"
        assert row.memory_limit_mb > 0
        assert 0 < row.peak_rss_mb < row.memory_limit_mb
        assert row.cost_gb_s == pytest.approx(row.service_s * row.memory_limit_mb / 1024)
        assert row.input_bytes > 0
        assert row.output_bytes > 0
        stamps = (row.sent_at_ns, row.received_at_ns, row.started_at_ns, row.finished_at_ns, row.returned_at_ns)
        assert list(stamps) == sorted(stamps)
        parts = row.cold_wait_s + row.queue_s + row.service_s + (row.returned_at_ns - row.finished_at_ns) / 1e9
        assert parts == pytest.approx((row.returned_at_ns - row.sent_at_ns) / 1e9, abs=1e-6)
        assert row.compute_s + row.storage_read_s + row.storage_write_s == pytest.approx(
            row.service_s, rel=0.2, abs=0.02
        )
    assert answer["metrics"]["invocations"] == 13
    assert answer["metrics"]["cost_gb_s"] == pytest.approx(
        sum(row.cost_gb_s for row in rows) + final["invocation"]["cost_gb_s"], abs=1e-5
    )


def test_each_stage_left_its_row_beside_its_output(cars, pipeline):
    _, answer, _ = cars
    keys = pipeline.store.keys(f"requests/{answer['request_id']}/")
    assert sum(key.endswith("/metadata.1.json") for key in keys) == 12
    state = json.loads(pipeline.store.get(pipeline.store.uri(f"requests/{answer['request_id']}/metadata/state.json")))
    assert state["status"] == "COMPLETED"
    assert {task["status"] for task in state["tasks"].values()} == {"COMPLETED"}


@pytest.mark.parametrize(
    ("content", "slug"), [(b"this is no video at all" * 100, "not-a-video"), (b"", "not-a-video"), (None, "not-found")]
)
def test_a_bad_video_fails_the_request_with_stage_and_reason_and_no_replica(pipeline, content, slug):
    video = pipeline.store.uri(f"samples/bad-{next(_ids)}.mp4")
    if content is not None:
        pipeline.store.put(video, content)
    before = {process.pid for process in pipeline.replica_processes("stage-ffmpeg-0")}
    status, answer, final = search(pipeline, "cars", video=video)
    assert (status, answer["status"]) == (422, "FAILED")
    assert (answer["error"]["slug"], answer["error"]["stage"]) == (slug, "stage-ffmpeg-0")
    assert final["rows"][0]["status"] == "failed"
    state = json.loads(pipeline.store.get(pipeline.store.uri(f"requests/{answer['request_id']}/metadata/state.json")))
    assert (state["status"], state["error"]["slug"]) == ("FAILED", slug)
    assert {process.pid for process in pipeline.replica_processes("stage-ffmpeg-0")} == before


@pytest.mark.parametrize(
    ("video", "slug"),
    [("/etc/passwd", "forbidden"), ("http://127.0.0.1/x.mp4", "forbidden"), ("s3://elsewhere/x.mp4", "forbidden")],
)
def test_only_videos_of_the_own_bucket_are_touched(pipeline, video, slug):
    status, answer, _ = search(pipeline, "cars", video=video)
    assert (status, answer["error"]["slug"]) == (403, slug)


@pytest.mark.parametrize(
    "output", ["s3://fave-artifacts/requests/other/", "s3://other/requests/x1/", "s3://fave-artifacts/x"]
)
def test_a_stage_writes_nowhere_but_under_its_request(pipeline, output):
    envelope = {"request_id": "x1", "stage": "stage-ffmpeg-0", "output_uri": output}
    reply = pipeline.gateway.invoke("stage-ffmpeg-0", json.dumps(envelope).encode())
    assert (reply.status_code, reply.json()["error"]["slug"]) == (403, "forbidden")


def test_a_clip_name_cannot_become_a_path(pipeline):
    timestamps = pipeline.store.uri("requests/x2/in/timestamps.json")
    pipeline.store.put(timestamps, json.dumps([{"clip": "../../evil", "start_s": 0, "end_s": 1}]).encode())
    envelope = {
        "request_id": "x2",
        "stage": "stage-ffmpeg-1",
        "input_uris": [pipeline.store.uri("samples/short.mp4"), timestamps],
        "output_uri": pipeline.store.uri("requests/x2/out/"),
    }
    reply = pipeline.gateway.invoke("stage-ffmpeg-1", json.dumps(envelope).encode())
    assert (reply.status_code, reply.json()["error"]["slug"]) == (400, "bad-request")


def test_a_request_id_is_used_once(pipeline, cars):
    _, answer, _ = cars
    status, again, _ = search(pipeline, "cars", request_id=answer["request_id"])
    assert (status, again["error"]["slug"]) == (409, "conflict")


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"video_uri": "s3://fave-artifacts/x"}', b'{"schema": 7}', b"x" * 100_001]
)
def test_a_malformed_request_is_refused_without_a_trace(pipeline, body):
    reply = pipeline.gateway.invoke("orchestrator", body)
    assert reply.status_code in (400, 413)
    assert reply.json()["error"]["slug"] in ("bad-request", "payload-too-large")
