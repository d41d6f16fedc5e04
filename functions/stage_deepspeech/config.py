"""Settings of stage-deepspeech. The limits were chosen on samples: docs/envelope.md says how often they are wrong."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_Voice = Annotated[float, Meta(ge=0, le=30, description="less of a voice in a window of sound is nothing said")]
_NoSpeech = Annotated[float, Meta(ge=0, le=1, description="no-speech probability above which words are uncertain")]
_LogProb = Annotated[float, Meta(ge=-20, le=0, description="mean log-probability below which words are uncertain")]
_Ratio = Annotated[float, Meta(gt=0, le=100, description="compression ratio above which words are uncertain")]


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    beam_size: Annotated[int, Meta(ge=1, le=10, description="hypotheses followed; more is slower")] = 1
    min_voice_s: _Voice = 0.2
    max_no_speech_prob: _NoSpeech = 0.6
    min_avg_logprob: _LogProb = -0.5
    max_compression_ratio: _Ratio = 2.4
