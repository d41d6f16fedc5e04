"""stage-ffmpeg-3, the frame sampler, per clip: clip → frames as JPEG (fan-out), named after their time."""

from __future__ import annotations

from typing import Any

import ffmpeg

from fave.errors import StageError
from functions import media, stage
from functions.frames import PATTERN
from functions.stage_ffmpeg_3.config import Config


def work(job: stage.Job) -> None:
    config = job.config(Config)
    source = ffmpeg.input(str(job.fetch(job.envelope.inputs[0])), **media.INPUT)
    # The first picture of every 1/fps seconds, with its own time. The fps filter would drop a short clip's only one.
    wanted = f"isnan(prev_selected_t)+gt(floor(t*{config.fps}),floor(prev_selected_t*{config.fps}))"
    frames = source[media.PICTURE].filter("select", wanted).filter("settb", "1/1000")
    options = {"fps_mode": "passthrough", "enc_time_base": "1:1000", "frame_pts": 1, "q:v": 3, **media.OUTPUT}
    media.run(ffmpeg.output(frames, str(job.folder / PATTERN), vframes=config.max_frames, **options), job.folder)
    written = sorted(job.folder.glob("frame-*.jpg"))
    if not written:
        raise StageError("no-video", "the clip has no picture")
    for path in written:
        job.write(path.name, path.read_bytes(), "image/jpeg")


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-3", event, context, work)


stage.warm_up()
