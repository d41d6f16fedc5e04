"""Steady open-loop traffic: Poisson arrivals. `locust -f locustfiles/steady.py`"""

from __future__ import annotations

from generator.users import OpenLoopUser


class SteadyUser(OpenLoopUser):
    """A Poisson process given its count: --rate x --duration arrivals, independent and uniform over --duration."""

    load = "steady"
