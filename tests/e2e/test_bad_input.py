"""Videos that are hard, wrong or hostile, through the whole pipeline: done, or refused with slug, stage and reason."""

from __future__ import annotations

import contextlib
import json
import threading
from itertools import count

import msgspec
import pytest

from platforms.specs import as_processes, to_spec
from regimes.model import resolve
from tests.support import media
from tests.support.http_server import flaky_proxy, serving
from tests.support.videosearcher import FUNCTIONS, WORK

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
_names = count()
_never = threading.Event()


def ask_about(pipeline, content, *, name="", query="cars", **config):
    video = pipeline.store.uri(f"samples/{name or f'made-{next(_names)}.bin'}")
    pipeline.store.put(video, content)
    return pipeline.ask(query, video=video, **config)


def temporary_files(pipeline):
    """What stages left in their replicas' folders."""
    tmp = pipeline.platform.state / "tmp"
    return [path for replica in tmp.iterdir() for path in replica.iterdir() if path.name.startswith("stage-")]


@pytest.mark.parametrize(
    ("make", "slug", "stage"),
    [
        (lambda _: b"this is no video at all" * 1000, "not-a-video", "stage-ffmpeg-0"),
        (lambda _: b"", "not-a-video", "stage-ffmpeg-0"),
        (lambda _: media.truncated(), "truncated", "stage-ffmpeg-0"),
        (media.without_sound, "no-audio", "stage-ffmpeg-0"),
        (media.silent, "silent", "stage-librosa"),
        (media.sound_only, "no-video", "stage-ffmpeg-0"),
        (media.four_k, "too-large", "stage-ffmpeg-0"),
        pytest.param(media.one_hour, "too-long", "stage-ffmpeg-0", marks=pytest.mark.long),
        (lambda _: media.playlist_of_local_files(), "not-a-video", "stage-ffmpeg-0"),
        (lambda _: media.concatenation_of_local_files(), "not-a-video", "stage-ffmpeg-0"),
    ],
    ids=[
        "no video", "zero bytes", "truncated", "no audio track", "silent", "audio only", "4K", "one hour",
        "playlist of local files", "concatenation of local files",
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_refused_with_slug_stage_and_reason(pipeline, tmp_path, make, slug, stage):
    before = {name: pipeline.replicas(name) for name in ("stage-ffmpeg-0", "stage-librosa")}
    asked = ask_about(pipeline, make(tmp_path))
    assert (asked.status, asked.answer["status"]) == (422, "FAILED")
    error = asked.answer["error"]
    assert (error["slug"], error["stage"]) == (slug, stage), error
    assert error["reason"]
    assert error["retryable"] is False
    assert asked.answer["metrics"]["retries"] == 0, "the same input would fail the same way"
    assert str(pipeline.platform.state) not in json.dumps(asked.final), "a path of this machine is in the record"
    assert "root:" not in json.dumps(asked.final)
    assert {name: pipeline.replicas(name) for name in before} == before, "a replica died that need not"
    assert temporary_files(pipeline) == []


@pytest.mark.parametrize(
    "make",
    [
        media.rotated,
        pytest.param(media.variable_rate, marks=pytest.mark.long),
        pytest.param(media.odd_size, marks=pytest.mark.long),
        pytest.param(media.ten_bit, marks=pytest.mark.long),
    ],
)
def test_what_is_unusual_but_sound_is_searched_like_any_video(pipeline, tmp_path, make):
    asked = ask_about(pipeline, make(tmp_path), query="find scenes with cars")
    assert (asked.status, asked.answer["status"]) == (200, "COMPLETED"), asked.answer["error"]
    assert [clip["clip"] for clip in asked.answer["ranking"]] == ["clip-001", "clip-000"]
    assert "car" in asked.answer["ranking"][0]["objects"]
    assert temporary_files(pipeline) == []


@pytest.mark.parametrize(
    "name",
    [
        "視頻 #1 & 50%.mp4",
        pytest.param("ein schönes Video.mp4", marks=pytest.mark.long),
        pytest.param("a+b=c?.mp4", marks=pytest.mark.long),
    ],
)
def test_keys_may_have_spaces_and_any_letters(pipeline, name):
    asked = ask_about(pipeline, media.SHORT.read_bytes(), name=name)
    assert asked.status == 200, asked.answer["error"]
    assert asked.answer["video_uri"].endswith(name)


@pytest.mark.long
def test_the_ranking_follows_the_content_not_the_order(pipeline, tmp_path):
    """The same scenes the other way round: the clip with cars, now the first one, is still the best."""
    backwards = media.reversed_scenes(tmp_path)
    for query, spoken in (("find scenes with cars", "amiable"), ("cold hearted and selfish", "selfish")):
        forth, back = pipeline.ask(query), ask_about(pipeline, backwards, query=query)
        assert spoken in forth.answer["ranking"][0]["text"].lower()
        assert spoken in back.answer["ranking"][0]["text"].lower()
        assert forth.answer["ranking"][0]["clip"] != back.answer["ranking"][0]["clip"]


def test_single_frames_are_found_by_what_they_show(pipeline):
    """The best frame shows a car, at a time at which the sample shows the street."""
    best = pipeline.ask("a car in the street").answer["ranking"][0]["frames"][0]
    assert "car" in best["labels"]
    assert 6.6 <= best["at_s"] <= 11.2


def test_a_video_over_the_byte_limit_is_refused_before_any_work(pipeline):
    """By the orchestrator, which only looks at the size."""
    video = pipeline.store.uri("samples/huge.bin")
    client, bucket, key = pipeline.store.client, pipeline.store.bucket, "samples/huge.bin"
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    parts = []
    for number in range(1, 10):
        part = client.upload_part(Bucket=bucket, Key=key, PartNumber=number, UploadId=upload, Body=bytes(60 * 2**20))
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    asked = pipeline.ask("cars", video=video, request_id="huge")
    assert (asked.status, asked.slug) == (413, "too-large")
    assert pipeline.store.keys("requests/huge/") == []
    client.delete_object(Bucket=bucket, Key=key)


@pytest.fixture
def with_environment(pipeline):
    """Give functions other environments for one test."""
    settings = resolve("warm", FUNCTIONS)
    changed = []

    def change(functions, **environment):
        for function in functions:
            _deploy(function, environment)
            changed.append(function)

    def _deploy(function, environment):
        spec = to_spec(WORK, function, settings[function], image=function, regime="warm")
        spec = as_processes(msgspec.structs.replace(spec, env_vars=spec.env_vars | environment), WORK)
        pipeline.gateway.deploy(spec)

    yield change
    for function in changed:
        _deploy(function, {})


@pytest.mark.long
def test_a_store_that_fails_one_call_in_five_costs_retries_and_nothing_else(pipeline, with_environment):
    with flaky_proxy(pipeline.platform.endpoints.s3_endpoint_url, fails=lambda number, _: number % 5 == 0) as url:
        with_environment(FUNCTIONS, S3_ENDPOINT_URL=url)
        for _ in range(3):
            asked = pipeline.ask("find scenes with cars")
            assert (asked.status, asked.answer["status"]) == (200, "COMPLETED"), asked.answer["error"]
            counted = [(row.stage, row.clip) for row in asked.rows if row.status == "ok"]
            assert len(counted) == len(set(counted)) == 14
    assert temporary_files(pipeline) == []


@pytest.mark.long
def test_a_slow_store_is_waited_for(pipeline, with_environment):
    with flaky_proxy(pipeline.platform.endpoints.s3_endpoint_url, fails=lambda *_: False, delay_s=0.1) as url:
        with_environment(FUNCTIONS, S3_ENDPOINT_URL=url)
        asked = pipeline.ask("find scenes with cars")
        assert asked.status == 200
        rows = [row for row in asked.rows if row.stage == "stage-object-detector"]
        assert all(row.storage_read_s >= 0.1 for row in rows), "the wait is in the storage times"


def test_a_store_that_is_gone_for_a_stage_fails_the_request_as_retryable_and_a_repeated_call_completes_it(
    pipeline, with_environment
):
    with_environment(["stage-search"], S3_ENDPOINT_URL="http://127.0.0.1:9")
    asked = pipeline.ask("cars", request_id="gone-store", orchestrator={"max_attempts": 2, "retry_budget": 1})
    assert (asked.status, asked.slug, asked.answer["error"]["stage"]) == (503, "storage", "stage-search")
    assert asked.answer["error"]["retryable"] is True
    with_environment(["stage-search"])
    again = pipeline.ask("cars", request_id="gone-store", orchestrator={"max_attempts": 2, "retry_budget": 1})
    assert (again.status, again.answer["status"]) == (200, "COMPLETED")
    assert {task: n for task, n in pipeline.executions("gone-store").items() if n != 1} == {}


def test_wrong_credentials_of_one_function_are_named(pipeline, with_environment):
    with_environment(["stage-librosa"], AWS_SECRET_ACCESS_KEY="wrong-secret")
    asked = pipeline.ask("cars")
    assert (asked.status, asked.slug, asked.answer["error"]["stage"]) == (422, "forbidden", "stage-librosa")
    assert "wrong-secret" not in json.dumps(asked.final)


@contextlib.contextmanager
def released(event):
    """Whoever waits for the event goes on when the block is left."""
    try:
        yield
    finally:
        event.set()


def completion(text):
    return 200, {"Content-Type": "application/json"}, json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def test_a_language_model_explains_where_one_is_configured(pipeline, with_environment):
    heard = []

    def answer(request):
        heard.append(request)
        return completion("Two cars wait at a light.")

    with serving(answer) as url:
        with_environment(["stage-explainer"], LLM_BASE_URL=f"{url}/v1", LLM_MODEL="small", LLM_API_KEY="k1")
        asked = pipeline.ask("cars")
    assert asked.answer["explanation"] == {
        "text": "Two cars wait at a light.",
        "source": "language-model",
        "llm_failure": "",
    }
    (request,) = heard
    assert (request.path, request.headers["authorization"]) == ("/v1/chat/completions", "Bearer k1")
    order = json.loads(request.body)
    assert order["model"] == "small"
    assert "amiable" in order["messages"][1]["content"]
    assert "k1" not in json.dumps(asked.final)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: (200, {}, b"not json"), marks=pytest.mark.long),
        pytest.param(lambda _: (200, {}, b'{"choices": []}'), marks=pytest.mark.long),
        pytest.param(lambda _: (500, {}, b"overloaded"), marks=pytest.mark.long),
        lambda _: completion("   "),
        pytest.param(lambda _: (_never.wait(60), completion("too late"))[1], marks=pytest.mark.long),
    ],
    ids=["no json", "no choice", "error", "nothing said", "too slow"],
)
def test_a_language_model_that_fails_is_reported_and_replaced_or_fails_by_policy(pipeline, with_environment, answer):
    _never.clear()
    with serving(answer) as url, released(_never):
        with_environment(["stage-explainer"], LLM_BASE_URL=url)
        asked = pipeline.ask("find scenes with cars", stage_explainer={"llm_timeout_s": 1})
        assert asked.status == 200
        assert asked.answer["explanation"]["source"] == "extract"
        assert asked.answer["explanation"]["llm_failure"]
        assert "1 of 2 clips" in asked.answer["explanation"]["text"]
        strict = pipeline.ask("cars", stage_explainer={"llm_timeout_s": 1, "on_llm_failure": "fail"})
        assert (strict.slug, strict.answer["error"]["stage"]) == ("llm", "stage-explainer")
