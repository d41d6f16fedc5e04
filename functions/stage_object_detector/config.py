"""Settings of stage-object-detector."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    min_score: Annotated[
        float, Meta(gt=0, lt=1, description="weaker detections are left out; the original has .25")
    ] = 0.4
    max_overlap: Annotated[
        float,
        Meta(gt=0, le=1, description="of two boxes of a class (IoU), else the weaker goes; the original has .213"),
    ] = 0.6
