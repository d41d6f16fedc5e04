"""Clocks. Wall time only for stamps that cross processes; durations come from the monotonic clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime

NS_PER_S = 1_000_000_000


def utc_ns() -> int:
    """UTC nanoseconds of the system clock, for `*_at_ns` stamps."""
    return time.time_ns()


def monotonic_s() -> float:
    return time.monotonic()


def iso(at_ns: int) -> str:
    """`2026-01-31T12:00:00.123Z` for a stamp in UTC nanoseconds."""
    moment = datetime.fromtimestamp(at_ns / NS_PER_S, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
