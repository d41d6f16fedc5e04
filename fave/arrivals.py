"""Seeded open-loop schedules: integer microseconds from the start of the run, sorted.

Draws come from `random.Random.random()` alone, whose stream is stable across Python versions; times are rounded to
microseconds before they are hashed, because `math.log` may differ in its last bit between machines.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from fave.errors import ConfigError
from fave.settings import Duration

Schedule = tuple[int, ...]


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """A traffic model and its parameters.

    poisson: `requests` arrivals as sorted uniforms over `duration` (a Poisson process given its count).
    paced: `requests` arrivals, one every `duration / requests`, the first at 0.
    bursts: `bursts` equally spaced windows of `burst_length`, with `requests` shared out evenly among them,
        each share uniform within its window (an on-off process given its counts).
    """

    model: Literal["poisson", "paced", "bursts"]
    requests: int
    duration: Duration
    bursts: int = 0
    burst_length: Duration = Duration(0)

    def __post_init__(self) -> None:
        problems = []
        if self.requests < 1:
            problems.append(f"requests: {self.requests} must be at least 1")
        if self.duration <= 0:
            problems.append("duration: must be longer than 0")
        if self.model != "bursts" and (self.bursts or self.burst_length):
            problems.append(f"bursts, burst_length: only for model 'bursts', not {self.model!r}")
        if self.model == "bursts":
            if self.bursts < 1:
                problems.append("bursts: model 'bursts' needs at least 1")
            elif not 0 < self.burst_length <= self.duration / self.bursts:
                problems.append(
                    f"burst_length: must be over 0 and at most duration / bursts = {self.duration / self.bursts:g}s"
                )
        if problems:
            raise ValueError("\n".join(problems))


def seed_for(seed: int, load: str, block: int) -> int:
    """A block's seed: the first 8 bytes of SHA-256 over (seed, load, block), so that loads are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{load}/{block}".encode()).digest()[:8], "big")


def generate(traffic: Traffic, seed: int) -> Schedule:
    """The schedule: sorted integer microseconds in [0, duration)."""
    draw = random.Random(seed).random
    if traffic.model == "paced":
        times_s = [k * traffic.duration / traffic.requests for k in range(traffic.requests)]
    elif traffic.model == "poisson":
        times_s = [draw() * traffic.duration for _ in range(traffic.requests)]
    else:
        times_s = _bursts(traffic, draw)
    return tuple(sorted(math.floor(time_s * 1e6) for time_s in times_s))


def _bursts(traffic: Traffic, draw: Callable[[], float]) -> list[float]:
    period_s = traffic.duration / traffic.bursts
    return [(k % traffic.bursts) * period_s + draw() * traffic.burst_length for k in range(traffic.requests)]


def sha256(schedule: Schedule) -> str:
    return hashlib.sha256("\n".join(map(str, schedule)).encode()).hexdigest()


def share(schedule: Sequence[int], slot: int, slots: int) -> list[tuple[int, int]]:
    """The arrivals (k, at_us) that process `slot` of `slots` sends: those with k % slots == slot."""
    return [(k, at_us) for k, at_us in enumerate(schedule) if k % slots == slot]


def write_csv(path: Path, schedule: Schedule) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("k,at_us\n" + "".join(f"{k},{at_us}\n" for k, at_us in enumerate(schedule)), encoding="utf-8")


def read_csv(path: Path) -> Schedule:
    """A schedule as `write_csv` wrote it.

    Raises
    ------
    ConfigError
        For a file that is missing, malformed or not sorted, with the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    schedule: list[int] = []
    for number, line in enumerate(lines[1:], start=2):
        k, _, at_us = line.partition(",")
        if k != str(len(schedule)) or not at_us.isdigit() or (schedule and int(at_us) < schedule[-1]):
            raise ConfigError(f"{path}:{number}: {line!r} is not the next `k,at_us` in order")
        schedule.append(int(at_us))
    return tuple(schedule)
