"""Steady open-loop traffic: Poisson arrivals. `locust -f locustfiles/steady.py`"""

from __future__ import annotations

from typing import Any, ClassVar

from locustfiles._users import OpenLoopUser


class SteadyUser(OpenLoopUser):
    """A Poisson process given its count: --requests arrivals, independent and uniform over --duration."""

    model: ClassVar[dict[str, Any]] = {"model": "poisson"}
