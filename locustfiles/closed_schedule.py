"""One user who works through a schedule and waits for each reply: the distortion that open loop avoids, on purpose.

`locust -f locustfiles/closed_schedule.py -u 1 --schedule schedule.csv`; `make distortion` sets it beside open loop.
"""

from __future__ import annotations

from locust.exception import StopUser

from collections.abc import Iterator
from pathlib import Path

from fave.errors import ConfigError
from fave.traffic.arrivals import read_csv
from generator.options import RunOptions
from generator.users import ClosedLoopUser


class ClosedLoopScheduleUser(ClosedLoopUser):
    """Sends at the scheduled time, or when the reply before has come if that is later; latency counts from the send.

    So this records what a closed-loop tool would have recorded of the same arrivals.
    """

    fixed_count = 1
    single_process = True

    @classmethod
    def check(cls, options: RunOptions) -> None:
        if not options.schedule:
            raise ConfigError(f"{cls.__name__} needs --schedule", hint="a CSV `k,at_us` of arrivals")
        cls.asking(options, bucket="")

    @classmethod
    def turns(cls, options: RunOptions) -> Iterator[int]:
        return read_csv(Path(options.schedule))

    def send(self) -> None:
        if not self.process.send_turn():
            raise StopUser
