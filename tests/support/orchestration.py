"""What the orchestrator's parts talk to in unit tests: conditional writes in memory, a gateway that answers in turn."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from fave import yaml_file
from fave.calling import Cancellation
from fave.errors import StorageError
from fave.settings import decode
from fave.wire.envelope import Envelope, Failure, Reply
from fave.wire.records import StageRow
from orchestrator.invoker import Answered, Invoker
from orchestrator.options import Config as Options
from orchestrator.runner import run
from orchestrator.state import State, StateFile
from workloads.graph import Graph
from workloads.workflow import Task

VIDEO = "s3://b/video.mp4"


GRAPH = decode(yaml_file.read(Path(__file__).parents[1] / "data" / "graph.yml").data["graph"], Graph, "graph")


def outputs_of(task: Task) -> tuple[str, ...]:
    folder = f"s3://b/requests/r/{task.name}/"
    names = {
        "stage-ffmpeg-0": ["audio.wav", "media.json"],
        "stage-librosa": ["timestamps.json"],
        "stage-ffmpeg-1": ["clip-000.mp4", "clip-001.mp4"],
        "stage-ffmpeg-2": ["speech.wav", "clip.mp4"],
        "stage-deepspeech": ["transcript.json"],
        "stage-ffmpeg-3": ["frame-0001.jpg", "frame-0002.jpg"],
        "stage-object-detector": ["detections.json"],
        "stage-embedder": ["embeddings.json"],
        "stage-search": ["ranking.json"],
        "stage-explainer": ["explanation.json"],
    }
    return tuple(folder + name for name in names[task.stage])


class MemoryStore:
    """Conditional writes as S3 has them, in memory."""

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.version = 0

    def uri(self, key):
        return f"s3://b/{key}"

    def get_versioned(self, uri):
        return self.objects[uri], str(self.version)

    def put(self, uri, data, *, content_type="", if_match="", create=False):
        if (create and uri in self.objects) or (if_match and if_match != str(self.version)):
            raise StorageError(uri, slug="conflict")
        self.objects[uri] = data
        self.version += 1
        return str(self.version)


def new_file(store):
    own = StageRow(request_id="r", invocation_id="i", stage="orchestrator")
    return StateFile(store, State(request_id="r", video_uri=VIDEO, query="q", profile="", invocation=own))


def prepare(task: Task, etags: dict[str, str]) -> Envelope:
    return Envelope(request_id="r", stage=task.stage, clip=task.clip, output_uri="s3://b/", input_uris=task.inputs)


def succeed(task: Task, envelope: Envelope, *, attempt: int = 1, **_: object) -> Answered:
    row = StageRow(request_id="r", invocation_id=f"{task.name}.{attempt}", stage=task.stage, clip=task.clip)
    etags = {uri: f"etag of {uri}" for uri in outputs_of(task)}
    return Answered(task, attempt, outputs_of(task), etags, (row,), None)


def failing(outcome: Answered, slug: str, *, retryable: bool = False) -> Answered:
    error = Failure(slug=slug, stage=outcome.task.stage, reason="because", retryable=retryable)
    return outcome._replace(error=error, outputs=(), etags={})


def drive(file, invoke, *, within_s=60.0, cancellation=None, attempts=None, **options):
    run(
        GRAPH,
        file,
        prepare,
        invoke,
        options=Options(**options),
        deadline_s=time.monotonic() + within_s,
        cancellation=cancellation or Cancellation(),
        attempts=attempts,
    )


def a_failure(slug, *, retryable=True):
    return Failure(slug=slug, stage="stage-x", reason="because", retryable=retryable)


class Gateway:
    """Answers in turn with what it was given: a reply's status and body, or an error."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    def invoke(self, name, body, headers, *, timeout_s, cancellation):
        self.calls.append((name, headers, timeout_s))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, content, extra = answer
        return type("Response", (), {"status_code": status, "content": content, "text": "", "headers": extra})()


class Store(MemoryStore):
    def get(self, uri, **_):
        if uri not in self.objects:
            raise StorageError(uri, slug="not-found")
        return self.objects[uri]


def ok_reply():
    reply = Reply(request_id="r", stage="stage-search", outputs=("s3://b/o",), etags={"s3://b/o": "e"})
    return (200, msgspec.json.encode(reply), {})


def invoker(gateway, store=None, **options):
    return Invoker(
        gateway, store or Store(), request_id="r", owner="o", parent_id="p", options=Options(**options), config={}
    )


def invoke(one, *, attempt=1, within_s=60.0):
    task = Task(stage="stage-search")
    return one.invoke(task, one.envelope(task, {}), attempt=attempt, deadline_s=time.monotonic() + within_s)
