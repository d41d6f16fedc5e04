"""`GET /system/logs`: what a function's replicas wrote, as OpenFaaS gives it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """`instance` is the replica's id."""

    name: str
    namespace: str
    instance: str
    timestamp: str
    text: str


class _Stamp(msgspec.Struct, frozen=True):
    timestamp: str


def read(folder: Path, *, name: str, namespace: str, instance: str, since: datetime, tail: int) -> list[Message]:
    """The last `tail` lines (0: all) of the function's replicas, in order of time, from `since` on.

    A line that is no JSON (a crash's last words) has the time of the line before it.
    """
    messages: list[Message] = []
    for path in sorted((folder / name).glob(f"{instance or '*'}.log")):
        at = datetime.fromtimestamp(path.stat().st_ctime, tz=UTC).isoformat()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            at = _time_of(line) or at
            if datetime.fromisoformat(at) >= since:
                messages.append(Message(name=name, namespace=namespace, instance=path.stem, timestamp=at, text=line))
    messages.sort(key=lambda message: message.timestamp)
    return messages[-tail:] if tail else messages


def _time_of(line: str) -> str:
    try:
        return msgspec.json.decode(line, type=_Stamp).timestamp
    except msgspec.MsgspecError:
        return ""
