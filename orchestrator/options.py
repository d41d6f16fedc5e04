"""Settings of the orchestrator: by environment, and by `config.orchestrator` of a request."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fave.configuration import configured, variable_of

_Seconds = Annotated[float, Meta(gt=0, le=3600)]


class Config(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """`MAX_CONCURRENT_INVOCATIONS` in the environment sets that field too."""

    max_concurrent_invocations: Annotated[int, Meta(ge=1, le=64, description="of one request at a time")] = 8
    on_clip_failure: Annotated[
        Literal["fail", "skip"], Meta(description="a clip that fails fails the request, or is left out and reported")
    ] = "fail"
    max_attempts: Annotated[int, Meta(ge=1, le=10, description="of one invocation, whatever its error allows")] = 10
    retry_budget: Annotated[int, Meta(ge=0, le=100, description="repeated invocations of one request in all")] = 12
    stage_timeout_s: Annotated[_Seconds, Meta(description="of one attempt; passed down as X-Timeout")] = 120.0
    stage_timeouts_s: Annotated[dict[str, _Seconds], Meta(description="the same by stage, where it differs")] = {}
    lease_s: Annotated[
        float, Meta(ge=1, le=60, description="silence after which another call may take a request over")
    ] = 5.0

    def timeout_s(self, stage: str) -> float:
        return self.stage_timeouts_s.get(stage, self.stage_timeout_s)


def options_of(given: Mapping[str, Any]) -> Config:
    """Raises StageError `bad-request` for what cannot be used."""
    environment = dict(os.environ)
    known = environment.get("MAX_CONCURRENT_INVOCATIONS", "")
    environment.setdefault(variable_of("max_concurrent_invocations"), known)
    return configured(Config, given, environment)
