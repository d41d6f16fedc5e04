"""What happened to each cell, appended as it happens: the memory that survives a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fave.clock import utc_ns
from fave.rundir import JsonlWriter


class Journal:
    def __init__(self, path: Path) -> None:
        self._writer = JsonlWriter(path)

    def note(self, event: str, **facts: Any) -> None:
        self._writer.write({"at_ns": utc_ns(), "event": event, **facts})
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
