"""The rows of a run folder. Every field carries its unit; stamps `*_at_ns` are UTC nanoseconds.

Format history: 1 - first.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA = 1

RequestStatus = Literal["ok", "failed", "timeout", "dropped", "unsent", "lost"]
Evidence = Literal["platform", "stamps", "first_use", "latency", "undecided", "none"]


class ArrivalRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one Locust process saw of one attempt of one arrival (raw; `arrivals-{slot}.jsonl`).

    attempt: 2 and more are retries, which are off by default; an arrival ended as its last attempt did.
    phase, regime: those in force when the arrival was *scheduled*, where the run has several.
    """

    k: int
    request_id: str
    invocation_id: str
    attempt: int = 1
    phase: str = ""
    regime: str = ""
    scheduled_at_ns: int
    fired_at_ns: int = 0
    sent_at_ns: int = 0
    first_byte_at_ns: int = 0
    done_at_ns: int = 0
    status: RequestStatus = "ok"
    http_status: int = 0
    error: str = ""
    reply_headers: dict[str, str] = {}
    bytes: int = 0


class RequestRow(msgspec.Struct, kw_only=True):
    """One scheduled arrival, sent or not (`requests.jsonl`).

    latency_s counts from the schedule, response_time_s from the send; both are null when nothing came back.
    cold is null when no stamp of any of its invocations is known.
    """

    schema: int = SCHEMA
    k: int
    request_id: str
    regime: str
    load: str
    phase: str = ""
    attempts: int = 1
    scheduled_at_ns: int
    fired_at_ns: int
    sent_at_ns: int
    first_byte_at_ns: int
    done_at_ns: int
    latency_s: float | None
    response_time_s: float | None
    schedule_lag_s: float | None
    status: RequestStatus
    error: str
    dropped: bool
    cold: bool | None
    cold_wait_s: float | None
    invocations: int
    cold_invocations: int
    cost_gb_s: float
    bytes: int


class StageRow(msgspec.Struct, kw_only=True):
    """One attempt of one invocation (`stages.jsonl`, metadata objects, replies).

    sent_at_ns and returned_at_ns are the caller's; the rest is the replica's. 0 means: not known.
    forwarded_at_ns: the gateway had a replica and sent the call on (X-Start-Time, as OpenFaaS stamps it).
    worked_at_ns: a stage's outputs were written; what follows until finished is writing this row and the reply.
    queue_s = started - max(sent, ready); service_s = finished - started;
    cost_gb_s = service_s * memory_limit_mb / 1024.
    peak_rss_mb is this invocation's: the high-water mark is reset when it starts; largest child process added.
    start_peak_rss_mb: its replica's high-water mark until it was ready, which loading a model may set. 0: not known.
    """

    schema: int = SCHEMA
    request_id: str
    invocation_id: str
    parent_id: str = ""
    attempt: int = 1
    stage: str
    clip: str = ""
    replica_id: str = ""
    sent_at_ns: int = 0
    forwarded_at_ns: int = 0
    received_at_ns: int = 0
    started_at_ns: int = 0
    worked_at_ns: int = 0
    finished_at_ns: int = 0
    returned_at_ns: int = 0
    process_started_at_ns: int = 0
    ready_at_ns: int = 0
    invocations_before: int = -1
    cold: bool | None = None
    cold_wait_s: float | None = None
    queue_s: float | None = None
    service_s: float | None = None
    storage_read_s: float = 0.0
    storage_write_s: float = 0.0
    compute_s: float = 0.0
    init_s: float = 0.0
    input_bytes: int = 0
    output_bytes: int = 0
    memory_limit_mb: int = 0
    peak_rss_mb: float = 0.0
    start_peak_rss_mb: float = 0.0
    cost_gb_s: float = 0.0
    evidence: Evidence = "none"
    status: str = "ok"
    error: str = ""


class StageFigures(msgspec.Struct, kw_only=True):
    """Invocations of one function, added up. Seconds: `init_s` of each cold start, `duration_s` of each invocation."""

    invocations: int = 0
    cold: int = 0
    failures: int = 0
    init_s: list[float] = []
    duration_s: list[float] = []


class ReplicaRow(msgspec.Struct, kw_only=True):
    """One observation of a function's replicas, or one event of one replica (`replicas.jsonl`).

    age_s: how old the observation before it had become when this one replaced it; 0 for events, which come when they
    happen.
    """

    schema: int = SCHEMA
    at_ns: int
    source: Literal["prometheus", "gateway", "kubernetes"]
    function: str
    age_s: float = 0.0
    desired: int | None = None
    ready: int | None = None
    starting: int | None = None
    event: str = ""
    replica_id: str = ""
    reason: str = ""
    request_id: str = ""


def compared(row: StageRow, ready_at_ns: int) -> StageRow:
    """The label held against when the platform saw the replica become ready.

    A replica stamps itself ready, and the platform's probe notices later: a caller between the two did not meet a ready
    replica, or did. No clock decides that, so it has no label.
    """
    row.evidence = "platform"
    if row.cold is False and ready_at_ns > row.sent_at_ns:
        row.cold, row.evidence = None, "undecided"
    return row


def derive(row: StageRow) -> StageRow:
    """Fill everything that follows from the stamps: cold, waits, service time, cost, evidence."""
    if row.ready_at_ns and row.sent_at_ns:
        row.cold = row.ready_at_ns > row.sent_at_ns
        row.cold_wait_s = max(0, row.ready_at_ns - row.sent_at_ns) / 1e9
        row.evidence = "stamps"
    if row.started_at_ns and row.sent_at_ns:
        row.queue_s = (row.started_at_ns - max(row.sent_at_ns, row.ready_at_ns)) / 1e9
    if row.finished_at_ns and row.started_at_ns:
        row.service_s = (row.finished_at_ns - row.started_at_ns) / 1e9
        row.cost_gb_s = row.service_s * row.memory_limit_mb / 1024
    return row
