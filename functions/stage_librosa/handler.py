"""stage-librosa: finds what is not silent in audio.wav and groups it into clips → timestamps.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from fave.errors import StageError
from functions import stage
from functions.stage_librosa.config import Config
from functions.stage_librosa.grouping import find_clips
from functions.stage_librosa.loudness import FRAME, measure


def _load() -> None:
    from librosa import amplitude_to_db
    from librosa.feature import rms

    # librosa imports lazily: pull in now what is needed, so that loaded means loaded.
    amplitude_to_db(rms(y=np.ones(FRAME, np.float32))[0], ref=np.max)


def work(job: stage.Job) -> None:
    config = job.config(Config)
    _librosa.get(job)
    loudness = measure(job.fetch(job.envelope.inputs[0]))
    clips = find_clips(loudness.spans_at, config, loudness.length_s)
    if not clips:
        raise StageError("silent", f"nothing louder than silence lasts {config.min_clip_s:g} s")
    job.write_json("timestamps.json", clips)


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-librosa", event, context, work)


stage.warm_up()
_librosa = stage.Model(_load)
