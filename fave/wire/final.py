"""`final.json`: how a directed request ended, with all rows and what they add up to."""

from __future__ import annotations

from typing import Any

import msgspec

from fave.wire.envelope import Failure
from fave.wire.records import SCHEMA, StageFigures, StageRow


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """What a request's rows add up to, the director's own among them."""

    duration_s: float | None
    invocations: int
    retries: int
    cold: bool
    cold_invocations: int
    cold_wait_s: float
    cost_gb_s: float
    critical_path: list[str]
    critical_path_s: float
    critical_path_cold_wait_s: float
    stages: dict[str, StageFigures]


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """invocation: the director's own row. skipped: why, by clip that was left out. error: null when it is complete.

    media, ranking, like, alike, explanation: of a complete search, as its stages wrote them.
    """

    schema: int = msgspec.field(default_factory=lambda: SCHEMA)
    request_id: str
    updated_at_ns: int
    status: str
    video_uri: str
    query: str
    profile: str
    metrics: Metrics
    skipped: dict[str, Failure]
    error: Failure | None
    invocation: StageRow
    rows: list[StageRow]
    media: dict[str, Any] = {}
    ranking: list[dict[str, Any]] = []
    like: dict[str, Any] | None = None
    alike: list[dict[str, Any]] = []
    explanation: dict[str, Any] = {}
