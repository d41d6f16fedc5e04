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


def minutes(seconds: float) -> str:
    """`1:07.2` for 67.2 s, as times in a video are read."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"


def iso(at_ns: int) -> str:
    """`2026-01-31T12:00:00.123Z` for a stamp in UTC nanoseconds."""
    moment = datetime.fromtimestamp(at_ns / NS_PER_S, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
