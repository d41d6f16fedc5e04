"""`GET /system/logs`: what a function's replicas wrote, as OpenFaaS gives it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

_END_BYTES = 4096


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
    """The last `tail` lines (0: all) of the function's replicas, from `since` on, each replica's in their order.

    A line that is no JSON, or has no time that can be read (a crash's last words, another program's log), has the time
    of the line before it.
    """
    messages: list[Message] = []
    for path in sorted((folder / name).glob(f"{instance or '*'}.log")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        times = [_time_of(line) for line in lines]
        at = next(filter(None, times), datetime.fromtimestamp(path.stat().st_mtime, tz=UTC))
        for line, said in zip(lines, times, strict=True):
            # Never back in time: whatever a line says, it was written after the one before it.
            at = max(at, said or at)
            if at >= since:
                stamp = at.isoformat()
                messages.append(Message(name=name, namespace=namespace, instance=path.stem, timestamp=stamp, text=line))
    messages.sort(key=lambda message: message.timestamp)
    return messages[-tail:] if tail else messages


class Follower:
    """What is written from now on, file by file; `more` gives what came since the last time, whole lines alone."""

    def __init__(self, folder: Path, *, name: str, namespace: str, instance: str) -> None:
        self._files = folder / name, f"{instance or '*'}.log"
        self._about = {"name": name, "namespace": namespace}
        self._read_bytes: dict[Path, int] = {path: path.stat().st_size for path in self._paths()}

    def _paths(self) -> list[Path]:
        folder, pattern = self._files
        return sorted(folder.glob(pattern))

    def more(self) -> list[Message]:
        found = []
        for path in self._paths():
            with path.open("rb") as file:
                file.seek(self._read_bytes.get(path, 0))
                whole, end, _ = file.read().rpartition(b"\n")
            self._read_bytes[path] = self._read_bytes.get(path, 0) + len(whole) + len(end)
            for line in whole.decode("utf-8", "replace").splitlines():
                stamp = (_time_of(line) or datetime.now(tz=UTC)).isoformat()
                found.append(Message(**self._about, instance=path.stem, timestamp=stamp, text=line))
        return found


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a replica's log; nothing where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _END_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return []


def _time_of(line: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(msgspec.json.decode(line, type=_Stamp).timestamp)
    except (msgspec.MsgspecError, ValueError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
