"""The orchestrator with interrupted, concurrent and hostile work, on the real pipeline."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from fave.clock import utc_ns
from fave.errors import GatewayError
from fave.processes import wait_until
from fave.wire.invocation import Invocation
from tests.conftest import children_with
from tests.support.http_server import serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

TASKS = 14
KILLS = 20
SHORT_LEASE = {"lease_s": 1.0}


def assert_complete(pipeline, asked, *, invocations=None):
    """COMPLETED, every task executed at least once and counted once."""
    assert (asked.status, asked.answer["status"]) == (200, "COMPLETED"), asked.answer
    state = pipeline.state(asked.answer["request_id"])
    assert state.status == "COMPLETED"
    assert len(state.tasks) == TASKS
    assert {task.status for task in state.tasks.values()} == {"COMPLETED"}
    counted = [(row.stage, row.clip) for row in asked.rows if row.status == "ok" and row.stage != "orchestrator"]
    assert len(counted) == len(set(counted)) == TASKS
    ids = [row.invocation_id for row in asked.rows if row.stage != "orchestrator"]
    assert len(ids) == len(set(ids)), "an attempt is there twice"
    executions = pipeline.executions(asked.answer["request_id"])
    assert len(executions) == TASKS
    assert all(count >= 1 for count in executions.values())
    if invocations is not None:
        assert asked.answer["metrics"]["invocations"] == invocations
    return executions


def test_the_same_request_twice_is_done_once_and_answered_alike(pipeline):
    first = pipeline.ask("cars", request_id="twice")
    keys = {key: pipeline.store.head(pipeline.store.uri(key)).etag for key in pipeline.store.keys("requests/twice/")}
    again = pipeline.ask("cars", request_id="twice")
    assert (again.status, again.answer) == (200, first.answer)
    assert_complete(pipeline, again, invocations=TASKS + 1)
    assert {
        key: pipeline.store.head(pipeline.store.uri(key)).etag for key in pipeline.store.keys("requests/twice/")
    } == keys, "the second call changed something"


def test_twenty_callers_with_one_id_get_one_execution(pipeline):
    with ThreadPoolExecutor(20) as threads:
        calls = [threads.submit(pipeline.ask, "cars", request_id="chorus") for _ in range(20)]
        answers = [call.result() for call in calls]
    assert [asked.status for asked in answers] == [200] * 20
    assert all(asked.answer == answers[0].answer for asked in answers)
    executions = assert_complete(pipeline, answers[0], invocations=TASKS + 1)
    assert set(executions.values()) == {1}


def test_ten_callers_of_one_request_that_fails_share_one_failure(pipeline):
    """Retryable or not: who has waited for it has its answer; only a later call tries again."""
    slow = {"preset": "veryslow", "height_px": 1080, "crf": 0}
    options = {"stage_timeouts_s": {"stage-ffmpeg-2": 0.5}, "max_attempts": 1}

    def ask():
        return pipeline.ask("cars", request_id="shared-failure", orchestrator=options, stage_ffmpeg_2=slow)

    with ThreadPoolExecutor(10) as threads:
        answers = [call.result() for call in [threads.submit(ask) for _ in range(10)]]
    assert {(asked.status, asked.slug) for asked in answers} == {(503, "timeout")}
    tried = [row for row in answers[0].rows if row.stage == "stage-ffmpeg-2"]
    assert len(tried) <= 4, "it was tried again by those who waited"
    assert all(row.status == "failed" and row.cost_gb_s > 0 for row in tried), "the host's own word, with its stamps"


def test_a_request_whose_video_is_gone_is_still_answered(pipeline):
    video = pipeline.store.uri("samples/soon-gone.mp4")
    pipeline.store.put(video, pipeline.store.get(pipeline.store.uri("samples/short.mp4")))
    first = pipeline.ask("cars", video=video, request_id="video-gone")
    pipeline.store.client.delete_object(Bucket=pipeline.store.bucket, Key="samples/soon-gone.mp4")
    assert pipeline.ask("cars", video=video, request_id="video-gone").answer == first.answer


@pytest.mark.long
def test_twenty_different_requests_at_once_all_complete(pipeline):
    with ThreadPoolExecutor(20) as threads:
        calls = [threads.submit(pipeline.ask, "cars", request_id=f"crowd-{n}", timeout_s=280) for n in range(20)]
        answers = [call.result() for call in calls]
    for asked in answers:
        executions = assert_complete(pipeline, asked)
        assert set(executions.values()) == {1}
        assert [clip["clip"] for clip in asked.answer["ranking"]] == ["clip-001", "clip-000"]


def test_asynchronous_and_synchronous_leave_the_same_rows(pipeline):
    plain = pipeline.ask("cars")
    heard = []

    def receive(request):
        heard.append(request)
        return 200, {}, b""

    call = Invocation(request_id="async-1", invocation_id="i-async", sent_at_ns=utc_ns())
    with serving(receive) as url:
        body = pipeline.body("cars", request_id="async-1")
        pipeline.caller.invoke_async("orchestrator", body, call.headers(), callback_url=url)
        assert wait_until(lambda: heard, timeout_s=60)
    answer = json.loads(heard[0].body)
    assert answer["status"] == "COMPLETED"
    final = json.loads(pipeline.store.get(answer["final_uri"]))
    kinds = [
        sorted((row["stage"], row["clip"], row["attempt"], row["status"]) for row in rows["rows"])
        for rows in (plain.final, final)
    ]
    assert kinds[0] == kinds[1]
    assert final["invocation"].keys() == plain.final["invocation"].keys()
    assert final["invocation"]["cold"] is not None
    assert answer["ranking"][0]["clip"] == plain.answer["ranking"][0]["clip"]


def test_one_asynchronous_order_delivered_twice_is_done_once_and_called_back_alike(pipeline):
    """Queues deliver at least once."""
    heard = []

    def receive(request):
        heard.append(request)
        return 200, {}, b""

    body = pipeline.body("cars", request_id="redelivered")
    with serving(receive) as url:
        for _ in range(2):
            pipeline.caller.invoke_async("orchestrator", body, callback_url=url)
        assert wait_until(lambda: len(heard) == 2, timeout_s=60)
    assert json.loads(heard[0].body) == json.loads(heard[1].body)
    assert set(pipeline.executions("redelivered").values()) == {1}


def test_progress_can_be_asked_for(pipeline):
    pipeline.ask("cars", request_id="asked-for")
    reply = pipeline.platform.caller.session.get(
        f"{pipeline.platform.endpoints.gateway_url}/function/orchestrator/asked-for", timeout=30
    )
    assert reply.status_code == 200
    assert reply.json()["status"] == "COMPLETED"
    assert len(reply.json()["tasks"]) == TASKS
    absent = pipeline.platform.caller.session.get(
        f"{pipeline.platform.endpoints.gateway_url}/function/orchestrator/never-made", timeout=30
    )
    assert (absent.status_code, absent.json()["error"]["slug"]) == (404, "not-found")


def test_abort_ends_the_request_and_frees_the_work_below(pipeline):
    """Recompression at the slowest preset takes long: its ffmpeg must be gone soon after."""
    slow = {"preset": "veryslow", "height_px": 1080, "crf": 0}

    def encoders():
        replicas = pipeline.platform.replica_processes("stage-ffmpeg-2")
        return [child for replica in replicas for child in children_with(replica, "clip.mp4")]

    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(pipeline.ask, "cars", request_id="aborted", orchestrator=SHORT_LEASE, stage_ffmpeg_2=slow)
        assert wait_until(encoders, timeout_s=30)
        before = pipeline.replicas("stage-ffmpeg-2")
        asked = pipeline.order("aborted", "abort")
        assert (asked.status, asked.answer["status"]) == (200, "ABORTED")
        ended = call.result()
    assert (ended.status, ended.answer["status"], ended.slug) == (422, "ABORTED", "aborted")
    # Less than the recompression would take: it must not have come to its own end.
    assert wait_until(lambda: not encoders(), timeout_s=10)
    assert before <= pipeline.replicas("stage-ffmpeg-2"), "a replica was lost"
    assert pipeline.state("aborted").status == "ABORTED"
    assert pipeline.order("aborted", "abort").answer["status"] == "ABORTED", "aborting twice is no mistake"
    assert pipeline.ask("cars", request_id="aborted", orchestrator=SHORT_LEASE, stage_ffmpeg_2=slow).slug == "aborted"


def test_an_aborted_request_goes_on_where_it_was_when_told_to(pipeline):
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(pipeline.ask, "cars", request_id="resumed", orchestrator=SHORT_LEASE)
        assert wait_until(lambda: _has(pipeline, "resumed", "stage-ffmpeg-1"), timeout_s=30)
        pipeline.order("resumed", "abort")
        call.result()
    before = pipeline.executions("resumed")
    asked = pipeline.order("resumed", "resume")
    assert_complete(pipeline, asked)
    after = pipeline.executions("resumed")
    assert all(after[task] == 1 for task, count in before.items() if count), "finished work was repeated"


def _has(pipeline, request_id, stage):
    return any(stage in key for key in pipeline.store.keys(f"requests/{request_id}/"))


def test_one_stage_is_replayed_from_its_stored_order(pipeline):
    pipeline.ask("cars", request_id="replayed")
    final = pipeline.store.get(pipeline.store.uri("requests/replayed/metadata/final.json"))
    for name in ("stage-librosa", "stage-object-detector/clip-001", "stage-ffmpeg-2/clip-000"):
        asked = pipeline.order("replayed", f"replay/{name}")
        assert asked.status == 200, asked.answer
        assert asked.answer["same_outputs"] is True, f"{name} did not give the same bytes again"
        assert asked.answer["row"]["attempt"] == 2
    assert pipeline.store.get(pipeline.store.uri("requests/replayed/metadata/final.json")) == final
    assert pipeline.order("replayed", "replay/stage-nothing").slug == "bad-request"


def _until_noticed(try_once):
    """A race against the pipeline, run until the vandal is first: (request id, what came of it)."""
    for number in range(8):
        request_id, asked = try_once(number)
        if asked.status != 200 or asked.answer["skipped"]:
            return request_id, asked
    raise AssertionError("the pipeline was always faster than the vandal")


def _vandalised(pipeline, kind, name, **config):
    """Requests in which somebody overwrites an intermediate as soon as it is there."""

    def try_once(number):
        request_id, stop = f"{kind}-{number}", threading.Event()
        with ThreadPoolExecutor(1) as threads:
            threads.submit(_corrupt_when_there, pipeline, request_id, name, stop)
            asked = pipeline.ask("cars", request_id=request_id, **config)
            stop.set()
        return request_id, asked

    return _until_noticed(try_once)


def _corrupt_when_there(pipeline, request_id, name, stop):
    uri = pipeline.store.uri(f"requests/{request_id}/{name}")
    while not stop.is_set():
        if pipeline.store.exists(uri):
            pipeline.store.put(uri, b"RIFF garbage")
            return


def test_a_corrupted_intermediate_is_noticed_and_repaired_by_replay_and_resume(pipeline):
    """Somebody overwrites the audio between two stages."""
    request_id, asked = _vandalised(pipeline, "corrupted", "stage-ffmpeg-0/audio.wav")
    assert (asked.status, asked.slug, asked.answer["error"]["stage"]) == (422, "changed", "stage-librosa")
    assert "audio.wav" in asked.answer["error"]["reason"]
    assert asked.answer["error"]["retryable"] is False
    assert pipeline.ask("cars", request_id=request_id).answer == asked.answer, "a failure for good is not tried again"
    assert pipeline.order(request_id, "replay/stage-ffmpeg-0").answer["same_outputs"] is True
    assert_complete(pipeline, pipeline.order(request_id, "resume"))


def test_a_video_replaced_during_the_run_is_noticed(pipeline):
    content = pipeline.store.get(pipeline.store.uri("samples/short.mp4"))

    def try_once(number):
        request_id, video = f"replaced-{number}", pipeline.store.uri(f"samples/replaced-{number}.mp4")
        pipeline.store.put(video, content)
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(pipeline.ask, "cars", video=video, request_id=request_id)
            assert wait_until(lambda: _has(pipeline, request_id, "stage-ffmpeg-0/"), timeout_s=30, interval_s=0.005)
            pipeline.store.put(video, b"something else")
            return request_id, call.result()

    _, asked = _until_noticed(try_once)
    assert (asked.status, asked.slug, asked.answer["error"]["stage"]) == (422, "changed", "stage-ffmpeg-1")


def test_a_clip_that_fails_fails_the_request(pipeline):
    _, asked = _vandalised(pipeline, "clip-fail", "stage-ffmpeg-2/clip-001/clip.mp4")
    assert (asked.status, asked.slug) == (422, "changed")


def test_a_clip_that_fails_is_left_out_and_reported_by_policy(pipeline):
    skip = {"on_clip_failure": "skip"}
    _, asked = _vandalised(pipeline, "clip-skip", "stage-ffmpeg-2/clip-001/clip.mp4", orchestrator=skip)
    assert (asked.status, asked.answer["status"]) == (200, "COMPLETED")
    assert asked.answer["skipped"]["clip-001"]["slug"] == "changed"
    assert asked.answer["skipped"]["clip-001"]["stage"] == "stage-ffmpeg-3"
    assert [clip["clip"] for clip in asked.answer["ranking"]] == ["clip-000"]


def test_a_stage_time_out_is_passed_down_and_costs_no_replica(pipeline):
    slow = {"preset": "veryslow", "height_px": 1080, "crf": 0}
    before = pipeline.replicas("stage-ffmpeg-2")
    asked = pipeline.ask(
        "cars", orchestrator={"stage_timeouts_s": {"stage-ffmpeg-2": 0.5}, "max_attempts": 1}, stage_ffmpeg_2=slow
    )
    assert (asked.status, asked.slug, asked.answer["error"]["stage"]) == (503, "timeout", "stage-ffmpeg-2")
    assert asked.answer["error"]["retryable"] is True
    assert before <= pipeline.replicas("stage-ffmpeg-2")


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"stage_ffmpeg_3": {"fps": 0}}, "fps"),
        ({"stage_ffmpeg_3": {"fsp": 1}}, "fsp"),
        ({"orchestrator": {"max_attempts": 99}}, "max_attempts"),
        ({"stage_ffmpeg3": {"fps": 1}}, "stage-ffmpeg3"),
    ],
)
def test_a_wrong_setting_is_named(pipeline, config, word):
    asked = pipeline.ask("cars", **config)
    assert asked.status in (400, 422)
    assert (asked.slug, word in asked.answer["error"]["reason"]) == ("bad-request", True)


@pytest.mark.parametrize("kills", [2, pytest.param(KILLS, marks=pytest.mark.long)])
def test_after_kill_9_of_the_orchestrator_at_any_moment_a_repeated_call_finishes(pipeline, kills):
    """The kill comes at random moments of the request; nothing that was finished is done again."""
    generator = random.Random(20261123)
    killed = 0
    with ThreadPoolExecutor(1) as threads:
        for number in range(kills):
            request_id = f"killed-{number}-of-{kills}"
            call = threads.submit(_ask_quietly, pipeline, request_id)
            begun = wait_until(lambda r=request_id: _has(pipeline, r, "state.json"), timeout_s=30)
            assert begun
            threading.Event().wait(generator.uniform(0.0, 1.8))
            killed += _kill_replicas(pipeline, "orchestrator")
            call.result()
            before = pipeline.executions(request_id)
            # The gateway may not know yet that the replica is dead, and answer 500 for it: a caller calls again.
            asked = None
            while asked is None:
                asked = _ask_quietly(pipeline, request_id)
            executions = assert_complete(pipeline, asked)
            assert all(executions[task] >= count for task, count in before.items())
    assert killed >= kills


@pytest.mark.long
def test_after_kill_9_of_stage_replicas_at_any_moment_a_request_completes(pipeline):
    """Most kills are mended by the retry of that invocation, and every one by a repeated call."""
    generator = random.Random(7)
    stages = ("stage-deepspeech", "stage-ffmpeg-2", "stage-object-detector", "stage-ffmpeg-1")
    killed = at_once = 0
    with ThreadPoolExecutor(1) as threads:
        for number in range(KILLS):
            request_id = f"stagekill-{number}"
            call = threads.submit(_ask_quietly, pipeline, request_id)
            threading.Event().wait(generator.uniform(0.2, 1.5))
            killed += _kill_replicas(pipeline, stages[number % len(stages)])
            asked = call.result()
            at_once += asked is not None and asked.status == 200
            while asked is None or asked.status != 200:
                asked = pipeline.ask("cars", request_id=request_id, orchestrator=SHORT_LEASE)
            assert_complete(pipeline, asked)
    assert killed >= KILLS
    assert at_once >= KILLS * 0.8


def _ask_quietly(pipeline, request_id):
    try:
        return pipeline.ask("cars", request_id=request_id, orchestrator=SHORT_LEASE)
    except (GatewayError, ValueError):
        return None  # its orchestrator was killed


def _kill_replicas(pipeline, function):
    processes = pipeline.platform.replica_processes(function)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return len(processes)
