"""Which failures are tried again, how often, and after how long. Pure but for the budget, which threads share."""

from __future__ import annotations

import random
import threading
from typing import NamedTuple

from fave.wire.envelope import Failure

_LONGEST_DELAY_S = 10.0


class Rule(NamedTuple):
    """At most `attempts` in all; the delay begins at `first_delay_s` and doubles."""

    attempts: int
    first_delay_s: float


# By slug. What is not here is never tried again: the same input would fail the same way.
RULES = {
    "connect": Rule(5, 0.05),  # never left: nothing has happened
    "busy": Rule(10, 0.5),  # 429: the function's queue is full
    "gateway": Rule(3, 0.2),  # no reply: it may have happened, the store knows
    "platform": Rule(3, 0.2),  # the replica died, or none could be started
    "storage": Rule(4, 0.5),
    "timeout": Rule(2, 0.2),
    "no-space": Rule(2, 1.0),
    "internal": Rule(2, 0.2),
    "llm": Rule(2, 0.5),
}


def delay_s(failure: Failure, attempt: int, *, max_attempts: int, after_s: float = 0.0) -> float | None:
    """Seconds to wait before the next attempt, None when there is none.

    Exponential back-off, of which the second half is random, so that what failed together does not return together.
    after_s: what a `Retry-After` asked for, at least.
    """
    rule = RULES.get(failure.slug)
    if rule is None or not failure.retryable or attempt >= min(rule.attempts, max_attempts):
        return None
    full_s = min(_LONGEST_DELAY_S, rule.first_delay_s * 2 ** (attempt - 1))
    return float(max(after_s, full_s * random.uniform(0.5, 1.0)))


class Budget:
    """Repeats that one request may still make: a broken platform must not be hammered by every invocation."""

    def __init__(self, repeats: int) -> None:
        self.left = repeats
        self._lock = threading.Lock()

    def take(self) -> bool:
        """One repeat; False when none is left."""
        with self._lock:
            if self.left <= 0:
                return False
            self.left -= 1
            return True
