"""Measurement travels in headers, so that any function, also a foreign one, can be measured."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fave.wire.records import StageRow, derive

REQUEST_ID = "X-Fave-Request-Id"
INVOCATION_ID = "X-Fave-Invocation-Id"
PARENT_ID = "X-Fave-Parent-Id"
ATTEMPT = "X-Fave-Attempt"
SENT_AT = "X-Fave-Sent-At"
TIMEOUT = "X-Timeout"
REPLICA_ID = "X-Fave-Replica-Id"
DURATION = "X-Duration-Seconds"
# From a gateway that knows, to function and caller: since when it could send to the replica.
ROUTABLE_AT = "X-Fave-Routable-At"
# From a replica that will take no more work: its exec timeout passed, and Python code cannot be stopped.
ENDING = "X-Fave-Ending"
# Environment of FAVE's function host, by who starts it: the descriptor to write to once it is ready.
READY_DESCRIPTOR = "FAVE_READY_FD"

# What gateway and function host report of the replica and of the invocation, by field of the stage row.
REPLY_FIELDS = {
    REPLICA_ID: "replica_id",
    "X-Fave-Process-Started-At": "process_started_at_ns",
    "X-Fave-Ready-At": "ready_at_ns",
    ROUTABLE_AT: "routable_at_ns",
    "X-Fave-Invocations-Before": "invocations_before",
    "X-Start-Time": "forwarded_at_ns",
    "X-Fave-Received-At": "received_at_ns",
    "X-Fave-Started-At": "started_at_ns",
    "X-Fave-Finished-At": "finished_at_ns",
}
# OpenFaaS' watchdog says how long a function worked, and not when.
_REPLY_LOWER = {name.lower(): field for name, field in (*REPLY_FIELDS.items(), (DURATION, "service_s"))}


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt as its caller announces it; `sent_at_ns` is stamped just before the bytes leave.

    routable_at_ns: what the gateway adds on the way, where it knows.
    """

    request_id: str
    invocation_id: str
    parent_id: str = ""
    attempt: int = 1
    sent_at_ns: int = 0
    routable_at_ns: int = 0

    def headers(self) -> dict[str, str]:
        return {
            REQUEST_ID: self.request_id,
            INVOCATION_ID: self.invocation_id,
            PARENT_ID: self.parent_id,
            ATTEMPT: str(self.attempt),
            SENT_AT: str(self.sent_at_ns),
        }

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Invocation:
        """From a request's headers; what is missing or malformed becomes empty, 1 or 0 (a foreign caller)."""
        get = {name.lower(): value for name, value in headers.items()}.get
        return cls(
            request_id=get(REQUEST_ID.lower(), ""),
            invocation_id=get(INVOCATION_ID.lower(), ""),
            parent_id=get(PARENT_ID.lower(), ""),
            attempt=_integer(get(ATTEMPT.lower(), ""), 1),
            sent_at_ns=_integer(get(SENT_AT.lower(), ""), 0),
            routable_at_ns=_integer(get(ROUTABLE_AT.lower(), ""), 0),
        )


def measurement_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The reply headers that measure, and nothing else."""
    return {name: value for name, value in headers.items() if name.lower() in _REPLY_LOWER}


def with_caller_side(row: StageRow, *, sent_at_ns: int, returned_at_ns: int, headers: Mapping[str, str]) -> StageRow:
    """Join the caller's stamps and the reply's headers to a row, and derive what follows from them."""
    row.sent_at_ns = sent_at_ns
    row.returned_at_ns = returned_at_ns
    for name, value in headers.items():
        field = _REPLY_LOWER.get(name.lower())
        if field == "replica_id":
            row.replica_id = value
        elif field == "service_s":
            row.service_s = row.service_s or _seconds(value)
        elif field:
            setattr(row, field, _integer(value, getattr(row, field)))
    return derive(row)


def _seconds(text: str) -> float | None:
    try:
        return max(0.0, float(text))
    except ValueError:
        return None


def _integer(text: str, default: int) -> int:
    try:
        return int(text)
    except ValueError:
        return default
