"""stage-ffmpeg-0, the audio extractor: video → audio.wav (22.05 kHz, mono)."""

from __future__ import annotations

from typing import Any

import ffmpeg
import msgspec

from functions import media, stage


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    sample_rate_hz: int = 22_050


def work(job: stage.Job) -> None:
    config = job.config(Config)
    video = job.read_to_file(job.envelope.inputs[0])
    audio = job.folder / "audio.wav"
    source = ffmpeg.input(str(video), **media.INPUT)
    media.run(ffmpeg.output(source.audio, str(audio), ac=1, ar=config.sample_rate_hz, **media.OUTPUT))
    job.write("audio.wav", audio.read_bytes(), "audio/wav")


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-0", event, context, work)


stage.warm_up()
