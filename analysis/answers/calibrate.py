"""`make calibrate`: are the verdicts as often wrong, and do the intervals as often hold, as they say?

Campaigns are simulated as they are measured: blocks of whole runs in random order, each block with its own schedule
from the shipped traffic models, replicas that scale to zero, times that vary between requests and between runs and that
drift over the campaign. They are judged by the code that judges real ones, against the truth of their own blocks: what
all campaigns together say of as many.
"""

from __future__ import annotations

import functools
import math
import os
import random
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from analysis.answers import trends, variates
from analysis.answers.variates import Arm
from analysis.rows.simulate import Array, Function, Simulated, Times, simulate
from analysis.statistics import clustered, compare, looks
from analysis.statistics.alternatives import pooled_chi_square, welch_p
from analysis.statistics.clustered import Clustered, Counts, pooled_rate
from analysis.statistics.intervals import pooled_rate_interval
from analysis.words import Table
from fave.campaign.validity import below
from fave.settings import Duration
from fave.traffic.arrivals import generate
from fave.traffic.loads import traffic_of

BLOCKS, LOOKS = (3, 5, 8), (3, 5, 8, 12)
_ALPHA = 0.05
# As in the standard experiment: two a second for a minute, a service of 40 ms, cold starts of half a second.
_RATE_PER_S, _DURATION = 2.0, Duration(60)
_SERVICE_S, _COLD_START_S, _SLOW_S = 0.04, 0.5, 0.2
# Standard deviation of the log of each service and start time, whose means stay.
_SPREAD = 0.3
# A run is faster or slower than another by so much (standard deviation of the log), and the campaign drifts by this.
_BETWEEN_RUNS, _DRIFT = 0.10, 0.30
# A simulator that is wrong: times, routing, and how many replicas there may be.
_WRONG_TIMES = Times.same(1.3 * _SERVICE_S, 1.3 * _COLD_START_S)
_SCHEDULES = 1000
# Power: in so many campaigns, at Holm's strictest step of so many contrasts.
_POWER, _FAMILY = 0.8, 10


class Scenario(NamedTuple):
    """Traffic, and the idle timeouts of A (and of the same again), and of B, which may keep a replica."""

    name: str
    traffic: str
    a_s: float = 1.0
    b_s: float = 1.5
    b_keeps: int = 0


SCENARIOS = (
    Scenario("steady", "steady"),
    Scenario("moderate", "moderate"),
    Scenario("bursty", "bursty", b_s=2.0),
    Scenario("on-off", "on-off"),
    Scenario("heavy-tail", "heavy-tail"),
    Scenario("steady, short timeout", "steady", 0.3, 0.45),
    Scenario("steady, rare", "steady", 2.5, 3.5),
    Scenario("steady, rarer", "steady", 3.5, 5.0),
    Scenario("steady, one kept", "steady", 2.5, 1.0, b_keeps=1),
    Scenario("moderate, one kept", "moderate", 3.0, 3.0, b_keeps=1),
)


class Run(NamedTuple):
    """What a simulated run gives to the statistics. held: replicas on average."""

    cold: int
    requests: int
    slow: int
    held: float


# A, the same again, and B.
Arms = tuple[Run, Run, Run]


class Campaign(NamedTuple):
    """blocks: as many as the last look has. right, wrong: by block, deviations of A and of B by a simulator that is
    right but for times that vary, and by one that is wrong.
    """

    blocks: list[Arms]
    right: list[tuple[float, float]]
    wrong: list[tuple[float, float]]


class Calibrated(NamedTuple):
    """Shares of campaigns, by column; nan where there is nothing to say."""

    scenario: str
    blocks: int
    campaigns: int
    shares: dict[str, float]


class Sequential(NamedTuple):
    """false_alarms: of A against the same again, at any look. blocks: until A - B is decided, median. power_blocks:
    that show A - B in four of five campaigns, judged once, at the strictest of ten contrasts. Each with and without
    the control variate.
    """

    scenario: str
    campaigns: int
    false_alarms: float
    blocks: tuple[float, float]
    power_blocks: tuple[float, float]


class Calibration(NamedTuple):
    table: list[Calibrated]
    sequential: list[Sequential]
    trends: dict[str, float]


def calibrate(campaigns: int, *, seed: int = 20261126, scenarios: Sequence[Scenario] = SCENARIOS) -> Calibration:
    """The same number and seed give the same tables."""
    table: list[Calibrated] = []
    sequential: list[Sequential] = []
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for scenario in scenarios:
            seeds = [f"{seed}:{scenario.name}:{i}" for i in range(campaigns)]
            made = list(processes.map(_campaign, [scenario] * campaigns, seeds, chunksize=8))
            judged = [processes.submit(_judged, scenario, made, blocks) for blocks in BLOCKS]
            looked = processes.submit(_sequential, scenario, made)
            table += [each.result() for each in judged]
            sequential.append(looked.result())
    return Calibration(table, sequential, _noticed(campaigns, seed))


