"""Settings of stage-librosa."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_Decibel = Annotated[float, Meta(gt=0, le=120, description="how far below the peak silence begins")]


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The original tries 24 to 49 dB until the number of clips lies in [duration/30, duration/6), and drops clips of

    6 s and less. `search_threshold` and `min_clip_s=6` bring that back; the defaults keep short utterances.
    """

    top_db: _Decibel = 35.0
    search_threshold: Annotated[bool, Meta(description="try thresholds as the original does, instead of top_db")] = (
        False
    )
    lowest_top_db: _Decibel = 24.0
    highest_top_db: _Decibel = 49.0
    merge_gap_s: Annotated[float, Meta(ge=0, description="a shorter pause stays within a clip")] = 0.7
    pad_s: Annotated[float, Meta(ge=0, description="kept before and after what sounds")] = 0.1
    min_clip_s: Annotated[float, Meta(ge=0, description="shorter clips are dropped; the original has 6 s")] = 0.5
    max_clips: Annotated[int, Meta(ge=1, le=64, description="later ones are left out")] = 64
