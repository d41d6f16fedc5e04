"""What a gateway knows again after it was killed: functions, how far they were scaled, secrets, queued calls.

Files that only this account reads. They go with the platform: one that was stopped as it should be leaves none.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fave.clock import utc_ns
from local.gateway.model import Deployment


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A function as it was deployed; floor: what an operator's scaling left of its minimum."""

    deployment: Deployment
    created_at: str
    floor: int
    replicas: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """begun_at_ns: when the platform began, not this gateway."""

    begun_at_ns: int
    functions: tuple[Standing, ...] = ()
    secrets: dict[str, str] = {}


class QueuedCall(msgspec.Struct, frozen=True, kw_only=True):
    """An asynchronous call that was accepted."""

    function: str
    callback_url: str
    id: str
    request_id: str
    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Journal:
    def __init__(self, state: Path) -> None:
        self._file = state / "gateway.json"
        self._queue = state / "queue"
        self._numbers = itertools.count()
        self._begun_at_ns = 0

    def open(self) -> Kept:
        """What the gateway before this one kept; nothing, where the platform has just begun.

        A folder with a file that cannot be read begins anew: it was half written when the machine ended.
        """
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=Kept)
        except (OSError, msgspec.MsgspecError):
            self.remove()
            kept = Kept(begun_at_ns=utc_ns())
        self._begun_at_ns = kept.begun_at_ns
        self._queue.mkdir(mode=0o700, exist_ok=True)
        return kept

    def write(self, functions: Iterable[Standing], secrets: dict[str, str]) -> None:
        kept = Kept(begun_at_ns=self._begun_at_ns, functions=tuple(functions), secrets=secrets)
        partial = self._file.with_name(f".{self._file.name}.partial")
        partial.unlink(missing_ok=True)
        _write(partial, msgspec.json.encode(kept))
        # Not flushed to the disk: a killed process is what this is for, and every call would wait.
        partial.replace(self._file)

    def keep(self, call: QueuedCall) -> Path:
        path = self._queue / f"{utc_ns():020d}-{next(self._numbers)}"
        _write(path, msgspec.msgpack.encode(call))
        return path

    def queued(self) -> list[tuple[Path, QueuedCall]]:
        """In the order in which they were accepted; one that was being written was not."""
        found = []
        for path in sorted(self._queue.iterdir()):
            try:
                found.append((path, msgspec.msgpack.decode(path.read_bytes(), type=QueuedCall)))
            except msgspec.MsgspecError:
                path.unlink()
        return found

    def remove(self) -> None:
        self._file.unlink(missing_ok=True)
        shutil.rmtree(self._queue, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