def _functions(scenario: Scenario) -> tuple[Function, Function]:
    a = Function(idle_timeout_s=scenario.a_s, min_replicas=0, max_replicas=2)
    return a, a._replace(idle_timeout_s=scenario.b_s, min_replicas=scenario.b_keeps)


def _arrivals_s(scenario: Scenario, rng: random.Random) -> Array:
    traffic = traffic_of(scenario.traffic, rate_per_s=_RATE_PER_S, duration=_DURATION)
    while True:
        schedule = generate(traffic, rng.randrange(2**32))
        # A run without a request is invalid, and its block is repeated.
        if schedule:
            return np.asarray(schedule, float) / 1e6


def _campaign(scenario: Scenario, seed: str) -> Campaign:
    rng = random.Random(seed)
    a, b = _functions(scenario)
    arms, total = (a, a, b), max(LOOKS)
    found = Campaign([], [], [])
    for block in range(total):
        arrivals_s = _arrivals_s(scenario, rng)
        runs: dict[int, Run] = {}
        for position, arm in enumerate(rng.sample(range(len(arms)), len(arms))):
            elapsed = (block * len(arms) + position) / (total * len(arms))
            runs[arm] = _run(arrivals_s, arms[arm], (1 + _DRIFT * elapsed) * rng.lognormvariate(0, _BETWEEN_RUNS), rng)
        found.blocks.append((runs[0], runs[1], runs[2]))
        for wrong, deviations in ((False, found.right), (True, found.wrong)):
            one, other = (
                _affected(arrivals_s, each, wrong=wrong) - _expected(scenario, which, wrong)[0] * len(arrivals_s)
                for which, each in enumerate((a, b))
            )
            deviations.append((one, other))
    return found


def _run(arrivals_s: Array, function: Function, slower: float, rng: random.Random) -> Run:
    n, chance = len(arrivals_s), np.random.default_rng(rng.getrandbits(64))
    service_s, start_s = (
        mean * slower * chance.lognormal(-(_SPREAD**2) / 2, _SPREAD, n) for mean in (_SERVICE_S, _COLD_START_S)
    )
    found = simulate(arrivals_s, function, Times(service_s, start_s), until_s=float(_DURATION))
    slow = int((found.latency_s > _SLOW_S).sum())
    return Run(int(found.affected.sum()), n, slow, found.provisioned_s / float(_DURATION))


def _affected(arrivals_s: Array, function: Function, *, wrong: bool) -> float:
    return float(_by_simulator(arrivals_s, function, wrong=wrong).affected.sum())


def _by_simulator(arrivals_s: Array, function: Function, *, wrong: bool) -> Simulated:
    if wrong:
        return simulate(arrivals_s, function._replace(longest_idle_first=True, max_replicas=3), _WRONG_TIMES)
    return simulate(arrivals_s, function, Times.same(_SERVICE_S, _COLD_START_S))


@functools.cache
def _expected(scenario: Scenario, which: int, wrong: bool) -> tuple[float, Array]:
    """The rate over many schedules, and each one's deviation from it."""
    rng, function = random.Random(f"expected, {scenario.name}"), _functions(scenario)[which]
    schedules = [_arrivals_s(scenario, rng) for _ in range(_SCHEDULES)]
    seen = np.array([(_affected(each, function, wrong=wrong), len(each)) for each in schedules])
    rate = float(seen[:, 0].sum() / seen[:, 1].sum())
    return rate, (seen[:, 0] - rate * seen[:, 1]) / seen[:, 1].mean()


def _cold(blocks: Sequence[Arms], arm: int) -> list[Counts]:
    return [(block[arm].cold, block[arm].requests) for block in blocks]


def _slow(blocks: Sequence[Arms], arm: int) -> list[Counts]:
    return [(block[arm].slow, block[arm].requests) for block in blocks]


def _paired(a: Sequence[Counts], b: Sequence[Counts]) -> Clustered | None:
    found = clustered.combination([a, b], (1.0, -1.0))
    return found if found.error else None


def _adjusted(scenario: Scenario, campaign: Campaign, blocks: int, arm: int, *, wrong: bool) -> Clustered | None:
    """A less the arm, with the control variate; without it where there is none."""
    deviations, counts, made = campaign.wrong if wrong else campaign.right, [], []
    for each, which in ((0, 0), (arm, int(arm == 2))):
        counts.append(dict(enumerate(_cold(campaign.blocks[:blocks], each))))
        expected = _expected(scenario, which, wrong)[1]
        made.append(Arm({block: deviations[block][which] for block in range(blocks)}, expected))
    moved = variates.adjusted(counts, made, (1.0, -1.0))
    if moved is None:
        return _paired(list(counts[0].values()), list(counts[1].values()))
    found = _paired(*moved.arms)
    return compare.with_extra(found, moved.extra) if found else None


