"""Settings of stage-deepspeech."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    beam_size: Annotated[int, Meta(ge=1, le=10, description="hypotheses followed; more is slower")] = 1
