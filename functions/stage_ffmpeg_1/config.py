"""Settings of stage-ffmpeg-1."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    crf: Annotated[int, Meta(ge=0, le=51, description="x264's quality; lower is better and larger")] = 23
    preset: Annotated[str, Meta(pattern="^[a-z]+$", description="x264's speed")] = "ultrafast"
