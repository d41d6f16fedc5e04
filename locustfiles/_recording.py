"""Raw rows while running: one JSON line per arrival, also for those that never left."""

from __future__ import annotations

import time
from pathlib import Path

from fave.records import ArrivalRow
from fave.rundir import JsonlWriter, write_json


class Recorder:
    """Writes `arrivals-{slot}.jsonl`, counts what the panel shows, and times the process itself."""

    def __init__(self, out: Path | None, slot: int) -> None:
        self._writer = JsonlWriter(out / f"arrivals-{slot}.jsonl") if out else None
        self._out = out
        self._slot = slot
        self._cpu_s, self._wall_s = time.process_time(), time.monotonic()
        self.answered = 0
        self.cold = 0
        self.dropped = 0

    def record(self, row: ArrivalRow) -> None:
        ready_at = row.reply_headers.get("X-Fave-Ready-At", "")
        if ready_at.isdigit():
            self.answered += 1
            self.cold += int(ready_at) > row.sent_at_ns
        self.dropped += row.status == "dropped"
        if self._writer:
            self._writer.write(row)

    def flush(self) -> None:
        if self._writer:
            self._writer.flush()

    def close(self, *, scheduled: int, started_at_ns: int) -> None:
        """Also writes `generator-{slot}.json`: what it cost to send this load."""
        if not self._writer or not self._out:
            return
        self._writer.close()
        wall_s = time.monotonic() - self._wall_s
        facts = {
            "scheduled": scheduled,
            "started_at_ns": started_at_ns,
            "wall_s": wall_s,
            "cpu_share": (time.process_time() - self._cpu_s) / wall_s if wall_s else 0.0,
        }
        write_json(self._out / f"generator-{self._slot}.json", facts)
