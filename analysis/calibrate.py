"""`make calibrate`: are the verdicts as often wrong, and do the intervals as often hold, as they say?

Campaigns are simulated as they are measured: blocks of whole runs in random order, each block with its own schedule
from the shipped traffic models, replicas that scale to zero, times that vary between requests and between runs and that
drift over the campaign. They are judged by the code that judges real ones.
"""

from __future__ import annotations

import math
import os
import random
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from analysis import compare, simulate
from analysis.alternatives import pooled_chi_square, welch_p
from analysis.clustered import pooled_rate
from analysis.intervals import pooled_rate_interval
from analysis.simulate import Function, Times
from analysis.words import Table
from fave.arrivals import generate
from fave.loads import traffic_of
from fave.settings import Duration
from fave.validity import below

KINDS = ("steady", "moderate", "bursty", "on-off", "heavy-tail")
BLOCKS = (5, 8, 10)
_ALPHA = 0.05
# As in the standard experiment: two a second for a minute, a service of 40 ms, cold starts of half a second.
_RATE_PER_S, _DURATION = 2.0, Duration(60)
_BASE = Function(idle_timeout_s=1.0, min_replicas=0, max_replicas=2)
_SERVICE_S, _COLD_START_S = 0.04, 0.5
# Standard deviation of the log of each service and start time, whose means stay.
_SPREAD = 0.3
_OTHER = _BASE._replace(idle_timeout_s=2.0)
# A run is faster or slower than another by so much (standard deviation of the log), and the campaign drifts by this.
_BETWEEN_RUNS, _DRIFT = 0.10, 0.30
_ARMS = (_BASE, _BASE, _OTHER)
COLUMNS = (
    "traffic",
    "blocks",
    "false alarms, paired: t",
    "sign-flip",
    "unpaired: Welch",
    "CR2",
    "pooled chi-square",
    "interval holds: rate",
    "difference",
    "p95 ratio",
)


class Run(NamedTuple):
    """What a simulated run gives to the statistics."""

    cold: int
    requests: int
    p95_s: float

    @property
    def rate(self) -> float:
        return self.cold / self.requests


# Block by block: A, the same again, and B.
Campaign = list[tuple[Run, Run, Run]]


class Calibrated(NamedTuple):
    """Shares of campaigns. None where a method cannot say anything."""

    kind: str
    blocks: int
    campaigns: int
    false_alarms: dict[str, float]
    coverage: dict[str, float]


def calibrate(campaigns: int, *, seed: int = 20261124, kinds: Sequence[str] = KINDS) -> list[Calibrated]:
    """Of each kind of traffic; the same number and seed give the same table."""
    found: list[Calibrated] = []
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for kind in kinds:
            seeds = [f"{seed}:{kind}:{i}" for i in range(campaigns)]
            made = list(processes.map(_campaign, [kind] * campaigns, seeds, chunksize=8))
            found += list(processes.map(_judged, [kind] * len(BLOCKS), [made] * len(BLOCKS), BLOCKS))
    return found


def _campaign(kind: str, seed: str) -> Campaign:
    rng = random.Random(seed)
    traffic = traffic_of(kind, rate_per_s=_RATE_PER_S, duration=_DURATION)
    campaign = []
    total = max(BLOCKS)
    for block in range(total):
        arrivals_s: list[float] = []
        # A run without a request is invalid, and its block is repeated.
        while not arrivals_s:
            arrivals_s = [at_us / 1e6 for at_us in generate(traffic, rng.randrange(2**32))]
        runs: dict[int, Run] = {}
        order = rng.sample(range(len(_ARMS)), len(_ARMS))
        for position, arm in enumerate(order):
            elapsed = (block * len(_ARMS) + position) / (total * len(_ARMS))
            runs[arm] = _run(arrivals_s, _ARMS[arm], elapsed, rng)
        campaign.append((runs[0], runs[1], runs[2]))
    return campaign


