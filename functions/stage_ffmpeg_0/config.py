"""Settings of stage-ffmpeg-0."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    sample_rate_hz: Annotated[int, Meta(ge=8_000, le=48_000, description="of the audio; the original has 22,050")] = (
        22_050
    )
    max_duration_s: Annotated[float, Meta(gt=0, description="a longer video is refused")] = 1800.0
    max_pixels: Annotated[int, Meta(gt=0, description="width x height; a larger picture is refused")] = 1920 * 1088
    sound_track: Annotated[int, Meta(ge=0, le=99, description="which one, from 1; 0: the one that players choose")] = 0
