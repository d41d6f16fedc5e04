"""Settings of stage-explainer."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where the language model is comes from the environment alone (`LLM_BASE_URL`, `LLM_MODEL`, `LLM_API_KEY`)."""

    max_clips: Annotated[int, Meta(ge=1, le=10, description="explained, from the best one on")] = 3
    llm_timeout_s: Annotated[float, Meta(gt=0, le=120, description="for the language model's answer")] = 20.0
    on_llm_failure: Annotated[
        Literal["extract", "fail"], Meta(description="when the model fails: summarise without it and say so, or fail")
    ] = "extract"
