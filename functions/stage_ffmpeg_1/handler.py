"""stage-ffmpeg-1, the cutter: video + timestamps.json → one frame-exact mp4 per clip (fan-out)."""

from __future__ import annotations

from typing import Annotated, Any

import ffmpeg
import msgspec

from fave.errors import StageError
from functions import media, stage


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    crf: int = 23
    preset: str = "ultrafast"


class Interval(msgspec.Struct, frozen=True):
    clip: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]  # becomes a file's name
    start_s: float
    end_s: float


def work(job: stage.Job) -> None:
    config = job.config(Config)
    timestamps = job.inputs_named("timestamps.json")[0]
    try:
        intervals = msgspec.json.decode(job.read(timestamps), type=list[Interval])
    except msgspec.MsgspecError as error:
        raise StageError("bad-request", f"{timestamps}: {error}") from error
    video = job.read_to_file(next(uri for uri in job.envelope.inputs if uri != timestamps))
    for interval in intervals:
        clip = job.folder / f"{interval.clip}.mp4"
        # Seeking before the input is exact to the frame because the clip is encoded anew.
        source = ffmpeg.input(str(video), ss=interval.start_s, t=interval.end_s - interval.start_s, **media.INPUT)
        options = {"vcodec": "libx264", "preset": config.preset, "crf": config.crf, "acodec": "aac"}
        media.run(ffmpeg.output(source.video, source.audio, str(clip), **options, **media.OUTPUT))
        job.write(clip.name, clip.read_bytes(), "video/mp4")


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-1", event, context, work)


stage.warm_up()
