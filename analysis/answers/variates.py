"""Control variates: what the simulator makes of a block's schedule, less what it makes of schedules in general.

Schedules are drawn by chance, and a block with long gaps has more cold starts in every regime that scales to zero. The
simulator knows how many more: subtracting its deviation takes that part of the variance away. The deviation has mean 0
whatever the simulator gets wrong, because block and expectation are of the same law and the same times; so with
coefficient 1 the adjusted rate has the mean of the measured one. With eight blocks and more the coefficient comes from
the other blocks (leave one out), which lets a bad simulator help little instead of harm.

Times are those of other blocks (odd ones for even ones and the reverse), so that what a block happened to take does not
enter its own deviation. The expectation is a mean over finitely many schedules, whose error is added to the variance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.rows import simulate
from analysis.rows.digest import Digest
from analysis.rows.folder import Campaign
from analysis.rows.simulate import Measured, Simulated
from analysis.statistics.clustered import Array, Counts
from analysis.statistics.compare import CONFIRMATORY_BLOCKS, Extra
from fave.campaign.experiment import Load
from fave.campaign.outcomes import COLD, SLOW
from fave.errors import FaveError
from fave.traffic.arrivals import Traffic, generate, seed_for

# Schedules for the expectation; draws of times for each block's own.
_SCHEDULES, _DRAWS = 400, 8
# Arrivals that are simulated for one load at most: fewer schedules where they are long.
_ARRIVALS = 400_000


class Arm(NamedTuple):
    """One regime at one load. deviations: by block, in events (cold arrivals), simulated less expected.

    expected: [schedules] the expectation's own deviations, as rates: their mean is 0 and its error is what is added.
    """

    deviations: Mapping[int, float]
    expected: Array

    @property
    def constant(self) -> bool:
        return not any(self.deviations.values())


class Adjusted(NamedTuple):
    """Counts less coefficient x deviation. coefficients: by arm, their mean over blocks."""

    arms: list[list[Counts]]
    extra: Extra
    coefficients: list[float]


def arms(campaign: Campaign, digests: Sequence[Digest], outcome: str, blocks: int) -> dict[tuple[str, str], Arm]:
    """By load and regime, of what can be simulated, from the first so many blocks alone. digests: of the used runs.

    Empty for a load whose blocks share their arrivals, and of outcomes that are not simulated.
    """
    if outcome not in (*COLD, SLOW):
        return {}
    found: dict[tuple[str, str], Arm] = {}
    for load, about in campaign.experiment.loads.items():
        mine = [each for each in digests if each.run.load == load and each.run.block < blocks and each.predicted]
        traffic = _traffic(about, mine)
        if traffic is None:
            continue
        schedules = [_seconds(generate(traffic, seed_for(campaign.experiment.seed, f"{load}, expected", k)))
                     for k in range(_number(mine))]  # fmt: skip
        schedules = [each for each in schedules if len(each)]
        for regime in campaign.experiment.regimes_of(load):
            arm = _arm([each for each in mine if each.run.regime == regime], mine, schedules, outcome)
            if arm is not None:
                found[load, regime] = arm
    return found


def _traffic(about: Load, mine: Sequence[Digest]) -> Traffic | None:
    """None where there is nothing to draw: no runs that are simulated, or the same arrivals in all blocks."""
    blocks = {each.run.block: each.predicted.arrivals_s for each in mine if each.predicted}
    if len(blocks) < 2:
        return None
    try:
        traffic = about.traffic
        one, other = (generate(traffic, seed) for seed in (1, 2))
    except (FaveError, OSError):
        return None  # a trace that is not here
    return None if list(one) == list(other) else traffic


def _number(mine: Sequence[Digest]) -> int:
    longest = max(len(each.predicted.arrivals_s) for each in mine if each.predicted)
    return max(30, min(_SCHEDULES, _ARRIVALS // (2 * longest)))


def _seconds(schedule: Sequence[int]) -> Array:
    at_s = np.asarray(schedule, float) / 1e6
    return at_s - at_s[0] if len(at_s) else at_s


def _arm(mine: Sequence[Digest], every: Sequence[Digest], schedules: Sequence[Array], outcome: str) -> Arm | None:
    """mine: of the regime. every: of the load, whose times count."""
    deviations: dict[int, float] = {}
    expected = np.zeros(len(schedules))
    total = sum(len(each.predicted.arrivals_s) for each in mine if each.predicted)
    for fold in (0, 1):
        own = [(each.run.block, each.predicted) for each in mine if each.run.block % 2 == fold and each.predicted]
        times = Measured.of_all([e.predicted.seen for e in every if e.predicted and e.run.block % 2 != fold])
        if not own:
            continue
        if not times.service_s:
            return None
        pool, (_, one) = simulate.Pool(times, fold), own[0]
        seen = np.array([(_events(one, schedule, pool, outcome), len(schedule)) for schedule in schedules])
        rate = seen[:, 0].sum() / seen[:, 1].sum()
        share = sum(len(each.arrivals_s) for _, each in own) / total
        expected += share * (seen[:, 0] - rate * seen[:, 1]) / seen[:, 1].mean()
        # Where several tries of a block are given, their counts are added up, and so is this.
        for block, each in own:
            drawn = [_events(each, each.arrivals_s, pool, outcome) for _ in range(_DRAWS)]
            found = float(np.mean(drawn) - rate * len(each.arrivals_s))
            deviations[block] = deviations.get(block, 0.0) + found
    return Arm(deviations, expected)


def _events(one: simulate.Predicted, arrivals_s: Array, pool: simulate.Pool, outcome: str) -> float:
    """Of arrivals in one's function."""
    found = simulate.simulate(arrivals_s, one.function, pool.draw(len(arrivals_s)), one.initial)
    return events(found, outcome, one.limit_s)


