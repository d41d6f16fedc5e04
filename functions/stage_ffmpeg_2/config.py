"""Settings of stage-ffmpeg-2."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    height_px: Annotated[int, Meta(ge=32, le=2160, multiple_of=2, description="of the recompressed clip")] = 360
    crf: Annotated[int, Meta(ge=0, le=51, description="x264's quality; lower is better and larger")] = 28
    preset: Annotated[str, Meta(pattern="^[a-z]+$", description="x264's speed")] = "ultrafast"
