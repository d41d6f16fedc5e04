"""stage-deepspeech, per clip: speech.wav → transcript.json.

The name is the original component's. DeepSpeech has had no wheels since Python 3.9: the model is Whisper tiny.en, and
Silero's voice detector, which comes with faster-whisper, keeps from it what is no speech.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from fave.environment import threads
from fave.programs import asset
from functions import stage
from functions.host.work import current
from functions.stage_deepspeech.certainty import Heard, transcript
from functions.stage_deepspeech.config import Config
from functions.stage_deepspeech.sound import RATE_HZ, Samples, windows

MODEL = "whisper-tiny.en-int8"
_VOICE_FRAME = 512
_VOICE = 0.5


class Models(NamedTuple):
    words: Any
    voice: Any


def work(job: stage.Job) -> None:
    config = job.config(Config)
    models = _models.get(job)
    heard: list[Heard] = []
    for samples in windows(job.fetch(job.inputs_named("")[0])):
        current().check()
        heard.append(hear(models, samples, heard[-1].end_s if heard else 0.0, config))
    job.write_json("transcript.json", transcript(job.envelope.clip, MODEL, heard, config))


def hear(models: Models, samples: Samples, start_s: float, config: Config) -> Heard:
    """What the model says of one window, however unsure it is; nothing where there is no voice."""
    heard = Heard(
        start_s=start_s, end_s=round(start_s + len(samples) / RATE_HZ, 4), voice_s=voice_s(models.voice, samples)
    )
    if heard.voice_s < config.min_voice_s:
        return heard
    # Temperature 0 alone: where the model is unsure it would draw lots, and say something else the second time.
    # No threshold: what it is unsure of is judged, not thrown away.
    segments, _ = models.words.transcribe(
        samples,
        language="en",
        beam_size=config.beam_size,
        temperature=0,
        no_speech_threshold=None,
        without_timestamps=True,
        condition_on_previous_text=False,
    )
    said = next(iter(segments), None)
    if said is None:
        return heard
    return msgspec.structs.replace(
        heard,
        text=said.text.strip(),
        no_speech_prob=round(said.no_speech_prob, 4),
        avg_logprob=round(said.avg_logprob, 4),
        compression_ratio=round(said.compression_ratio, 4),
    )


def voice_s(detector: Any, samples: Samples) -> float:
    """How long somebody speaks, in frames of 32 ms."""
    padded = np.pad(samples, (0, -len(samples) % _VOICE_FRAME))
    return round(int(np.count_nonzero(detector(padded) > _VOICE)) * _VOICE_FRAME / RATE_HZ, 4)


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-deepspeech", event, context, work)


def load() -> Models:
    from faster_whisper import WhisperModel
    from faster_whisper.vad import get_vad_model

    model = str(asset("models/whisper-tiny-en", "FAVE_WHISPER_MODEL"))
    return Models(WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=threads()), get_vad_model())


stage.warm_up()
_models = stage.Model(load)
