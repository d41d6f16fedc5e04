"""stage-ffmpeg-3, the frame sampler, per clip: clip → frames as JPEG (fan-out), named after their time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ffmpeg

from fave.errors import StageError
from functions import media, stage
from functions.frames import PATTERN
from functions.stage_ffmpeg_3.config import Config


def work(job: stage.Job) -> None:
    for frame in sample(job.fetch(job.envelope.inputs[0]), job.folder, job.config(Config)):
        job.upload(frame, "image/jpeg")


def sample(clip: Path, folder: Path, config: Config) -> list[Path]:
    """The picture that is shown at 0, 1/fps, 2/fps, … s, however far apart the clip's own pictures are.

    Raises
    ------
    StageError
        `no-video`, and as `media.run`.
    """
    shown = media.input_of(clip)[media.PICTURE].filter("fps", fps=config.fps, start_time=0, round="up")
    options = {"fps_mode": "passthrough", "enc_time_base": "1:1000", "frame_pts": 1, "q:v": 3, **media.OUTPUT}
    frames = ffmpeg.output(shown.filter("settb", "1/1000"), str(folder / PATTERN), vframes=config.max_frames, **options)
    media.run(frames, clip)
    written = sorted(folder.glob("frame-*.jpg"))
    if not written:
        raise StageError("no-video", "the clip has no picture")
    return written


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-3", event, context, work)


stage.warm_up()
