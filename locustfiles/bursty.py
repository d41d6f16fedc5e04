"""Bursty open-loop traffic: windows of arrivals with silence between them. `locust -f locustfiles/bursty.py`"""

from __future__ import annotations

from typing import Any

from fave.arrivals import Traffic
from fave.settings import Duration
from locustfiles._users import OpenLoopUser

BURSTS = 4
BURST_SHARE = 0.2


class BurstyUser(OpenLoopUser):
    """--requests arrivals over --duration, all within 4 windows that together take a fifth of the time."""

    @classmethod
    def traffic(cls, options: Any) -> Traffic:
        duration = Duration.parse(options.duration)
        length = Duration(duration / BURSTS * BURST_SHARE)
        return Traffic(model="bursts", requests=options.requests, duration=duration, bursts=BURSTS, burst_length=length)
