"""Recorded traffic, open loop: Azure Functions traces or any CSV of timestamps. `locust -f locustfiles/replay.py`"""

from __future__ import annotations

from locust import events

from typing import Any

from generator.options import add_trace_arguments
from generator.users import OpenLoopUser


class ReplayUser(OpenLoopUser):
    """The arrivals of --trace within --duration, scaled by --trace-speed and --trace-keep."""

    load = "replay"


@events.init_command_line_parser.add_listener
def _add_arguments(parser: Any) -> None:
    add_trace_arguments(parser)
