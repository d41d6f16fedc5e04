"""How one replica is limited, by of-watchdog's environment variables."""

from __future__ import annotations

import os

import msgspec

from fave.settings import Duration


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """healthcheck_interval_s: after SIGTERM, how long a replica still serves what a late load balancer sends it."""

    max_in_flight: int = 1
    exec_timeout_s: float = 300.0
    write_timeout_s: float = 300.0
    healthcheck_interval_s: float = 0.0

    @classmethod
    def from_environment(cls) -> Limits:
        get = os.environ.get
        return cls(
            max_in_flight=int(get("max_inflight") or 1),
            exec_timeout_s=seconds(get("exec_timeout", ""), 300.0),
            write_timeout_s=seconds(get("write_timeout", ""), 300.0),
            healthcheck_interval_s=seconds(get("healthcheck_interval", ""), 0.0),
        )


def seconds(text: str, default: float) -> float:
    """`2.5` or a duration (`500ms`, `1h`), as of-watchdog takes it; anything else is the default."""
    try:
        return float(text) if text.replace(".", "", 1).isdigit() else float(Duration.parse(text))
    except ValueError:
        return default
