"""stage-ffmpeg-3, the frame sampler, per clip: clip → frames as JPEG (fan-out), named after their time."""

from __future__ import annotations

from typing import Any

import ffmpeg

from fave.errors import StageError
from functions import media, stage
from functions.frames import frame_name
from functions.stage_ffmpeg_3.config import Config


def work(job: stage.Job) -> None:
    config = job.config(Config)
    source = ffmpeg.input(str(job.fetch(job.envelope.inputs[0])), **media.INPUT)
    # round=up: the first frame comes at time 0, and a clip shorter than 1/fps still gives one.
    frames = source.video.filter("fps", config.fps, round="up")
    pattern = str(job.folder / "frame-%04d.jpg")
    media.run(ffmpeg.output(frames, pattern, vframes=config.max_frames, **{"q:v": 3}, **media.OUTPUT), job.folder)
    written = sorted(job.folder.glob("frame-*.jpg"))
    if not written:
        raise StageError("no-video", "the clip has no picture")
    for index, path in enumerate(written):
        job.write(frame_name(index / config.fps), path.read_bytes(), "image/jpeg")


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-3", event, context, work)


stage.warm_up()
