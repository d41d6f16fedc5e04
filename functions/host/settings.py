"""How one replica is limited, by of-watchdog's environment variables."""

from __future__ import annotations

import msgspec

from fave.environment import count, flag, seconds


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """healthcheck_interval_s: after SIGTERM, how long a replica still serves what a late load balancer sends it.

    queue, queue_wait_s: how many calls may wait for a slot, and how long. unready_when_full: so that a load balancer
    sends elsewhere.
    """

    max_in_flight: int = 1
    exec_timeout_s: float = 300.0
    write_timeout_s: float = 300.0
    healthcheck_interval_s: float = 0.0
    queue: int = 0
    queue_wait_s: float = 300.0
    unready_when_full: bool = False

    @classmethod
    def from_environment(cls) -> Limits:
        return cls(
            max_in_flight=count("max_inflight", 1, least=1, most=1000),
            exec_timeout_s=seconds("exec_timeout", 300.0),
            write_timeout_s=seconds("write_timeout", 300.0),
            healthcheck_interval_s=seconds("healthcheck_interval", 0.0),
            queue=count("FAVE_HOST_QUEUE", 0, most=1000),
            queue_wait_s=seconds("FAVE_HOST_QUEUE_WAIT", seconds("exec_timeout", 300.0)),
            unready_when_full=flag("FAVE_UNREADY_WHEN_FULL"),
        )
