"""Is what the model says to be believed? Pure.

The model knows English alone and answers in English to whatever it hears. It does not say that it does not understand,
but its own figures do: docs/envelope.md says how often they are wrong.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from functions.stage_deepspeech.config import Config

Verdict = Literal["certain", "uncertain", "nothing"]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says of one window of sound, and its figures; seconds from the start of the clip.

    voice_s: how much of the window the voice detector takes for a voice, in whatever language.
    """

    start_s: float
    end_s: float
    voice_s: float
    text: str = ""
    no_speech_prob: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0


def judge(heard: Heard, config: Config) -> Verdict:
    """`nothing`: no voice. `uncertain`: a voice, and the model guesses what it says, or repeats itself."""
    if heard.voice_s < config.min_voice_s:
        return "nothing"
    understood = (
        any(letter.isalnum() for letter in heard.text)
        and heard.no_speech_prob <= config.max_no_speech_prob
        and heard.avg_logprob >= config.min_avg_logprob
        and heard.compression_ratio <= config.max_compression_ratio
    )
    return "certain" if understood else "uncertain"


def transcript(clip: str, model: str, heard: list[Heard], config: Config) -> dict[str, Any]:
    """`transcript.json`: what is certain and what is not, apart, and each window with its verdict and figures."""
    judged = [(judge(window, config), window) for window in heard]
    return {
        "clip": clip,
        "text": " ".join(window.text for verdict, window in judged if verdict == "certain"),
        # A voice of which the model makes no words at all is there nevertheless.
        "uncertain": " ".join(window.text or "…" for verdict, window in judged if verdict == "uncertain"),
        "model": model,
        "segments": [{"verdict": verdict, **msgspec.structs.asdict(window)} for verdict, window in judged],
    }
