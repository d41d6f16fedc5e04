"""Closed-loop users with think time, as plain Locust has them. `locust -f locustfiles/closed_steady.py -u 5 -t 60s`"""

from __future__ import annotations

from locust import events

from typing import Any

from fave.settings import Duration
from generator.options import RunOptions
from generator.users import ClosedLoopUser


class ClosedLoopSteadyUser(ClosedLoopUser):
    """Sends, waits for the reply, thinks for --think-time, sends again."""

    def wait_time(self) -> float:
        return Duration.parse(RunOptions.of(self.environment.parsed_options).think_time)


@events.init_command_line_parser.add_listener
def _add_arguments(parser: Any) -> None:
    parser.add_argument("--think-time", default="1s", help="how long a closed-loop user waits after each reply")
