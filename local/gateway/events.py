"""The gateway's event log: what happened to each replica, numbered, for `/system/events`."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Literal

import msgspec

from fave.clock import utc_ns
from fave.rundir import JsonlWriter

EventName = Literal["deploy", "delete", "scale", "start", "ready", "stop", "crashed", "oom_killed", "start_failed"]
_KEPT = 200_000


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    seq: int
    at_ns: int
    function: str
    event: EventName
    replica_id: str = ""
    reason: str = ""
    request_id: str = ""
    exit_code: int | None = None
    replicas: int | None = None


class EventLog:
    """In memory, the newest 200,000; all of them in a file."""

    def __init__(self, path: Path) -> None:
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._writer = JsonlWriter(path)
        self._seq = 0

    def add(
        self,
        function: str,
        event: EventName,
        *,
        replica_id: str = "",
        reason: str = "",
        request_id: str = "",
        exit_code: int | None = None,
        replicas: int | None = None,
    ) -> None:
        self._seq += 1
        entry = Event(
            seq=self._seq,
            at_ns=utc_ns(),
            function=function,
            event=event,
            replica_id=replica_id,
            reason=reason,
            request_id=request_id,
            exit_code=exit_code,
            replicas=replicas,
        )
        self._events.append(entry)
        self._writer.write(entry)
        self._writer.flush()

    def since(self, seq: int) -> list[Event]:
        return [event for event in self._events if event.seq > seq]

    def close(self) -> None:
        self._writer.close()