def events(found: Simulated, outcome: str, limit_s: float | None) -> float:
    if outcome != SLOW:
        return float(found.affected.sum())
    return 0.0 if limit_s is None else float((found.latency_s > limit_s).sum())


def adjusted(
    counts: Sequence[Mapping[int, Counts]], variates: Sequence[Arm | None], weights: Sequence[float]
) -> Adjusted | None:
    """counts: by block, of each arm, over the same blocks. None where nothing can be adjusted, or a rate leaves (0, 1).

    An arm that is constant, measured or simulated, stays as it is.
    """
    blocks = sorted(counts[0])
    estimated = len(blocks) >= CONFIRMATORY_BLOCKS
    made: list[list[Counts]] = []
    coefficients: list[float] = []
    error = np.zeros(1)
    for arm, variate, weight in zip(counts, variates, weights, strict=True):
        measured = [arm[block] for block in blocks]
        events, trials = np.asarray(measured, float).T
        constant = float(np.ptp(events / trials)) < 1e-12
        if variate is None or variate.constant or constant or not all(b in variate.deviations for b in blocks):
            made.append(measured)
            coefficients.append(0.0)
            continue
        deviations = np.array([variate.deviations[block] for block in blocks])
        each = _left_out(events, trials, deviations) if estimated else np.ones(len(blocks))
        events = events - each * deviations
        if not 0 < events.sum() < trials.sum():
            return None
        made.append(list(zip(events.tolist(), trials.tolist(), strict=True)))
        coefficients.append(float(each.mean()))
        error = error + weight * float(each.mean()) * variate.expected
    if not any(coefficients):
        return None
    variance = float(error.var() / len(error)) if len(error) > 1 else 0.0
    return Adjusted(made, Extra(variance, int(estimated)), coefficients)


def _left_out(events: Array, trials: Array, deviations: Array) -> Array:
    """The coefficient of each block, from the others: least squares through 0 of residuals on deviations."""
    residuals = events - events.sum() / trials.sum() * trials
    products, squares = residuals * deviations, deviations**2
    left = squares.sum() - squares
    found: Array = np.where(left > 0, (products.sum() - products) / np.where(left > 0, left, 1.0), 0.0)
    return found
