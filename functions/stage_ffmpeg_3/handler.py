"""stage-ffmpeg-3, the frame sampler, per clip: clip → frames as JPEG (fan-out)."""

from __future__ import annotations

from typing import Any

import ffmpeg
import msgspec

from functions import media, stage


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """fps: frames a second; the original takes 12 a minute. A clip shorter than 1/fps still gives one frame."""

    fps: float = 0.2
    max_frames: int = 120


def work(job: stage.Job) -> None:
    config = job.config(Config)
    source = ffmpeg.input(str(job.read_to_file(job.envelope.inputs[0])), **media.INPUT)
    # round=up: the first frame comes at time 0 and a short clip is not rounded away.
    frames = source.video.filter("fps", config.fps, round="up")
    pattern = str(job.folder / "frame-%04d.jpg")
    media.run(ffmpeg.output(frames, pattern, vframes=config.max_frames, **{"q:v": 3}, **media.OUTPUT))
    for path in sorted(job.folder.glob("frame-*.jpg")):
        job.write(path.name, path.read_bytes(), "image/jpeg")


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-3", event, context, work)


stage.warm_up()