def _judged(scenario: Scenario, campaigns: Sequence[Campaign], blocks: int) -> Calibrated:
    short = [campaign.blocks[:blocks] for campaign in campaigns]
    every = [block for campaign in short for block in campaign]
    rate = pooled_rate(_cold(every, 0))
    difference = rate - pooled_rate(_cold(every, 2))
    slow = pooled_rate(_slow(every, 0)) - pooled_rate(_slow(every, 2))
    held = math.exp(statistics.fmean(math.log(a.held / b.held) for a, _, b in every))
    # Unpaired: against the same regime in another campaign, which had other schedules.
    unpaired = list(zip((_cold(c, 0) for c in short), (_cold(c, 0) for c in [*short[1:], short[0]]), strict=True))
    same = [_paired(_cold(c, 0), _cold(c, 1)) for c in short]
    moved = {wrong: [_adjusted(scenario, c, blocks, 1, wrong=wrong) for c in campaigns] for wrong in (False, True)}
    plain_b = [_paired(_cold(c, 0), _cold(c, 2)) for c in short]
    moved_b = {wrong: [_adjusted(scenario, c, blocks, 2, wrong=wrong) for c in campaigns] for wrong in (False, True)}
    slow_b = [_paired(_slow(c, 0), _slow(c, 2)) for c in short]
    ratios = [compare.paired_ratio([a.held for a, _, _ in c], [b.held for _, _, b in c]) for c in short]
    late = blocks >= compare.CONFIRMATORY_BLOCKS
    shares = {
        "paired": _alarms([each and compare.two_sided(each) for each in same]),
        "adjusted": _alarms([each and compare.two_sided(each) for each in moved[False]]),
        "adjusted wrongly": _alarms([each and compare.two_sided(each) for each in moved[True]]),
        "unpaired": _alarms([compare.unpaired_p(*each) for each in unpaired]),
        "Welch": _alarms([welch_p(*each) for each in unpaired]),
        "chi-square": _alarms([pooled_chi_square(*each) for each in unpaired]),
        # On the margin: the true difference is the margin, and nothing may be called equivalent more often.
        "equivalence": _alarms([d and compare.tost_p(d, abs(difference)) for d in plain_b]) if late else math.nan,
        "rate": _held([_ends(pooled_rate_interval(_cold(c, 0))) for c in short], rate),
        "difference": _held([each and compare.interval(each, 0.95) for each in plain_b], difference),
        "adjusted difference": _held([each and compare.interval(each, 0.95) for each in moved_b[False]], difference),
        "wrongly adjusted": _held([each and compare.interval(each, 0.95) for each in moved_b[True]], difference),
        "slow difference": _held([each and compare.interval(each, 0.95) for each in slow_b], slow),
        "held ratio": _held([_ends(each) for each in ratios], held),
    }
    return Calibrated(scenario.name, blocks, len(campaigns), shares)


def _alarms(p: Sequence[float | None]) -> float:
    return statistics.fmean(each is not None and below(each, _ALPHA) for each in p)


def _ends(found: object) -> tuple[float, float] | None:
    low, high = getattr(found, "low", None), getattr(found, "high", None)
    return None if low is None or high is None else (low, high)


def _held(intervals: Sequence[tuple[float, float] | None], truth: float) -> float:
    """Share of the intervals that hold the truth; one that is missing does not count."""
    known = [each for each in intervals if each is not None]
    return statistics.fmean(low <= truth <= high for low, high in known) if known else math.nan


def _sequential(scenario: Scenario, campaigns: Sequence[Campaign]) -> Sequential:
    """A against the same again and against B, Holm over both, at the looks."""
    ways: list[Callable[[Campaign, int, int], Clustered | None]] = [
        lambda c, n, arm: _adjusted(scenario, c, n, arm, wrong=False),
        lambda c, n, arm: _paired(_cold(c.blocks[:n], 0), _cold(c.blocks[:n], arm)),
    ]
    decided = [[_decided_at(functools.partial(way, campaign)) for campaign in campaigns] for way in ways]
    adjusted, plain = (statistics.median(each[2] or math.inf for each in way) for way in decided)
    with_power, without = (_power_blocks(way, campaigns) for way in ways)
    return Sequential(
        scenario.name,
        len(campaigns),
        statistics.fmean(each[1] is not None for each in decided[0]),
        (adjusted, plain),
        (with_power, without),
    )


