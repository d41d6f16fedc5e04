"""What recording an arrival costs, beside Locust's own bookkeeping for it."""

from __future__ import annotations

from locust.stats import RequestStats

import tempfile
import time
from pathlib import Path

from fave.wire.records import ArrivalRow
from generator.recording import Recorder

_NOW = 1_795_000_000_000_000_000
_HEADERS = {
    f"X-Fave-{name}": str(_NOW)
    for name in ("Process-Started-At", "Ready-At", "Received-At", "Started-At", "Finished-At")
} | {"X-Fave-Replica-Id": "stage-object-detector-0123456789", "X-Fave-Invocations-Before": "3"}


def measure(arrivals: int = 50_000) -> tuple[float, float]:
    """Microseconds per arrival: FAVE's recorder with its file, Locust's statistics. The better of three passes."""
    rows = [
        ArrivalRow(
            k=k,
            request_id=f"bench-k{k:06d}",
            invocation_id=f"bench-k{k:06d}.1",
            scheduled_at_ns=_NOW + k,
            fired_at_ns=_NOW + k + 1,
            sent_at_ns=_NOW + k + 2,
            first_byte_at_ns=_NOW + k + 3,
            done_at_ns=_NOW + k + 4,
            http_status=200,
            reply_headers=_HEADERS,
            bytes=15,
        )
        for k in range(arrivals)
    ]
    fave, locust = [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            recorder = Recorder(Path(folder), 0)
            began_s = time.perf_counter()
            for row in rows:
                recorder.record(row, _NOW, b"{}")
            recorder.close()
            fave.append(time.perf_counter() - began_s)
        statistics = RequestStats()
        began_s = time.perf_counter()
        for _row in rows:
            statistics.log_request("POST", "stage-object-detector", 12, 15)
        locust.append(time.perf_counter() - began_s)
    return min(fave) / arrivals * 1e6, min(locust) / arrivals * 1e6
