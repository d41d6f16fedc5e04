"""Seeded open-loop schedules: integer microseconds from the start of the run, ascending, made one at a time.

Draws come from `random.Random.random()` alone, whose stream is stable across Python versions; gaps are rounded to
microseconds before they are summed, because `math.log` may differ in its last bit between machines.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from fave.errors import ConfigError
from fave.settings import Duration
from fave.traffic import csv_file, gaps, traces
from fave.traffic.gaps import Draw
from fave.traffic.traces import MOST_ARRIVALS, Trace

Schedule = tuple[int, ...]
_US = 1_000_000
# Digits of a time in a schedule: some thirty thousand years.
_LONGEST_US = 18


class Modulation(msgspec.Struct, frozen=True, kw_only=True):
    """A rate that changes over the run, by a change of time: the model's clock runs faster where there is more load.

    sinusoidal: 1 + amplitude x sin(2 pi t / period) times the mean rate. ramp: from `start` times the mean rate in a
    straight line to 2 - `start` times.
    """

    shape: Literal["sinusoidal", "ramp"]
    period: Duration = Duration(0)
    amplitude: float = 0.0
    start: float = 1.0

    def __post_init__(self) -> None:
        problems = []
        if self.shape == "sinusoidal":
            if self.period <= 0:
                problems.append("period: a sinusoidal rate needs one, longer than 0")
            if not 0 < self.amplitude <= 1:
                problems.append(f"amplitude: {self.amplitude:g} must be over 0 and at most 1")
        elif self.period or self.amplitude:
            problems.append("period, amplitude: only for shape 'sinusoidal'")
        if self.shape == "ramp" and not (0 <= self.start <= 2 and self.start != 1):
            problems.append(f"start: {self.start:g} must lie between 0 and 2, and not be 1 (that is no ramp)")
        if self.shape != "ramp" and self.start != 1:
            problems.append("start: only for shape 'ramp'")
        if problems:
            raise ValueError("\n".join(problems))

    def elapsed(self, t_s: float, duration_s: float) -> float:
        """The model's time after `t_s`: the integral of the relative rate, not normalised."""
        if self.shape == "ramp":
            return t_s * (self.start + (1 - self.start) * t_s / duration_s)
        wave = 2 * math.pi / self.period
        return t_s + self.amplitude / wave * (1 - math.cos(wave * t_s))


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """A traffic model and its parameters.

    Given their count (exactly `requests` arrivals over `duration`):
    poisson: independent and uniform over `duration`. paced: one every `duration / requests`, the first at 0.
    bursts: `bursts` equally spaced windows of `burst_length`, with `requests` shared out evenly among them, each share
        uniform within its window (an on-off process given its counts).

    With `requests` as the expected number, started in equilibrium:
    gamma, lognormal, weibull, hyperexponential: independent gaps with mean `duration / requests` and coefficient of
        variation `cv`.
    on-off: a Markov-modulated Poisson process of two states, which last `on_mean` and `off_mean` on average; the rate
        while off is `off_share` of that while on (0: silence).

    replay: the arrivals of `trace` within `duration`.

    phases: one kind of traffic after another; duration and requests are those of all `phases` together.

    rate_per_s: instead of `requests`, which is then rate_per_s x duration, rounded.
    """

    model: Literal[
        "poisson", "paced", "bursts", "gamma", "lognormal", "weibull", "hyperexponential", "on-off", "replay", "phases"
    ]
    duration: Duration = Duration(0)
    requests: int = 0
    rate_per_s: float = 0.0
    bursts: int = 0
    burst_length: Duration = Duration(0)
    cv: float = 0.0
    on_mean: Duration = Duration(0)
    off_mean: Duration = Duration(0)
    off_share: float = 0.0
    modulation: Modulation | None = None
    trace: Trace | None = None
    phases: tuple[Traffic, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if self.model == "phases":
            duration = Duration(sum(each.duration for each in self.phases))
            requests = sum(each.requests for each in self.phases)
            # As they are written, they are read again.
            said = self.duration in (0, duration) and self.requests in (0, requests)
            if not said or self.rate_per_s or self.modulation:
                problems.append("duration, requests, rate_per_s, modulation: each phase has its own")
            msgspec.structs.force_setattr(self, "duration", duration)
            msgspec.structs.force_setattr(self, "requests", requests)
        expected = self.rate_per_s * max(0.0, self.duration)
        if not expected >= 0:
            problems.append(f"rate_per_s: {self.rate_per_s:g} is no rate that could be sent")
        elif expected > MOST_ARRIVALS:
            problems.append(f"rate_per_s: {self.rate_per_s:g} for {self.duration}: {too_many(expected)}")
        elif self.rate_per_s:
            requests = round(expected)
            if self.requests not in (0, requests):
                problems.append(
                    f"requests: {self.requests} is not rate_per_s {self.rate_per_s:g} x duration; give one of them"
                )
            msgspec.structs.force_setattr(self, "requests", requests)
        if self.requests > MOST_ARRIVALS:
            problems.append(f"requests: {too_many(self.requests)}")
        if self.model not in ("replay", "phases") and self.requests < 1:
            problems.append(f"requests: {self.requests} must be at least 1")
        if self.model == "replay" and self.requests:
            problems.append("requests: the trace says how many there are; scale it with speed or keep")
        if self.duration <= 0:
            problems.append("duration: must be longer than 0")
        problems += [
            f"{', '.join(keys)}: only for model {models}, not {self.model!r}"
            for keys, models, mine in (
                (("bursts", "burst_length"), "'bursts'", self.model == "bursts"),
                (("cv",), ", ".join(map(repr, gaps.RENEWAL)), self.model in gaps.RENEWAL),
                (("on_mean", "off_mean", "off_share"), "'on-off'", self.model == "on-off"),
                (("trace",), "'replay'", self.model == "replay"),
                (("phases",), "'phases'", self.model == "phases"),
            )
            if not mine and any(getattr(self, key) for key in keys)
        ]
        problems += self._missing()
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def traces(self) -> tuple[Trace, ...]:
        """That it replays."""
        return tuple(each.trace for each in (self, *self.phases) if each.trace)

    def _missing(self) -> list[str]:
        if self.model == "bursts":
            if not 1 <= self.bursts <= MOST_ARRIVALS:
                return [f"bursts: model 'bursts' needs at least 1, and at most {MOST_ARRIVALS:,}"]
            if not 0 < self.burst_length <= self.duration / self.bursts:
                longest_s = self.duration / self.bursts
                return [f"burst_length: must be over 0 and at most duration / bursts = {longest_s:g}s"]
        if self.model in gaps.RENEWAL:
            _, low, high = gaps.RENEWAL[self.model]
            if not low < self.cv <= high:
                return [f"cv: {self.cv:g} must be over {low:g} and at most {high:g} for model {self.model!r}"]
        if self.model == "on-off" and (self.on_mean <= 0 or self.off_mean <= 0 or not 0 <= self.off_share < 1):
            return ["on_mean, off_mean: must be longer than 0; off_share: at least 0 and below 1"]
        if self.model == "on-off" and self.duration > MOST_ARRIVALS * (self.on_mean + self.off_mean):
            return [f"on_mean, off_mean: too short to change over more than {MOST_ARRIVALS:,} times in the duration"]
        if self.model == "phases" and (len(self.phases) < 2 or any(each.phases for each in self.phases)):
            return ["phases: two or more, none of which has phases itself"]
        if self.model == "replay" and self.trace is None:
            return ["trace: model 'replay' needs one"]
        return []


def too_many(arrivals: float) -> str:
    """Why a run of so many is refused."""
    said = f"{arrivals:,.0f}" if arrivals < _US**3 else "over 10^18"
    return f"{said} arrivals; a run may have {MOST_ARRIVALS:,}: lower the rate or shorten the duration"


def seed_for(seed: int, load: str, block: int) -> int:
    """A block's seed: the first 8 bytes of SHA-256 over (seed, load, block), so that loads are independent."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{load}/{block}".encode()).digest()[:8], "big")


def stream(traffic: Traffic, seed: int) -> Iterator[int]:
    """The schedule, one arrival at a time: ascending integer microseconds in [0, duration).

    Raises
    ------
    ConfigError
        For a trace that cannot be replayed, with file and line.
    """
    if traffic.phases:
        return _in_turn(traffic.phases, seed)
    draw = random.Random(seed).random
    end_us = math.floor(traffic.duration * _US)
    times = _MODELS.get(traffic.model, _renewal)(traffic, draw)
    if traffic.modulation:
        times = _warped(times, traffic.modulation, traffic.duration)
    return (at_us for at_us in times if at_us < end_us)


def generate(traffic: Traffic, seed: int) -> Schedule:
    """The whole schedule at once.

    Raises
    ------
    ConfigError
        As `stream` does, and when there are more than `MOST_ARRIVALS`.
    """
    return tuple(_limited(stream(traffic, seed)))


def _limited(schedule: Iterable[int]) -> Iterator[int]:
    for count, at_us in enumerate(schedule):
        if count == MOST_ARRIVALS:
            raise ConfigError(
                f"the schedule has more than {MOST_ARRIVALS:,} arrivals in its first {at_us / _US:,.1f} s",
                hint="a lower rate, a shorter duration, or a smaller share of the trace",
            )
        yield at_us


def _in_turn(phases: Iterable[Traffic], seed: int) -> Iterator[int]:
    """Each with a seed of its own."""
    begins_us = 0
    for i, each in enumerate(phases):
        yield from (begins_us + at_us for at_us in stream(each, seed_for(seed, each.model, i)))
        begins_us += round(each.duration * _US)


def _paced(traffic: Traffic, _: Draw) -> Iterator[int]:
    return (math.floor(k * traffic.duration / traffic.requests * _US) for k in range(traffic.requests))


def _poisson(traffic: Traffic, draw: Draw) -> Iterator[int]:
    return (math.floor(u * traffic.duration * _US) for u in _sorted_uniforms(traffic.requests, draw))


def _bursts(traffic: Traffic, draw: Draw) -> Iterator[int]:
    for burst in range(traffic.bursts):
        start_s = burst * traffic.duration / traffic.bursts
        count = traffic.requests // traffic.bursts + (burst < traffic.requests % traffic.bursts)
        for u in _sorted_uniforms(count, draw):
            yield math.floor((start_s + u * traffic.burst_length) * _US)


def _sorted_uniforms(count: int, draw: Draw) -> Iterator[float]:
    """Order statistics one after the other: given the k-th, the rest are uniform above it (Bentley and Saxe, 1980)."""
    left = 1.0
    for remaining in range(count, 0, -1):
        left *= (1 - draw()) ** (1 / remaining)
        yield 1 - left


def _renewal(traffic: Traffic, draw: Draw) -> Iterator[int]:
    sample = gaps.RENEWAL[traffic.model][0](traffic.cv)
    mean_us = traffic.duration / traffic.requests * _US
    # A renewal process that begins with a gap of its own has too many arrivals early when gaps vary much. So it begins
    # long before the run, and what falls there is thrown away.
    at_us = -round(20 * (1 + traffic.cv**2) * mean_us)
    end_us = traffic.duration * _US
    while at_us < end_us:
        at_us += round(sample(draw) * mean_us)
        if at_us >= 0:
            yield at_us


def _on_off(traffic: Traffic, draw: Draw) -> Iterator[int]:
    on_s, off_s = float(traffic.on_mean), float(traffic.off_mean)
    on_share = on_s / (on_s + off_s)
    mean_per_s = traffic.requests / traffic.duration
    on_per_s = mean_per_s / (on_share + traffic.off_share * (1 - on_share))
    on = draw() < on_share
    at_us, until_us = 0, 0
    end_us = traffic.duration * _US
    while at_us < end_us:
        until_us += round(gaps.exponential(draw) * (on_s if on else off_s) * _US)
        rate_per_s = on_per_s if on else on_per_s * traffic.off_share
        while rate_per_s:
            # Exact: an exponential gap has no memory of the change of state.
            next_us = at_us + round(gaps.exponential(draw) / rate_per_s * _US)
            if next_us >= until_us:
                break
            at_us = next_us
            yield at_us
        at_us, on = until_us, not on


def _replay(traffic: Traffic, draw: Draw) -> Iterator[int]:
    assert traffic.trace is not None
    return (math.floor(at_s * _US) for at_s in traces.replay(traffic.trace, traffic.duration, draw))


_MODELS: dict[str, Callable[[Traffic, Draw], Iterator[int]]] = {
    "paced": _paced,
    "poisson": _poisson,
    "bursts": _bursts,
    "on-off": _on_off,
    "replay": _replay,
}


def _warped(times_us: Iterable[int], modulation: Modulation, duration_s: float) -> Iterator[int]:
    whole = modulation.elapsed(duration_s, duration_s)
    low_s = 0.0
    for at_us in times_us:
        wanted = at_us / _US / duration_s * whole
        high_s = duration_s
        for _ in range(50):  # 2^-50 of any duration is far below a microsecond
            middle_s = (low_s + high_s) / 2
            low_s, high_s = (
                (middle_s, high_s) if modulation.elapsed(middle_s, duration_s) < wanted else (low_s, middle_s)
            )
        yield math.floor(high_s * _US)


class _Digest:
    """SHA-256 of arrivals in microseconds, one a line, taken as they come."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._separator = b""

    def add(self, at_us: int) -> None:
        self._hash.update(self._separator + str(at_us).encode())
        self._separator = b"\n"

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def sha256(schedule: Iterable[int]) -> str:
    """Of the arrivals in microseconds, one a line."""
    digest = _Digest()
    for at_us in schedule:
        digest.add(at_us)
    return digest.hexdigest()


class Share(NamedTuple):
    """The arrivals of one of `slots` processes: its i-th is arrival k = slot + i x slots of the `total`.

    sha256 is that of the whole schedule, so that processes can be held to the same one.
    """

    slot: int
    slots: int
    at_us: array[int]
    total: int
    sha256: str

    def k_of(self, index: int) -> int:
        return self.slot + index * self.slots


def take_share(schedule: Iterable[int], slot: int, slots: int) -> Share:
    """Keep every arrival k with k % slots == slot; the others are only counted and hashed.

    Raises
    ------
    ValueError
        For arrivals that are no integers, negative or not in order.
    ConfigError
        For more than `MOST_ARRIVALS`.
    """
    at_us: array[int] = array("q")
    digest = _Digest()
    total = last_us = 0
    for total, each in enumerate(_limited(schedule), start=1):
        if not isinstance(each, int) or each < last_us:
            raise ValueError(f"arrival {total - 1}: {each!r} is not a whole microsecond at or after {last_us}")
        last_us = each
        digest.add(each)
        if (total - 1) % slots == slot:
            at_us.append(each)
    return Share(slot, slots, at_us, total, digest.hexdigest())


def write_csv(path: Path, schedule: Iterable[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("k,at_us\n" + "".join(f"{k},{at_us}\n" for k, at_us in enumerate(schedule)), encoding="utf-8")


def read_csv(path: Path) -> Iterator[int]:
    """A schedule as `write_csv` wrote it, or as a spreadsheet saved it, line by line.

    Raises
    ------
    ConfigError
        For a file that is missing, malformed or not sorted, with the line.
    """
    form = csv_file.recognise(path)
    number, at = form.places("k", "at_us")
    last_us = 0
    for k, (line, cells) in enumerate(csv_file.rows(form)):
        text = cells[at].strip()
        at_us = int(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_US else -1
        if cells[number].strip() != str(k) or at_us < last_us:
            said = f"k {cells[number]!r}, at_us {cells[at]!r}"
            raise ConfigError(
                f"{path}:{line}: {said} is not arrival {k}, in whole microseconds at or after {last_us}",
                hint="k counts from 0, at_us ascends and has the digits 0 to 9 alone",
            )
        last_us = at_us
        yield at_us
