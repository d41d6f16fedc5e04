"""stage-librosa: finds what is not silent in audio.wav and groups it into clips → timestamps.json."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
from librosa.effects import split

from fave.errors import StageError
from functions import stage
from functions.stage_librosa.grouping import Config, group


def work(job: stage.Job) -> None:
    config = job.config(Config)
    try:
        samples, rate_hz = soundfile.read(io.BytesIO(job.read(job.envelope.inputs[0])), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise StageError("not-audio", str(error)) from error
    spans = split(samples, top_db=config.top_db) if len(samples) and np.any(samples) else []
    spans_s = [(float(start) / rate_hz, float(end) / rate_hz) for start, end in spans]
    clips = group(spans_s, config, len(samples) / rate_hz)
    if not clips:
        raise StageError("silent", f"nothing louder than silence lasts {config.min_clip_s} s")
    job.write_json("timestamps.json", clips)


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-librosa", event, context, work)


stage.warm_up()
# librosa imports lazily: pull in what `split` needs now, so that ready means ready.
split(np.sin(np.arange(8192, dtype=np.float32)), top_db=35)
