"""stage-search: query, transcripts, detections, embeddings → ranking.json (clips for the query, best first)."""

from __future__ import annotations

from typing import Any

from fave.errors import StageError
from functions import stage
from functions.documents import Detections, Embeddings, Interval, Ranking, Transcript
from functions.stage_search.alike import frame_like, frames_alike
from functions.stage_search.config import Config
from functions.stage_search.ranking import Clip, rank


def work(job: stage.Job) -> None:
    config = job.config(Config)
    if not config.query.strip():
        raise StageError("bad-request", "config.query is empty")
    times = {each.clip: each for each in job.decode(job.inputs_named("timestamps.json")[0], list[Interval])}
    frames = {each.clip: each.frames for each in job.decode_all("detections.json", Detections)}
    clips = [
        Clip(
            name=each.clip,
            start_s=times[each.clip].start_s,
            end_s=times[each.clip].end_s,
            text=each.text,
            uncertain=each.uncertain,
            frames=frames.get(each.clip, []),
        )
        for each in job.decode_all("transcript.json", Transcript)
        if each.clip in times
    ]
    embeddings = job.decode(job.inputs_named("embeddings.json")[0], Embeddings)
    given = frame_like(config.like, clips) if config.like else None
    ranking = Ranking(
        query=config.query,
        clips=rank(config.query, clips, embeddings, config),
        like=given,
        alike=frames_alike(given, clips, embeddings, config) if given else [],
    )
    job.write_json("ranking.json", ranking)


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-search", event, context, work)


stage.warm_up()
