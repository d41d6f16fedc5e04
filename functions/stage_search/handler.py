"""stage-search: query, transcripts and detections → ranking.json (clips for the query, best first)."""

from __future__ import annotations

from typing import Any

import msgspec

from fave.errors import StageError
from functions import stage
from functions.stage_search.ranking import Clip, rank


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    query: str
    label_weight: float = 1.0
    transcript_weight: float = 1.0


class Transcript(msgspec.Struct, frozen=True):
    clip: str
    text: str


class Object(msgspec.Struct, frozen=True):
    label: str
    score: float


class Frame(msgspec.Struct, frozen=True):
    objects: list[Object]


class Detections(msgspec.Struct, frozen=True):
    clip: str
    frames: list[Frame]


def work(job: stage.Job) -> None:
    config = job.config(Config)
    if not config.query.strip():
        raise StageError("bad-request", "config.query is empty")
    texts = {t.clip: t.text for t in _read(job, "transcript.json", Transcript)}
    seen = {d.clip: _best_scores(d) for d in _read(job, "detections.json", Detections)}
    clips = [Clip(name=name, text=texts.get(name, ""), labels=seen.get(name, {})) for name in sorted(texts | seen)]
    ranking = rank(config.query, clips, label_weight=config.label_weight, transcript_weight=config.transcript_weight)
    job.write_json("ranking.json", {"query": config.query, "clips": ranking})


def _read(job: stage.Job, name: str, cls: type[Any]) -> list[Any]:
    return [msgspec.json.decode(job.read(uri), type=cls) for uri in job.envelope.inputs if uri.endswith(name)]


def _best_scores(detections: Detections) -> dict[str, float]:
    best: dict[str, float] = {}
    for frame in detections.frames:
        for item in frame.objects:
            best[item.label] = max(best.get(item.label, 0.0), item.score)
    return best


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-search", event, context, work)


stage.warm_up()
