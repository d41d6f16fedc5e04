"""Any open-loop load by name, as the web UI's start form offers it. `locust -f locustfiles/load.py --load moderate`"""

from __future__ import annotations

from locust import events

from typing import Any

from fave.traffic import loads
from fave.traffic.arrivals import Traffic
from generator.options import RunOptions, add_trace_arguments
from generator.users import OpenLoopUser


class LoadUser(OpenLoopUser):
    """The load that --load names."""

    @classmethod
    def traffic(cls, options: RunOptions) -> Traffic:
        return options.traffic(options.load)


@events.init_command_line_parser.add_listener
def _add_arguments(parser: Any) -> None:
    parser.add_argument("--load", choices=list(loads.NAMES), default="steady", help="how arrivals are spread over time")
    add_trace_arguments(parser)
