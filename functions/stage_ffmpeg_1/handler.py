"""stage-ffmpeg-1, the cutter: video + timestamps.json → one frame-exact mp4 per clip (fan-out)."""

from __future__ import annotations

from typing import Any

import ffmpeg

from functions import media, stage
from functions.findings import Interval
from functions.stage_ffmpeg_1.config import Config


def work(job: stage.Job) -> None:
    config = job.config(Config)
    timestamps = job.inputs_named("timestamps.json")[0]
    video = job.fetch(next(uri for uri in job.envelope.inputs if uri != timestamps))
    for interval in job.decode(timestamps, list[Interval]):
        clip = job.folder / f"{interval.clip}.mp4"
        # Seeking before the input is exact to the frame because the clip is encoded anew.
        source = ffmpeg.input(str(video), ss=interval.start_s, t=interval.end_s - interval.start_s, **media.INPUT)
        options = {**media.PLAYABLE, "preset": config.preset, "crf": config.crf, **media.OUTPUT}
        picture = source[media.PICTURE].filter("scale", **media.EVEN)
        media.run(ffmpeg.output(picture, source[media.SOUND], str(clip), **options), job.folder)
        job.write(clip.name, clip.read_bytes(), "video/mp4")
        clip.unlink()


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-1", event, context, work)


stage.warm_up()
