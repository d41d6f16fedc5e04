"""Is one arm worse than another, in any outcome? What `not_worse` of an experiment asks, as a machine needs it.

Worse is more: of cold starts, of time, of memory, of money. Whether a is worse is tested by flipping the signs of whole
blocks, in all outcomes at once, and by the greatest statistic over them, step by step (Westfall and Young,
Resampling-Based Multiple Testing, 1993, algorithm 2.8): outcomes that go together are not adjusted for twice, and that
something is called worse though nothing is, happens in one of twenty campaigns. Below five blocks nothing is: 2^-4 is
more than 5 %. That nothing is worse by more than its margin needs every outcome to show it, each at 5 % (an
intersection-union test needs no adjustment: Berger, Technometrics 24(4), 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.statistics.clustered import Array
from analysis.statistics.compare import CONFIRMATORY_BLOCKS
from fave.campaign.experiment import Experiment
from fave.campaign.outcomes import OUTCOMES
from fave.campaign.results import Contrast, Guard, State
from fave.campaign.validity import below

_ALPHA = 0.05
# All sign flips up to so many blocks together; else so many draws.
_EXACT_BLOCKS, _DRAWS = 14, 20_000
_ROUNDING = 1e-9


class Compared(NamedTuple):
    """One outcome of a pair at one load, on the scale on which arms are compared. blocks: a less b, block by block.

    difference, error, df: of all together, None where nothing varies. p_worse, p_within: at least so much, where some
    arrivals have no label and may be at either end.
    """

    load: str
    blocks: tuple[float, ...]
    difference: float
    error: float | None
    df: float | None
    margin: float
    p_worse: float = 0.0
    p_within: float = 0.0


class Judged(NamedTuple):
    """p_worse: adjusted over the family."""

    p_worse: float
    p_within: float

    @property
    def state(self) -> State:
        if below(self.p_worse, _ALPHA):
            return "worse"
        return "within" if below(self.p_within, _ALPHA) else "undecided"


def judged(family: Sequence[Compared]) -> list[Judged]:
    """All outcomes of one pair."""
    if not family:
        return []
    return [
        Judged(max(p, each.p_worse), max(_p_within(each), each.p_within))
        for each, p in zip(family, _p_worse(family), strict=True)
    ]


def _p_worse(family: Sequence[Compared]) -> list[float]:
    """Step-down: the greatest is compared with the greatest of all, the next with that of those that are left."""
    observed, flipped = _statistics(family)
    adjusted, highest = [0.0] * len(family), 0.0
    left = list(np.argsort(-observed))
    while left:
        first = left[0]
        highest = max(highest, float((flipped[:, left].max(axis=1) >= observed[first] - _ROUNDING).mean()))
        adjusted[first] = highest
        del left[0]
    return adjusted


def _statistics(family: Sequence[Compared]) -> tuple[Array, Array]:
    """(outcomes,) as observed, and (flips, outcomes): sums of block differences over the root of their squares, which
    grows with t. Outcomes of one load share their blocks, and so their signs.
    """
    loads = {each.load: len(each.blocks) for each in family}
    total, at, start = sum(loads.values()), dict[str, slice](), 0
    for load, blocks in loads.items():
        at[load], start = slice(start, start + blocks), start + blocks
    if total <= _EXACT_BLOCKS:
        signs = 1 - 2 * ((np.arange(2**total)[:, None] >> np.arange(total)) & 1)
    else:
        signs = np.random.default_rng(0).choice((-1, 1), (_DRAWS, total))
        signs[0] = 1
    found = [_standardised(signs[:, at[each.load]] @ np.asarray(each.blocks), each.blocks) for each in family]
    observed = [_standardised(np.sum(each.blocks), each.blocks) for each in family]
    return np.array(observed, float), np.column_stack(found)


def _standardised(sums: Array, blocks: Sequence[float]) -> Array:
    size = float(np.sqrt(np.square(blocks).sum()))
    found: Array = sums / size if size else sums * 0.0
    return found


def _p_within(each: Compared) -> float:
    """That a is not more than b by the margin or more. What does not vary lies below it, or not.

    As for equivalence, few blocks show nothing: their t interval depends on their being normal.
    """
    if len(each.blocks) < CONFIRMATORY_BLOCKS:
        return 1.0
    if not each.error or each.df is None:
        return float(each.difference >= each.margin)
    return float(stats.t.sf((each.margin - each.difference) / each.error, each.df))


def guards(experiment: Experiment, contrasts: Sequence[Contrast]) -> list[Guard]:
    """contrasts: of primary and secondary outcomes. Where no replica was started nobody asks how long that took."""
    found: list[Guard] = []
    for pair in experiment.not_worse:
        mine = [
            row for row in contrasts if (row.a, row.b) == pair and (row.outcome != "start_s" or any(row.rates.values()))
        ]
        known = [(row, _tested(row, row.difference)) for row in mine if row.difference is not None]
        results = {row.outcome + row.load: each for (row, _), each in
                   zip(known, judged([tested for _, tested in known]), strict=True)}  # fmt: skip
        found += [_guard(row, results.get(row.outcome + row.load)) for row in mine]
    return found


def _tested(row: Contrast, difference: float) -> Compared:
    """Where some have no label, the interval and the p that hold at both ends bound what is said."""
    about = OUTCOMES[row.outcome]
    pairs = zip(row.rates[row.a], row.rates[row.b], strict=True)
    p_worse = p_within = 0.0
    if row.bounds:
        p_worse = (row.p or 1.0) / 2 if min(row.bounds) > 0 else 1.0
        # Of the 95 % interval each end is one of 97.5 %.
        p_within = 0.025 if row.ci95 and row.ci95[1] < row.margin else 1.0
    return Compared(
        load=row.load,
        blocks=tuple(a - b if about.share else float(np.log(a / b)) for a, b in pairs),
        difference=about.on_scale(difference),
        error=row.standard_error,
        df=row.df,
        margin=about.on_scale(row.margin),
        p_worse=p_worse,
        p_within=p_within,
    )


def _guard(row: Contrast, result: Judged | None) -> Guard:
    return Guard(
        load=row.load,
        a=row.a,
        b=row.b,
        outcome=row.outcome,
        difference=row.difference,
        ci95=row.ci95,
        margin=row.margin,
        p_worse=result.p_worse if result else None,
        p_within=result.p_within if result else None,
        state=result.state if result else "undecided",
        reason="" if result else row.reason,
    )
