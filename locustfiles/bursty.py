"""Bursty open-loop traffic: windows of arrivals with silence between them. `locust -f locustfiles/bursty.py`"""

from __future__ import annotations

from generator.users import OpenLoopUser


class BurstyUser(OpenLoopUser):
    """All arrivals lie within windows that together take a fifth of the time: one in five minutes, at least four."""

    load = "bursty"
