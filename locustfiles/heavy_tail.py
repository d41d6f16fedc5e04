"""Heavy-tailed open-loop traffic: lognormal gaps with a coefficient of variation of 4."""

from __future__ import annotations

from generator.users import OpenLoopUser


class HeavyTailUser(OpenLoopUser):
    """Long silences and clusters: lognormal gaps, coefficient of variation 4 (or --cv)."""

    load = "heavy-tail"
