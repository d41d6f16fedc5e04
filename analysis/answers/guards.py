"""Is one arm worse than another, in any outcome? What `not_worse` of an experiment asks, as a machine needs it.

Worse is more: of cold starts, of time, of memory, of money. Each outcome is tested one-sided, and Holm adjusts over all
outcomes and loads of a pair: that something is called worse though nothing is, happens in one of twenty campaigns at
most. That nothing is worse by more than its margin needs every outcome to show it, each at 5 % (an intersection-union
test needs no adjustment: Berger, Technometrics 24(4), 1982).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

from analysis.statistics import compare
from fave.campaign.experiment import Experiment
from fave.campaign.outcomes import OUTCOMES
from fave.campaign.results import Contrast, Guard, State
from fave.campaign.validity import below

_ALPHA = 0.05


class Tested(NamedTuple):
    """One outcome of a pair, a less b on the scale on which they are compared. p: two-sided; of what does not vary that
    of the sign-flip test. error, df: None there.
    """

    difference: float
    p: float
    error: float | None
    df: float | None
    margin: float


class Judged(NamedTuple):
    p_worse_holm: float
    p_within: float

    @property
    def state(self) -> State:
        if below(self.p_worse_holm, _ALPHA):
            return "worse"
        return "within" if below(self.p_within, _ALPHA) else "undecided"


def judged(family: Sequence[Tested]) -> list[Judged]:
    """All outcomes of one pair."""
    worse = [each.p / 2 if each.difference > 0 else 1 - each.p / 2 for each in family]
    adjusted = compare.holm(worse)
    return [Judged(p or 0.0, _p_within(each)) for each, p in zip(family, adjusted, strict=True)]


def _p_within(each: Tested) -> float:
    """That a is not more than b by the margin or more. What does not vary lies below it, or not."""
    if not each.error or each.df is None:
        return float(each.difference >= each.margin)
    return float(stats.t.sf((each.margin - each.difference) / each.error, each.df))


def guards(experiment: Experiment, contrasts: Sequence[Contrast]) -> list[Guard]:
    """contrasts: of primary and secondary outcomes. An outcome that no run of either arm has is none here."""
    found: list[Guard] = []
    for pair in experiment.not_worse:
        mine = [row for row in contrasts if (row.a, row.b) == pair and any(row.rates.values())]
        known = [(row, _tested(row, row.difference)) for row in mine if row.difference is not None]
        results = {row.outcome + row.load: each for (row, _), each in
                   zip(known, judged([tested for _, tested in known]), strict=True)}  # fmt: skip
        found += [_guard(row, results.get(row.outcome + row.load)) for row in mine]
    return found


def _tested(row: Contrast, difference: float) -> Tested:
    """Of what has no label the end at which a is worst decides that it is not."""
    about = OUTCOMES[row.outcome]
    worst = max(difference, *(row.bounds or (difference,)))
    p = row.p if row.p is not None else row.p_sign_flip
    return Tested(
        difference=about.on_scale(worst),
        p=1.0 if p is None else p,
        error=row.standard_error,
        df=row.df,
        margin=about.on_scale(row.margin),
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
        p_worse_holm=result.p_worse_holm if result else None,
        p_within=result.p_within if result else None,
        state=result.state if result else "undecided",
        reason="" if result else row.reason,
    )
