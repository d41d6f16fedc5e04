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
    max_pictures: Annotated[
        int, Meta(ge=1, le=60, description="distinct ones that are listed, of a clip and of those like a given one")
    ] = 6
    same_picture: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="frames of a clip from this similarity on (cosine of features) are one picture; in the samples "
            "a still camera's have .99 and more, different scenes' .976 and less",
        ),
    ] = 0.985
    like: Annotated[
        str,
        Meta(
            max_length=1000,
            description="also find frames like this one: its address, `CLIP/FRAME`, or its time in the video "
            "(`0:09.2` or `9.2`: the nearest frame)",
        ),
    ] = ""
