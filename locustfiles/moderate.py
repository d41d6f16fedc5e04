"""Moderate open-loop traffic: gamma gaps with a coefficient of variation of 1.7. `locust -f locustfiles/moderate.py`"""

from __future__ import annotations

from generator.users import OpenLoopUser


class ModerateUser(OpenLoopUser):
    """Gaps that vary more than a Poisson process's: gamma, coefficient of variation 1.7 (or --cv)."""

    load = "moderate"
