"""stage-deepspeech, per clip: speech.wav → transcript.json.

The name is the original component's. DeepSpeech has had no wheels since Python 3.9: the model is Whisper tiny.en.
"""

from __future__ import annotations

import io
import os
import wave
from typing import Any

import numpy as np

from fave.errors import StageError
from fave.programs import asset
from functions import stage
from functions.stage_deepspeech.config import Config

MODEL = "whisper-tiny.en-int8"


def samples_of(wav: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A 16 kHz mono 16-bit WAV as float32 in [-1, 1]."""
    try:
        with wave.open(io.BytesIO(wav)) as file:
            if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (16_000, 1, 2):
                raise StageError("not-audio", "speech must be 16 kHz, mono, 16 bit")
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
            return samples.astype(np.float32) / np.float32(32768)
    except (wave.Error, EOFError) as error:
        raise StageError("not-audio", f"not a WAV file: {error}") from error


def work(job: stage.Job) -> None:
    config = job.config(Config)
    segments, _ = _model.get(job).transcribe(
        samples_of(job.read(job.inputs_named(".wav")[0])),
        language="en",
        beam_size=config.beam_size,
        without_timestamps=True,
        condition_on_previous_text=False,
    )
    text = " ".join(segment.text.strip() for segment in segments)
    job.write_json("transcript.json", {"clip": job.envelope.clip, "text": text, "model": MODEL})


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-deepspeech", event, context, work)


def _load() -> Any:
    from faster_whisper import WhisperModel

    model = str(asset("models/whisper-tiny-en", "FAVE_WHISPER_MODEL"))
    threads = int(os.environ.get("FAVE_THREADS", "1"))
    return WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads)


stage.warm_up()
_model = stage.Model(_load)
