"""stage-ffmpeg-1, the cutter: video + media.json + timestamps.json → one frame-exact mp4 per clip (fan-out)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from fave.errors import StageError
from functions import stage, timeline
from functions.documents import Interval, Media
from functions.stage_ffmpeg_1.config import Config
from functions.stage_ffmpeg_1.cutting import RATES_HZ, Clip, SoundFiles, cut
from functions.upright import Upright


def work(job: stage.Job) -> None:
    config = job.config(Config)
    timestamps, facts = (job.inputs_named(name)[0] for name in ("timestamps.json", "media.json"))
    video = job.fetch(next(uri for uri in job.envelope.inputs if uri not in (timestamps, facts)))
    media = job.decode(facts, Media)
    intervals = job.decode(timestamps, list[Interval])
    for clip in write_clips(video, media, intervals, job.folder, config):
        job.upload(clip, "video/mp4")
        clip.unlink()


def write_clips(video: Path, media: Media, intervals: list[Interval], folder: Path, config: Config) -> Iterator[Path]:
    """The clips' files, in the order of `intervals`.

    Raises
    ------
    StageError
        `no-audio`, `no-video` where `media` names no track, or nothing of it can be decoded.
    """
    if media.sound is None:
        raise StageError("no-audio", "the video has no sound track")
    # Two passes: sound and picture may lie far apart in the file.
    rate_hz = media.sound.rate_hz if media.sound.rate_hz in RATES_HZ else max(RATES_HZ)
    sounds = SoundFiles(intervals, folder, rate_hz, channels=min(2, media.sound.channels))
    with timeline.opened(video, media.sound.track) as opened:
        sounds.keep(opened.sound_blocks(sounds.rate_hz, sounds.channels))
    with timeline.opened(video, media.sound.track) as opened:
        pictures = opened.pictures()
        first = next(pictures, None)
        if first is None or opened.picture is None:
            raise StageError("no-video", "nothing of the picture track can be decoded")
        upright = Upright(first.frame, opened.picture.sample_aspect_ratio)

        def begin(interval: Interval) -> Clip:
            return Clip(interval, folder / f"{interval.clip}.mp4", upright, sounds, config)

        cut(chain([first], pictures), intervals, begin)
    return (folder / f"{interval.clip}.mp4" for interval in intervals)


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-1", event, context, work)


stage.warm_up()
