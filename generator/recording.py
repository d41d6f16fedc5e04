"""What one Locust process keeps of a run: rows on disk, the times of sending, live figures."""

from __future__ import annotations

import contextlib
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fave.campaign.rundir import JsonlWriter
from fave.wire.records import ArrivalRow, StageFigures

_COUNTED = ("ok", "failed", "timeout", "dropped", "unsent", "lost")


class Metrics(msgspec.Struct, frozen=True):
    stages: dict[str, StageFigures] = {}


class Answer(msgspec.Struct, frozen=True):
    """The part of the orchestrator's answer that tells of its stages."""

    metrics: Metrics = Metrics()


_decode_answer = msgspec.json.Decoder(Answer).decode


class Recorder:
    """Writes `arrivals-{slot}.jsonl`; keeps what the verdict needs, and what has happened since it was last asked."""

    def __init__(self, out: Path | None, slot: int, *, directed: bool = False) -> None:
        """directed: answers are a director's, and tell of the functions that it called."""
        self._writer = JsonlWriter(out / f"arrivals-{slot}.jsonl") if out else None
        self._directed = directed
        self.started()
        self.cpu_share = 0.0
        self.counts = dict.fromkeys((*_COUNTED, "sent", "labelled", "cold"), 0)
        # Microseconds from the start of the run: when arrivals were due, when they left, how long until the last byte.
        self.due_us: array[int] = array("q")
        self.sent_us: array[int] = array("q")
        self.latency_us: array[int] = array("q")
        self._latencies_ms: list[float] = []
        self._lags_ms: list[float] = []
        self._stages: dict[str, StageFigures] = {}
        # Why rows are missing on disk, where they are: the load goes on, and the run is not believed.
        self.trouble = ""

    def started(self) -> None:
        """From here on the process's own cost counts."""
        self._cpu_s, self._wall_s = time.process_time(), time.monotonic()

    def measure_cpu(self) -> None:
        """The share of one core used so far; the largest that was seen stays."""
        wall_s = time.monotonic() - self._wall_s
        if wall_s > 0:
            self.cpu_share = max(self.cpu_share, (time.process_time() - self._cpu_s) / wall_s)

    def record(self, row: ArrivalRow, started_at_ns: int, content: bytes = b"", *, final: bool = True) -> None:
        """One attempt. `final`: no other follows, so the arrival ended as it did."""
        counts = self.counts
        if row.sent_at_ns and row.attempt == 1:
            self.due_us.append((row.scheduled_at_ns - started_at_ns) // 1000)
            self.sent_us.append((row.sent_at_ns - started_at_ns) // 1000)
            self._lags_ms.append((row.sent_at_ns - row.scheduled_at_ns) / 1e6)
            counts["sent"] += 1
        if final:
            counts[row.status] += 1
            if row.done_at_ns and row.status == "ok":
                latency_ns = row.done_at_ns - row.scheduled_at_ns
                self.latency_us.append(latency_ns // 1000)
                self._latencies_ms.append(latency_ns / 1e6)
        if row.sent_at_ns:
            self._watch(row, content)
        if self._writer:
            with self._on_disk():
                self._writer.write(row)

    @contextlib.contextmanager
    def _on_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.trouble = f"rows of this run are missing: {error.strerror or error}"
            self._writer = None

    def _watch(self, row: ArrivalRow, content: bytes) -> None:
        """Figures by stage: the orchestrator's answer has those of all it called, a stage's headers its own."""
        found: dict[str, StageFigures] = {}
        if self._directed and content:
            with contextlib.suppress(msgspec.MsgspecError):
                found = _decode_answer(content).metrics.stages
        for name, each in found.items() if found else [(row.function, self._own(row))]:
            add_figures(self._stages, name, each)
            self.counts["cold"] += each.cold
            self.counts["labelled"] += each.invocations if found else bool(row.reply_headers)

    @staticmethod
    def _own(row: ArrivalRow) -> StageFigures:
        figures = StageFigures(invocations=1, failures=int(row.status != "ok"))
        if row.done_at_ns:
            figures.duration_s.append((row.done_at_ns - row.sent_at_ns) / 1e9)
        ready, started = (row.reply_headers.get(f"X-Fave-{name}-At", "") for name in ("Ready", "Process-Started"))
        if ready.isdigit() and started.isdigit() and int(ready) > row.sent_at_ns:
            figures.cold = 1
            figures.init_s.append((int(ready) - int(started)) / 1e9)
        return figures

    def since_last(self) -> dict[str, Any]:
        """What happened since the last call, as plain data, beside the counts so far."""
        window = {
            "counts": dict(self.counts),
            "latencies_ms": self._latencies_ms,
            "lags_ms": self._lags_ms,
            "stages": msgspec.to_builtins(self._stages),
        }
        self._latencies_ms, self._lags_ms, self._stages = [], [], {}
        return window

    def flush(self) -> None:
        if self._writer:
            with self._on_disk():
                self._writer.flush()

    def close(self) -> None:
        self.measure_cpu()
        if self._writer:
            with self._on_disk():
                self._writer.close()


def add_figures(table: dict[str, StageFigures], name: str, more: StageFigures) -> None:
    figures = table.get(name)
    if figures is None:
        table[name] = more
        return
    figures.invocations += more.invocations
    figures.cold += more.cold
    figures.failures += more.failures
    figures.init_s += more.init_s
    figures.duration_s += more.duration_s
