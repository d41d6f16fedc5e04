"""The rows of a run folder. Every field carries its unit; stamps `*_at_ns` are UTC nanoseconds.

Format history: 1 - first.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA = 1

RequestStatus = Literal["ok", "failed", "timeout", "dropped", "unsent", "lost"]
# What a label stands on, best first: when the platform could route to the replica; what lies between a pod's readiness
# and the first call that came to it (routed); when the replica said that it was ready; pods, or counts of ready
# replicas, around a call whose replica nobody stamped. undecided: not even these tell.
Evidence = Literal["platform", "routed", "stamps", "pods", "counts", "undecided", "none"]


class ArrivalRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one Locust process saw of one attempt of one arrival (raw; `arrivals-{slot}.jsonl`).

    attempt: 2 and more are retries, which are off by default; an arrival ended as its last attempt did.
    phase, regime: those in force when the arrival was *scheduled*, where the run has several.
    """

    k: int
    request_id: str
    invocation_id: str
    function: str = ""
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
    routable_at_ns: from then on the platform could send to the replica, says routable_source; ready_at_ns, which its
    process says, is a lower bound.
    forwarded_at_ns: the gateway had a replica and sent the call on (X-Start-Time, as OpenFaaS stamps it).
    worked_at_ns: a stage's outputs were written; what follows until finished is writing this row and the reply.
    held_s: a platform without a queue of its own kept the call back although it met no new replica.
    queue_s = started - max(sent, routable); service_s = finished - started, or the caller's returned - started;
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
    routable_at_ns: int = 0
    routable_source: Evidence = "none"
    invocations_before: int = -1
    cold: bool | None = None
    cold_wait_s: float | None = None
    held_s: float = 0.0
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


def derive(row: StageRow) -> StageRow:
    """Fill everything that follows from the stamps: cold, waits, service time, cost, evidence."""
    if row.routable_at_ns and row.routable_source == "none":
        # It came with a call or its reply, and only a platform stamps that.
        row.routable_source = "platform"
    known = row.routable_at_ns or row.ready_at_ns
    if known and row.sent_at_ns:
        row.cold = known > row.sent_at_ns
        row.cold_wait_s = max(0, known - row.sent_at_ns) / 1e9
        row.evidence = row.routable_source if row.routable_at_ns else "stamps"
    if row.started_at_ns and row.sent_at_ns:
        row.queue_s = (row.started_at_ns - max(row.sent_at_ns, known)) / 1e9
    if row.finished_at_ns and row.started_at_ns:
        row.service_s = (row.finished_at_ns - row.started_at_ns) / 1e9
    elif row.service_s is None and row.started_at_ns and row.returned_at_ns:
        # Of a reply that was still under way when its head, with the other stamps, was sent.
        row.service_s = (row.returned_at_ns - row.started_at_ns) / 1e9
    if row.service_s is not None:
        row.cost_gb_s = row.service_s * row.memory_limit_mb / 1024
    return row


def routable(row: StageRow, at_ns: int, source: Evidence) -> StageRow:
    """The row, as it is with a platform's word on when its replica could be sent to."""
    row.routable_at_ns, row.routable_source = at_ns, source
    return derive(row)
