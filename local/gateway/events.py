"""The gateway's event log: what happened to each replica, numbered, for `/system/events`."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Literal

import msgspec

from fave.campaign.rundir import JsonlWriter, read_jsonl
from fave.clock import utc_ns

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
    """In memory, the newest 200,000; all of them in a file, which a gateway that follows a killed one goes on with.

    since_ns: when the platform began; what is older was another's.
    """

    def __init__(self, path: Path, since_ns: int) -> None:
        before = (event for event in read_jsonl(path, Event) if event.at_ns >= since_ns)
        self._events: deque[Event] = deque(before, maxlen=_KEPT)
        self._seq = self._events[-1].seq if self._events else 0
        self._writer = JsonlWriter(path)
        for function, replica_id in self._without_end():
            self.add(function, "crashed", replica_id=replica_id, exit_code=137, reason="the gateway was killed")

    def _without_end(self) -> list[tuple[str, str]]:
        """Replicas (and their functions) that went with their gateway, which could not say so."""
        there: dict[str, str] = {}
        for event in self._events:
            if event.event == "start":
                there[event.replica_id] = event.function
            elif event.event != "ready":
                there.pop(event.replica_id, None)
        return [(function, replica_id) for replica_id, function in there.items()]

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
    ) -> Event:
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
        return entry

    def since(self, seq: int) -> list[Event]:
        return [event for event in self._events if event.seq > seq]

    def close(self) -> None:
        self._writer.close()
