"""Settings of stage-search."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_Weight = Annotated[float, Meta(ge=0, le=100)]


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    query: Annotated[str, Meta(max_length=1000, description="what is searched for; the orchestrator sets it")] = ""
    label_weight: Annotated[_Weight, Meta(description="of what is seen")] = 1.0
    transcript_weight: Annotated[_Weight, Meta(description="of the words that are said")] = 1.0
    embedding_weight: Annotated[_Weight, Meta(description="of likeness in meaning")] = 1.0
