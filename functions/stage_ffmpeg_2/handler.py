"""stage-ffmpeg-2, per clip: clip → speech.wav (16 kHz, mono) and clip.mp4 (recompressed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ffmpeg

from functions import media, stage
from functions.stage_ffmpeg_2.config import Config


def work(job: stage.Job) -> None:
    speech, clip = compress(job.fetch(job.envelope.inputs[0]), job.folder, job.config(Config))
    job.upload(speech, "audio/wav")
    job.upload(clip, "video/mp4")


def compress(path: Path, folder: Path, config: Config) -> tuple[Path, Path]:
    """(speech.wav, clip.mp4) of the clip in `path`. Raises StageError as `media.run`."""
    source, speech, clip = media.input_of(path), folder / "speech.wav", folder / "clip.mp4"
    wav = ffmpeg.output(media.sound_of(source, rate_hz=16_000), str(speech), ac=1, **media.OUTPUT)
    # -2: the width follows the shape and is even, as the encoder needs it.
    picture = source[media.PICTURE].filter("scale", -2, config.height_px)
    # Each picture at its own time: a constant rate would make copies, or leave some out.
    options = {**media.PLAYABLE, "preset": config.preset, "crf": config.crf, **media.ITS_TIME, **media.OUTPUT}
    mp4 = ffmpeg.output(picture, media.sound_of(source), str(clip), movflags="+faststart", **options)
    media.run(ffmpeg.merge_outputs(wav, mp4), path)
    return speech, clip


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-ffmpeg-2", event, context, work)


stage.warm_up()
