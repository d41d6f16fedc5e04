"""Closed-loop users who come in bursts. `locust -f locustfiles/closed_bursty.py -u 5 -t 60s`"""

from __future__ import annotations

from locust import events

import time
from typing import Any

from fave.settings import Duration
from generator.options import RunOptions
from generator.users import ClosedLoopUser

_BURST_SHARE = 0.2


class ClosedLoopBurstyUser(ClosedLoopUser):
    """Sends as fast as replies come during the first fifth of every --burst-period, and then waits for the next one.

    All users share the clock, so their bursts coincide.
    """

    def wait_time(self) -> float:
        period_s = Duration.parse(RunOptions.of(self.environment.parsed_options).burst_period)
        into_s = time.time() % period_s
        return 0.0 if into_s < period_s * _BURST_SHARE else period_s - into_s


@events.init_command_line_parser.add_listener
def _add_arguments(parser: Any) -> None:
    parser.add_argument("--burst-period", default="15s", help="from the beginning of one burst to that of the next")
