"""stage-ffmpeg-2, per clip: clip → speech.wav (16 kHz, mono) and clip.mp4 (recompressed)."""

from __future__ import annotations

from typing import Any

import ffmpeg

from functions import media, stage
from functions.stage_ffmpeg_2.config import Config


def work(job: stage.Job) -> None:
    config = job.config(Config)
    source = ffmpeg.input(str(job.fetch(job.envelope.inputs[0])), **media.INPUT)
    speech, clip = job.folder / "speech.wav", job.folder / "clip.mp4"
    wav = ffmpeg.output(source[media.SOUND], str(speech), ac=1, ar=16_000, **media.OUTPUT)
    # -2: the width follows the shape and is even, as the encoder needs it.
    video = source[media.PICTURE].filter("scale", -2, config.height_px)
    options = {**media.PLAYABLE, "preset": config.preset, "crf": config.crf, "movflags": "+faststart", **media.OUTPUT}
    media.run(ffmpeg.merge_outputs(wav, ffmpeg.output(video, source[media.SOUND], str(clip), **options)), job.folder)
    job.write("speech.wav", speech.read_bytes(), "audio/wav")
    job.write("clip.mp4", clip.read_bytes(), "video/mp4")


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-2", event, context, work)


stage.warm_up()
