"""How much a function is asked for: requests in a second, and the most replicas that were planned within a window."""

from __future__ import annotations

from collections import deque


class Rate:
    """Requests per second, over the last seconds that are over."""

    def __init__(self, over_s: int) -> None:
        self._seconds: deque[int] = deque(maxlen=over_s)
        self._now = 0

    def count(self) -> None:
        self._now += 1

    def second_is_over(self) -> float:
        self._seconds.append(self._now)
        self._now = 0
        return sum(self._seconds) / len(self._seconds)


class Highest:
    """The highest of the values that held at some time within a window; each holds until the next is noted."""

    def __init__(self) -> None:
        # Falling values; each since when.
        self._noted: deque[tuple[float, int]] = deque()

    def note(self, now_s: float, value: int) -> None:
        since_s = now_s
        while self._noted and self._noted[-1][1] <= value:
            # Wherever a window has the lower one in it, it has this one, too.
            since_s, _ = self._noted.pop()
        self._noted.append((since_s, value))

    def within(self, window_s: float, now_s: float) -> int:
        """0 where nothing was noted."""
        while len(self._noted) > 1 and self._noted[1][0] <= now_s - window_s:
            self._noted.popleft()
        return self._noted[0][1] if self._noted else 0
