"""The functions of the VideoSearcher pipeline, and how they hang together. A new stage is a folder and a line here.

video ─ ffmpeg-0 ─ librosa ─ ffmpeg-1 ─ per clip: ffmpeg-2 ─┬─ deepspeech ──────────────┬─ embedder ─ search ─ explainer
                                                            └─ ffmpeg-3 ─ object-detector ┘
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

VIDEO = "video"


class Source(NamedTuple):
    """Outputs of `stage` whose name ends in `suffix`. `per_clip`: only those of the task's own clip."""

    stage: str
    suffix: str = ""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A stage in the graph. A per-clip node runs once per clip that the fan-out stage wrote.

    asks: its configuration gets the request's query.
    """

    stage: str
    sources: tuple[Source, ...]
    per_clip: bool = False
    asks: bool = False


ORCHESTRATOR = "orchestrator"
FAN_OUT = Source("stage-ffmpeg-1", ".mp4")
TRANSCRIPT = Source("stage-deepspeech", "transcript.json")
DETECTIONS = Source("stage-object-detector", "detections.json")
MEDIA = Source("stage-ffmpeg-0", "media.json")
TIMESTAMPS = Source("stage-librosa", "timestamps.json")
RANKING = Source("stage-search", "ranking.json")
EXPLANATION = Source("stage-explainer", "explanation.json")

GRAPH = (
    Node(stage="stage-ffmpeg-0", sources=(Source(VIDEO),)),
    Node(stage="stage-librosa", sources=(Source("stage-ffmpeg-0", ".wav"),)),
    Node(stage="stage-ffmpeg-1", sources=(Source(VIDEO), MEDIA, TIMESTAMPS)),
    Node(stage="stage-ffmpeg-2", sources=(FAN_OUT,), per_clip=True),
    Node(stage="stage-deepspeech", sources=(Source("stage-ffmpeg-2", "speech.wav"),), per_clip=True),
    Node(stage="stage-ffmpeg-3", sources=(Source("stage-ffmpeg-2", "clip.mp4"),), per_clip=True),
    Node(stage="stage-object-detector", sources=(Source("stage-ffmpeg-3", ".jpg"),), per_clip=True),
    Node(stage="stage-embedder", sources=(TRANSCRIPT, DETECTIONS), asks=True),
    Node(
        stage="stage-search",
        sources=(TIMESTAMPS, TRANSCRIPT, DETECTIONS, Source("stage-embedder", "embeddings.json")),
        asks=True,
    ),
    Node(stage="stage-explainer", sources=(RANKING,)),
)
STAGES = tuple(node.stage for node in GRAPH)
# The target that stands for all of them.
PIPELINE = "pipeline"
# What functions read from their environment, beside addresses and credentials; the embedded platform passes it on.
FUNCTION_SETTINGS = {
    "AWS_REGION": "region of the object store (us-east-1)",
    "CONFIG_PROFILE": "name of the regime for the record, where a request names none",
    "FAVE_ALLOWED_BUCKETS": "further buckets that inputs may come from, comma-separated",
    "FAVE_DETECTOR_MODEL": "another file for the object detector",
    "FAVE_EMBEDDER_MODEL": "another file for the text embedder",
    "FAVE_EMBEDDER_TOKENIZER": "its tokenizer",
    "FAVE_FFMPEG": "another ffmpeg",
    "FAVE_LAZY": "1: models are loaded by the first invocation, not before the replica is ready",
    "FAVE_MAX_INPUT_BYTES": "a larger input is refused (536870912)",
    "FAVE_SHIP_LOGS": "how often logs go to the object store under logs/, e.g. 10s; empty: never",
    "FAVE_WHISPER_MODEL": "another folder for the speech model",
    "LLM_BASE_URL": "an OpenAI-compatible endpoint for stage-explainer; empty: extract without a model",
    "LLM_MODEL": "which model to ask for",
    "MAX_CONCURRENT_INVOCATIONS": "of one request (8)",
}
# Videos that `python -m assets --upload` puts into the store, as samples/NAME.mp4.
SAMPLES = ("short", "long")
# Keys of real inputs that `python -m assets --upload` puts into the store. Other stages need another stage's output.
SAMPLE_INPUTS = {"stage-ffmpeg-0": ("samples/short.mp4",), "stage-object-detector": ("samples/frames/0005.jpg",)}


def functions_of(target: str) -> tuple[str, ...]:
    """What must be deployed for a target: everything for `pipeline`, else the one stage."""
    return (ORCHESTRATOR, *STAGES) if target == PIPELINE else (target,)
