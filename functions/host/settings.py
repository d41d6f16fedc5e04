"""How one replica is limited, by of-watchdog's environment variables."""

from __future__ import annotations

import os

import msgspec

from fave.errors import ConfigError
from fave.settings import Duration


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """healthcheck_interval_s: after SIGTERM, how long a replica still serves what a late load balancer sends it."""

    max_in_flight: int = 1
    exec_timeout_s: float = 300.0
    write_timeout_s: float = 300.0
    healthcheck_interval_s: float = 0.0

    @classmethod
    def from_environment(cls) -> Limits:
        return cls(
            max_in_flight=int(os.environ.get("max_inflight") or 1),  # noqa: SIM112 - of-watchdog's name
            exec_timeout_s=seconds("exec_timeout", 300.0),
            write_timeout_s=seconds("write_timeout", 300.0),
            healthcheck_interval_s=seconds("healthcheck_interval", 0.0),
        )


def seconds(name: str, default: float) -> float:
    """The environment variable `name`, `2.5` or a duration (`500ms`, `1h`), as of-watchdog takes it.

    Raises
    ------
    ConfigError
        For anything else: a time-out that is not the one that was meant must not go unnoticed.
    """
    text = os.environ.get(name, "")
    try:
        return parse_seconds(text) if text else default
    except ValueError as error:
        raise ConfigError(f"environment {name}: {error}") from error


def parse_seconds(text: str) -> float:
    """Raises ValueError for what is neither a number nor a duration."""
    return float(text) if text.replace(".", "", 1).isdigit() else float(Duration.parse(text))