def _run(arrivals_s: Sequence[float], function: Function, elapsed: float, rng: random.Random) -> Run:
    slower = (1 + _DRIFT * elapsed) * rng.lognormvariate(0, _BETWEEN_RUNS)
    n = len(arrivals_s)
    times = Times(_spread(_SERVICE_S * slower, n, rng), _spread(_COLD_START_S * slower, n, rng))
    found = simulate.simulate(arrivals_s, function, times)
    return Run(int(found.affected.sum()), n, float(np.quantile(found.done_s - np.asarray(arrivals_s), 0.95)))


def _spread(seconds: float, n: int, rng: random.Random) -> simulate.Array:
    return np.array([seconds * rng.lognormvariate(-(_SPREAD**2) / 2, _SPREAD) for _ in range(n)])


def _judged(kind: str, campaigns: Sequence[Campaign], blocks: int) -> Calibrated:
    """The truth is what all campaigns together say, in all their blocks."""
    every = [block for campaign in campaigns for block in campaign]
    rate = pooled_rate(_counts(every, 0))
    difference = rate - pooled_rate(_counts(every, 2))
    ratio = math.exp(statistics.fmean(math.log(a.p95_s / b.p95_s) for a, _, b in every))
    short = [campaign[:blocks] for campaign in campaigns]
    # Unpaired: against the same regime in another campaign, which had other schedules.
    others = [*short[1:], short[0]]
    tests: dict[str, Callable[[Campaign, Campaign], float | None]] = {
        "paired t": lambda c, _: _paired(c, 1).p,
        "sign-flip": lambda c, _: _paired(c, 1).p_sign_flip,
        "Welch": lambda c, d: welch_p(_counts(c, 0), _counts(d, 0)),
        "CR2": lambda c, d: compare.unpaired_p(_counts(c, 0), _counts(d, 0)),
        "chi-square": lambda c, d: pooled_chi_square(_counts(c, 0), _counts(d, 0)),
    }
    alarms = {
        name: statistics.fmean(
            (p := test(c, d)) is not None and below(p, _ALPHA) for c, d in zip(short, others, strict=True)
        )
        for name, test in tests.items()
    }
    coverage = {
        "rate": _held((_ends(pooled_rate_interval(_counts(c, 0))) for c in short), rate),
        "difference": _held((_paired(c, 2).ci95 for c in short), difference),
        "p95 ratio": _held((_ends(_p95_ratio(c)) for c in short), ratio),
    }
    return Calibrated(kind, blocks, len(campaigns), alarms, coverage)


def _paired(campaign: Campaign, arm: int) -> compare.Paired:
    return compare.paired(_counts(campaign, 0), _counts(campaign, arm), margin=0.05)


def _p95_ratio(campaign: Campaign) -> compare.Ratio:
    return compare.paired_ratio([a.p95_s for a, _, _ in campaign], [b.p95_s for _, _, b in campaign])


def _counts(campaign: Campaign, arm: int) -> list[tuple[int, int]]:
    return [(block[arm].cold, block[arm].requests) for block in campaign]


def _ends(found: object) -> tuple[float, float] | None:
    low, high = getattr(found, "low", None), getattr(found, "high", None)
    return None if low is None or high is None else (low, high)


def _held(intervals: object, truth: float) -> float:
    """Share of the intervals that hold the truth; one that is missing does not count."""
    known = [each for each in intervals if each is not None]  # type: ignore[attr-defined]
    return statistics.fmean(low <= truth <= high for low, high in known) if known else math.nan


def table(found: Sequence[Calibrated]) -> Table:
    rows = [
        (
            each.kind,
            str(each.blocks),
            *(f"{each.false_alarms[name]:.1%}" for name in ("paired t", "sign-flip", "Welch", "CR2", "chi-square")),
            *(f"{each.coverage[name]:.1%}" for name in ("rate", "difference", "p95 ratio")),
        )
        for each in found
    ]
    campaigns = found[0].campaigns if found else 0
    error = math.sqrt(0.05 * 0.95 / campaigns) if campaigns else 0.0
    return Table("", COLUMNS, rows, [f"{campaigns} campaigns of each kind; standard error of 5 %: {error:.1%}"])


def in_markdown(found: Sequence[Calibrated]) -> str:
    shown = table(found)
    lines = [shown.columns, ["---"] * len(shown.columns), *shown.rows]
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", *shown.notes])
