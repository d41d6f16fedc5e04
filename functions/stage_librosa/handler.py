"""stage-librosa: finds what is not silent in audio.wav and groups it into clips → timestamps.json."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile

from fave.errors import StageError
from functions import stage
from functions.stage_librosa.config import Config
from functions.stage_librosa.grouping import Spans, find_clips


def _load() -> Callable[..., Any]:
    from librosa.effects import split

    # librosa imports lazily: pull in what `split` needs now, so that loaded means loaded.
    split(np.sin(np.arange(8192, dtype=np.float32)), top_db=35)
    return split  # type: ignore[no-any-return]


def work(job: stage.Job) -> None:
    config = job.config(Config)
    split = _split.get(job)
    try:
        samples, rate_hz = soundfile.read(io.BytesIO(job.read(job.envelope.inputs[0])), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise StageError("not-audio", str(error)) from error
    heard = len(samples) > 0 and bool(np.any(samples))

    def spans_at(top_db: float) -> Spans:
        found = split(samples, top_db=top_db) if heard else []
        return [(float(start) / rate_hz, float(end) / rate_hz) for start, end in found]

    clips = find_clips(spans_at, config, len(samples) / rate_hz)
    if not clips:
        raise StageError("silent", f"nothing louder than silence lasts {config.min_clip_s:g} s")
    job.write_json("timestamps.json", clips)


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-librosa", event, context, work)


stage.warm_up()
_split = stage.Model(_load)
