"""Settings of stage-ffmpeg-3."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    fps: Annotated[float, Meta(gt=0, le=30, description="frames a second; the original takes 12 a minute")] = 0.2
    max_frames: Annotated[int, Meta(ge=1, le=120, description="of one clip; later ones are left out")] = 60
