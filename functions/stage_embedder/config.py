"""Settings of stage-embedder."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    query: Annotated[str, Meta(max_length=1000, description="what is searched for; the orchestrator sets it")] = ""
    max_tokens: Annotated[int, Meta(ge=8, le=256, description="of one text; the rest is left out")] = 128
    batch_size: Annotated[int, Meta(ge=1, le=64, description="texts that the model sees at once")] = 16
