"""stage-ffmpeg-0, the audio extractor: video → audio.wav (mono, from the timeline's start) and media.json.

It also keeps out what the pipeline cannot do.
"""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

from fave.errors import StageError
from functions import stage, timeline
from functions.documents import Media
from functions.stage_ffmpeg_0.config import Config


def check(media: Media, config: Config) -> None:
    """Raises StageError `no-video`, `no-audio`, `too-long` or `too-large`."""
    if media.picture is None:
        raise StageError("no-video", f"the file ({media.container}) has no moving picture")
    if media.sound is None:
        raise StageError("no-audio", "the video has no sound track")
    if media.duration_s > config.max_duration_s:
        raise StageError("too-long", f"goes on at {media.duration_s:.0f} s, the limit is {config.max_duration_s:g} s")
    if media.picture.width_px * media.picture.height_px > config.max_pixels:
        size = f"{media.picture.width_px}x{media.picture.height_px}"
        raise StageError("too-large", f"{size} pixels, the limit is {config.max_pixels} pixels")


def extract(video: timeline.Video, wav: Path, config: Config) -> None:
    """Write all sound of `video` as 16-bit mono.

    Raises
    ------
    StageError
        As `check`; `truncated`; `no-audio` and `no-video` for a track in which nothing is.
    """
    check(video.facts(), config)
    heard = False
    with wave.open(str(wav), "wb") as file:
        file.setparams((1, 2, config.sample_rate_hz, 0, "NONE", ""))
        for samples in video.sound_blocks(config.sample_rate_hz, channels=1):
            file.writeframesraw(samples.tobytes())
            heard = True
            if max(file.tell() / config.sample_rate_hz, video.end_s) > config.max_duration_s:
                break
    check(video.facts(), config)
    if video.cut_short:
        raise StageError("truncated", f"the file ends in the middle, after {video.end_s:.1f} s")
    if not heard:
        raise StageError("no-audio", "nothing of the sound track can be decoded")
    if video.picture is None or video.picture.index not in video.ends_s:
        raise StageError("no-video", "the picture track is empty")


def work(job: stage.Job) -> None:
    config = job.config(Config)
    wav = job.folder / "audio.wav"
    with timeline.opened(job.fetch(job.envelope.inputs[0]), config.sound_track) as video:
        extract(video, wav, config)
        media = video.facts()
    job.upload(wav, "audio/wav")
    job.write_json("media.json", media)


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-0", event, context, work)


stage.warm_up()
