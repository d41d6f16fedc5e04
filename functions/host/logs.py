"""The replica's log: JSON lines on standard output, and to the object store where `FAVE_SHIP_LOGS` says how often.

Objects cannot grow: each shipment is an object of its own, `logs/{function}/{replica}/{number}.jsonl`.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from fave.clock import iso, utc_ns
from fave.environment import ship_logs_every_s
from fave.errors import StorageError
from functions.host.replica import Identity

if TYPE_CHECKING:
    from fave.storage import Store

_KEPT_LINES = 10_000
_LAST_TRY_S = 3.0


class _Handler(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.write(level=record.levelname.lower(), message=f"{record.name}: {record.getMessage()}")


class Log:
    def __init__(self, identity: Identity, *, ship_every_s: float = 0.0) -> None:
        self._identity = identity
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._shipping = threading.Lock()
        self._shipments = 0
        self._ship_every_s = ship_every_s
        self._store: Store | None = None
        if ship_every_s:
            from fave.storage import Store  # boto3's import takes 0.3 s, and not every function needs it

            self._store = Store.from_environment()
            threading.Thread(target=self._ship_for_ever, daemon=True).start()

    @classmethod
    def from_environment(cls, identity: Identity) -> Log:
        return cls(identity, ship_every_s=ship_logs_every_s())

    def write(self, **entry: object) -> None:
        who = {"timestamp": iso(utc_ns()), "stage": self._identity.function, "replica_id": self._identity.replica_id}
        line = json.dumps(who | entry) + "\n"
        # One write per line: lines of several threads must not mix.
        sys.stdout.write(line)
        sys.stdout.flush()
        if self._store is not None:
            with self._lock:
                self._lines.append(line)
                # A store that is away for long must not fill the memory.
                del self._lines[:-_KEPT_LINES]

    def take_over_logging(self) -> None:
        """What libraries log (the server's warnings, boto3's) becomes JSON lines as well."""
        logging.basicConfig(handlers=[_Handler(self)], level=logging.WARNING, force=True)

    def close(self) -> None:
        """Ship what is left, within a few seconds."""
        sys.stdout.flush()
        if self._store is not None:
            last = threading.Thread(target=self._ship, daemon=True)
            last.start()
            last.join(_LAST_TRY_S)

    def _ship_for_ever(self) -> None:
        while True:
            time.sleep(self._ship_every_s)
            self._ship()

    def _ship(self) -> None:
        with self._shipping:
            with self._lock:
                lines, self._lines = self._lines, []
            if not lines or self._store is None:
                return
            key = f"logs/{self._identity.function}/{self._identity.replica_id}/{self._shipments:06d}.jsonl"
            try:
                self._store.put(self._store.uri(key), "".join(lines).encode(), content_type="application/x-ndjson")
                self._shipments += 1
            except StorageError:
                with self._lock:
                    self._lines = lines + self._lines