def _power_blocks(way: Callable[[Campaign, int, int], Clustered | None], campaigns: Sequence[Campaign]) -> float:
    for blocks in range(BLOCKS[0], max(LOOKS) + 1):
        found = [way(campaign, blocks, 2) for campaign in campaigns]
        shown = [each is not None and below(compare.two_sided(each), _ALPHA / _FAMILY) for each in found]
        if statistics.fmean(shown) >= _POWER:
            return blocks
    return math.inf


def _decided_at(compared: Callable[[int, int], Clustered | None]) -> dict[int, int | None]:
    """By arm (1: the same again, 2: B) the look at which it is called different; None where at none."""
    plan = looks.planned(LOOKS)
    found: dict[int, int | None] = {1: None, 2: None}
    p: dict[int, list[float | None]] = {1: [], 2: []}
    for look in plan:
        for arm, seen in p.items():
            result = compared(look.blocks, arm)
            seen.append(compare.two_sided(result) if result else None)
        shares = [each.share for each in plan[: len(p[1])]]
        adjusted = compare.holm([looks.over(p[arm], shares) for arm in found])
        for arm, value in zip(found, adjusted, strict=True):
            if found[arm] is None and value is not None and below(value, _ALPHA):
                found[arm] = look.blocks
    return found


def _noticed(campaigns: int, seed: int) -> dict[str, float]:
    """Share of campaigns of eight blocks, three regimes, whose mean start times over the blocks are called a trend."""
    found = {}
    for name, drift, jump in (
        ("no drift", 0.0, 1.0),
        ("drifting by 30 %", 0.3, 1.0),
        ("half of it 50 % slower", 0.0, 1.5),
    ):
        chance = np.random.default_rng([seed, round(10 * drift), round(10 * jump)])
        runs = chance.lognormal(0, _BETWEEN_RUNS, (campaigns, 8, 3)) * (1 + drift * np.arange(8) / 8)[:, None]
        runs[:, 4:] *= jump
        found[name] = float(np.mean([trends.correlation(each.mean(axis=1).tolist())[1] < _ALPHA for each in runs]))
    return found


_ALARM_COLUMNS = ("paired", "adjusted", "adjusted wrongly", "unpaired", "equivalence")
_COVERAGE_COLUMNS = (
    "rate",
    "difference",
    "adjusted difference",
    "wrongly adjusted",
    "slow difference",
    "held ratio",
)
_NOT_OFFERED = ("Welch", "chi-square")


def tables(found: Calibration) -> list[Table]:
    campaigns = found.table[0].campaigns if found.table else 0
    error = math.sqrt(0.05 * 0.95 / campaigns) if campaigns else 0.0
    note = (
        f"{campaigns} campaigns of each kind; standard error of 5 %: {error:.1%}; *: not within 3 to 7, or 93 to 97 %"
    )
    alarms = [
        (each.scenario, str(each.blocks), *(_share(each, c, 0.03, 0.07) for c in (*_ALARM_COLUMNS, *_NOT_OFFERED)))
        for each in found.table
    ]
    coverage = [
        (each.scenario, str(each.blocks), *(_share(each, column, 0.93, 0.97) for column in _COVERAGE_COLUMNS))
        for each in found.table
    ]
    sequential = [
        (each.scenario, f"{each.false_alarms:.1%}", *map(_blocks, (*each.blocks, *each.power_blocks)))
        for each in found.sequential
    ]
    noticed = [(name, f"{share:.0%}") for name, share in found.trends.items()]
    offered = (*_ALARM_COLUMNS, *(f"not offered: {each}" for each in _NOT_OFFERED))
    return [
        Table("False alarms", ("traffic", "blocks", *offered), alarms, [note]),
        Table("Intervals hold", ("traffic", "blocks", *_COVERAGE_COLUMNS), coverage),
        Table(
            f"Looks after {', '.join(map(str, LOOKS))} blocks",
            (
                "traffic",
                "false alarms at any look",
                "A - B decided after",
                "unadjusted",
                "80 % power after",
                "unadjusted",
            ),
            sequential,
        ),
        Table("Start times that change are called a trend", ("campaigns", "share"), noticed),
    ]


def _share(each: Calibrated, column: str, low: float, high: float) -> str:
    value = each.shares[column]
    if math.isnan(value):
        return "-"
    offered = column not in _NOT_OFFERED
    return f"{value:.1%}" + "*" * (offered and not low <= value <= high)


def _blocks(value: float) -> str:
    return f"{value:g}" if math.isfinite(value) else f"over {max(LOOKS)}"


def in_markdown(tables: Sequence[Table]) -> str:
    lines: list[str] = []
    for shown in tables:
        rows = [shown.columns, ["---"] * len(shown.columns), *shown.rows]
        lines += [f"*{shown.title}*", "", *("| " + " | ".join(row) + " |" for row in rows), "", *shown.notes, ""]
    return "\n".join(lines).rstrip()
