"""stage-ffmpeg-0, the audio extractor: video → audio.wav (mono). It also keeps out what the pipeline cannot do."""

from __future__ import annotations

from typing import Any

import ffmpeg

from fave.errors import StageError
from functions import media, stage
from functions.stage_ffmpeg_0.config import Config

# An mp4 that was cut short decodes without an error, up to where it ends.
_WHOLE = 0.9
_WAV_HEADER_BYTES = 44


def check(probe: media.Probe, config: Config) -> None:
    """Raises StageError `no-video`, `no-audio`, `too-long` or `too-large`."""
    if not probe.width_px:
        raise StageError("no-video", "the file has sound but no picture")
    if not probe.has_audio:
        raise StageError("no-audio", "the video has no audio track")
    if probe.duration_s > config.max_duration_s:
        raise StageError("too-long", f"{probe.duration_s:g} s of video, the limit is {config.max_duration_s:g} s")
    if probe.width_px * probe.height_px > config.max_pixels:
        size = f"{probe.width_px}x{probe.height_px}"
        raise StageError("too-large", f"{size} pixels, the limit is {config.max_pixels} pixels")


def work(job: stage.Job) -> None:
    config = job.config(Config)
    video = job.fetch(job.envelope.inputs[0])
    probe = media.probe(video)
    check(probe, config)
    audio = job.folder / "audio.wav"
    source = ffmpeg.input(str(video), **media.INPUT)
    # Not every container says how long it is, and some say it wrongly: a second over the limit is enough to know.
    options = {"ac": 1, "ar": config.sample_rate_hz, "t": config.max_duration_s + 1, **media.OUTPUT}
    media.run(ffmpeg.output(source[media.SOUND], str(audio), **options), job.folder)
    heard_s = (audio.stat().st_size - _WAV_HEADER_BYTES) / (2 * config.sample_rate_hz)
    if heard_s > config.max_duration_s:
        raise StageError("too-long", f"the sound lasts over the limit of {config.max_duration_s:g} s")
    if heard_s < _WHOLE * probe.duration_s:
        raise StageError("truncated", f"the sound ends after {heard_s:.1f} s of {probe.duration_s:.1f} s")
    job.write("audio.wav", audio.read_bytes(), "audio/wav")


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-0", event, context, work)


stage.warm_up()
