"""Planned contrasts: of the primary outcome, with a verdict; of secondary ones, a family of their own; ratios."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from msgspec import structs

from analysis.answers import foresight, outcomes
from analysis.answers.cells import QUANTILES, held_gb, in_cell, of_blocks, run_mean_s, run_quantile
from analysis.answers.variates import Arm, adjusted
from analysis.rows.digest import Digest, cold_outcome, limit_s
from analysis.statistics import compare, looks
from analysis.statistics.clustered import Counts
from analysis.statistics.compare import Paired
from analysis.statistics.intervals import geometric_mean_interval
from analysis.statistics.looks import Look
from analysis.statistics.power import power_of_t
from analysis.words import points
from fave.campaign.experiment import Experiment
from fave.campaign.outcomes import OUTCOMES, SLOW, Outcome
from fave.campaign.results import (
    Beside,
    BreakEven,
    Contrast,
    ControlVariate,
    FailureDifference,
    Ratio,
    RatioContrast,
    WithExcluded,
)

_ALPHA = 0.05
# By load and regime, of the first so many blocks.
Arms = Callable[[int], Mapping[tuple[str, str], Arm]]


class Planned(NamedTuple):
    """A planned comparison at one load, a - b: of two regimes, or of two levels of a factor. weights: by regime."""

    load: str
    a: str
    b: str
    weights: tuple[tuple[str, float], ...]
    outcome: str = ""

    @property
    def is_pair(self) -> bool:
        return len(self.weights) == 2


def planned(experiment: Experiment, *, descriptive: bool = False) -> list[Planned]:
    """descriptive: the pairs of the loads that are shown but not compared, instead."""
    found = []
    for load, each in experiment.loads.items():
        if each.descriptive is descriptive:
            there = set(experiment.regimes_of(load))
            pairs = [Planned(load, a, b, ((a, 1.0), (b, -1.0))) for a, b in experiment.contrasts if {a, b} <= there]
            effects = [] if descriptive else _effects(experiment.factorial, load)
            found += pairs + [each for each in effects if {regime for regime, _ in each.weights} <= there]
    return found


def _effects(factorial: Mapping[str, Mapping[str, Sequence[str]]], load: str) -> list[Planned]:
    """Main effects, each a mean over the other factor's levels, and the interaction: the difference of differences."""
    if not factorial:
        return []
    (one, ones), (other, others) = factorial.items()
    (low, high), (left, right) = ones.items(), others.items()
    regimes = list(dict.fromkeys([*low[1], *high[1]]))
    signs = {r: (1.0 if r in high[1] else -1.0, 1.0 if r in right[1] else -1.0) for r in regimes}
    return [
        Planned(load, f"{one} {high[0]}", f"{one} {low[0]}", tuple((r, signs[r][0] / 2) for r in regimes)),
        Planned(load, f"{other} {right[0]}", f"{other} {left[0]}", tuple((r, signs[r][1] / 2) for r in regimes)),
        Planned(load, f"{one} x {other}", "", tuple((r, signs[r][0] * signs[r][1]) for r in regimes)),
    ]


def secondary(experiment: Experiment, plan: Sequence[Planned], digests: Sequence[Digest]) -> list[Contrast]:
    """Of the outcomes that were named as secondary ones; where none was, of slow requests, where loads have a limit, or
    of cold starts where slow requests are the primary outcome.

    A family of its own, adjusted together, as if after a fixed number of blocks.
    """
    named = experiment.secondary_outcomes or (cold_outcome(experiment) if experiment.primary_outcome == SLOW else SLOW,)
    mine = [
        each._replace(outcome=outcome)
        for outcome in named
        for each in plan
        if outcome != SLOW or limit_s(experiment, each.load)
    ]
    return of_family(structs.replace(experiment, looks=()), mine, digests, [], _no_arms, {})


def _no_arms(_: Sequence[Digest]) -> Arms:
    return lambda _: {}


def of_family(
    experiment: Experiment,
    plan: Sequence[Planned],
    digests: Sequence[Digest],
    excluded: Sequence[Digest],
    arms_of: Callable[[Sequence[Digest]], Arms],
    reached: Mapping[str, int],
) -> list[Contrast]:
    """With p of differences and of equivalence adjusted by Holm over all of them, and once more with excluded runs.

    digests: of used runs. excluded: of those that were not used though their rows can be read. arms_of: what the
    simulator knows of the first so many of their blocks (`variates`). reached: blocks that each load has behind it,
    valid or not.
    """
    found = _contrasts(experiment, plan, {each: digests for each in plan}, arms_of(digests), reached)
    put_back = {each: _whole_blocks(experiment, each, [*digests, *excluded]) for each in plan}
    more = {each: _of(each, mine) - _of(each, digests) for each, mine in put_back.items()}
    if not any(runs > 0 for runs in more.values()):
        return found
    again = _contrasts(experiment, plan, put_back, arms_of([*digests, *excluded]), reached)
    return [
        structs.replace(row, with_excluded=_with_excluded(other, more[each])) if more[each] > 0 else row
        for each, row, other in zip(plan, found, again, strict=True)
    ]


def _of(each: Planned, digests: Sequence[Digest]) -> int:
    return sum(len(in_cell(digests, each.load, regime)) for regime, _ in each.weights)


def _whole_blocks(experiment: Experiment, each: Planned, digests: Sequence[Digest]) -> list[Digest]:
    """The runs of blocks of which all its regimes' figures are known."""
    here = [one for one in digests if one.run.load == each.load]
    mine = [one for one in here if outcomes.counts(one, each.outcome, experiment)[1]]
    blocks = set.intersection(*({d.run.block for d in in_cell(mine, each.load, r)} for r, _ in each.weights))
    return [one for one in mine if one.run.block in blocks]


def _with_excluded(row: Contrast, runs: int) -> WithExcluded:
    return WithExcluded(runs=runs, blocks=row.blocks, difference=row.difference, ci95=row.ci95, verdict=row.verdict)


def _contrasts(
    experiment: Experiment,
    plan: Sequence[Planned],
    digests: Mapping[Planned, Sequence[Digest]],
    arms: Arms,
    reached: Mapping[str, int],
) -> list[Contrast]:
    tested = [_over_looks(experiment, each, digests[each], arms, reached.get(each.load, 0)) for each in plan]
    adjusted = compare.holm([each.p for each in tested])
    equivalence = compare.holm([each.p_equivalence for each in tested])
    found = [
        _contrast(experiment, each, p_holm, p_equivalence, len(plan))
        for each, p_holm, p_equivalence in zip(tested, adjusted, equivalence, strict=True)
    ]
    undecided = sum(not row.decided for row in found)
    return [
        row if row.decided else structs.replace(row, chance_next=_chance(experiment, each.look, row, undecided))
        for each, row in zip(tested, found, strict=True)
    ]


def _chance(experiment: Experiment, look: Look, row: Contrast, undecided: int) -> float | None:
    """Power of the next look, at Holm's strictest step over what is not decided yet."""
    ahead = next((each for each in looks.planned(experiment.looks) if each.blocks > look.blocks), None)
    if ahead is None or not row.standard_error or row.df is None or row.difference is None:
        return None
    on_scale = abs(OUTCOMES[row.outcome].on_scale(row.difference))
    noncentrality = on_scale / row.standard_error * math.sqrt(ahead.blocks / row.blocks)
    df = max(1, round(row.df * (ahead.blocks - 1) / (row.blocks - 1)))
    return power_of_t(noncentrality, df, alpha=_ALPHA * ahead.share / undecided)


class _Compared(NamedTuple):
    """A comparison at one look. counts: (events, known) of each block whose rates are known, by regime.

    results: of what has a label, and where something has none, of both ends; result: what holds at all of them, by the
    statistic that decides. plain, adjusted: the same without and with the control variate.
    """

    counts: dict[str, dict[int, Counts]]
    blocks: int
    unlabelled: float
    results: list[Paired]
    result: Paired | None
    plain: Paired | None
    adjusted: Paired | None
    coefficients: dict[str, float]


class _Tested(NamedTuple):
    """p, p_equivalence: over the looks so far, not adjusted for other contrasts. last: the look that was reached."""

    planned: Planned
    look: Look
    last: _Compared
    p: float | None
    p_equivalence: float | None
    failures: FailureDifference | None


def _over_looks(
    experiment: Experiment,
    each: Planned,
    digests: Sequence[Digest],
    arms: Arms,
    reached: int,
) -> _Tested:
    """Each look with what was known then: neither later blocks nor their times."""
    mine = [one for one in digests if one.run.load == each.load]
    plan = looks.planned(experiment.looks)
    taken = [look for look in plan if look.blocks <= reached]
    # Without looks, and before the first one, all blocks that there are; before the first one nothing is decided.
    every = taken or [Look(max((one.run.block for one in mine), default=-1) + 1)]
    found = [
        _compared(experiment, each, [d for d in mine if d.run.block < look.blocks], arms(look.blocks), look)
        for look in every
    ]
    tested = every if taken or not plan else []
    results = [one.result for one in found] if tested else []
    return _Tested(
        planned=each,
        look=every[-1],
        last=found[-1],
        p=looks.over([r.p if r else None for r in results], [look.share for look in tested]),
        p_equivalence=looks.over(
            [r.p_equivalence if r else None for r in results], [look.equivalence_share for look in tested]
        ),
        failures=_failures(each, [d for d in mine if d.run.block < every[-1].blocks]) if found[-1].results else None,
    )


def _compared(
    experiment: Experiment,
    each: Planned,
    digests: Sequence[Digest],
    arms: Mapping[tuple[str, str], Arm],
    look: Look,
) -> _Compared:
    outcome, about, alpha = each.outcome, OUTCOMES[each.outcome], _ALPHA * look.share
    margin, most = about.on_scale(experiment.margin_of(outcome)), 1.0 if about.share else math.inf
    names, weights = zip(*each.weights, strict=True)
    mine = {name: in_cell(digests, each.load, name) for name in names}
    blocks = len({d.run.block for d in digests})
    counts = {name: _by_block(mine[name], lambda d: outcomes.counts(d, outcome, experiment)) for name in names}
    unlabelled = math.fsum(d.lacking(outcome) for name in names for d in mine[name])
    if blocks < 2 or any(len(known) < blocks for known in counts.values()):
        return _Compared(counts, blocks, unlabelled, [], None, None, None, {})
    # Ends at which the difference is least, and greatest: what has no label belongs where it makes it so.
    ends = [
        {
            name: _by_block(mine[name], functools.partial(_bounded, experiment, outcome, cold=(weight > 0) == greatest))
            for name, weight in each.weights
        }
        for greatest in (False, True)
    ]
    sets = [counts, *(ends if unlabelled else [])]
    plain = [
        compare.combined([list(one[name].values()) for name in names], weights, margin=margin, alpha=alpha, most=most)
        for one in sets
    ]
    variates = [arms.get((each.load, name)) for name in names]
    moved = [adjusted([one[name] for name in names], variates, weights) for one in sets]
    whole = [one for one in moved if one is not None]
    better = (
        [compare.combined(one.arms, weights, margin=margin, alpha=alpha, extra=one.extra) for one in whole]
        if len(whole) == len(sets)
        else []
    )
    results = better if better and experiment.control_variate else plain
    return _Compared(
        counts=counts,
        blocks=blocks,
        unlabelled=unlabelled,
        results=results,
        result=compare.surviving(results[0], results[1:], margin),
        plain=compare.surviving(plain[0], plain[1:], margin),
        adjusted=compare.surviving(better[0], better[1:], margin) if better else None,
        coefficients=dict(zip(names, whole[0].coefficients, strict=True)) if better else {},
    )


def _bounded(experiment: Experiment, outcome: str, each: Digest, *, cold: bool) -> Counts:
    return outcomes.bounded(each, outcome, experiment)[int(cold)]


def _by_block(mine: Sequence[Digest], counts: Callable[[Digest], Counts]) -> dict[int, Counts]:
    """Of the blocks that have any; all tries of one that are given together."""
    found: dict[int, Counts] = {}
    for each in mine:
        events, trials = counts(each)
        if trials:
            before = found.get(each.run.block, (0, 0))
            found[each.run.block] = before[0] + events, before[1] + trials
    return found


def _failures(each: Planned, digests: Sequence[Digest]) -> FailureDifference:
    failed = [
        list(_by_block(in_cell(digests, each.load, name), lambda d: (d.failures, d.requests)).values())
        for name, _ in each.weights
    ]
    result = compare.combined(failed, [weight for _, weight in each.weights], margin=1.0)
    return FailureDifference(estimate=result.mean, ci95=result.ci95, p=result.p)


def _contrast(
    experiment: Experiment,
    tested: _Tested,
    p_holm: float | None,
    p_equivalence_holm: float | None,
    contrasts: int,
) -> Contrast:
    each, last, alpha = tested.planned, tested.last, _ALPHA * tested.look.share
    blocks, result, about = last.blocks, last.result, OUTCOMES[each.outcome]
    rates = {name: [total / known for total, known in counts.values()] for name, counts in last.counts.items()}
    if not about.share:
        rates = {name: [math.exp(value) for value in values] for name, values in rates.items()}
    most = 1.0 if about.share else math.inf
    single = [compare.simultaneous_interval(one, contrasts, alpha, most) for one in last.results]
    # An end at which nothing varies is a point.
    wide = [interval or (one.mean, one.mean) for interval, one in zip(single, last.results, strict=True)]
    together = (min(low for low, _ in wide), max(high for _, high in wide)) if wide else None
    means = [one.mean for one in last.results]
    sizes = compare.sizes(rates[each.a], rates[each.b]) if result and each.is_pair and about.share else None
    tested_at_all = result and (tested.p is not None or result.p is None)
    verdict = compare.verdict(p_holm, p_equivalence_holm, blocks) if tested_at_all else "inconclusive"
    return Contrast(
        target=experiment.loads[each.load].target,
        load=each.load,
        outcome=each.outcome,
        a=each.a,
        b=each.b,
        weights=dict(each.weights),
        difference=about.off_scale(result.mean) if result else None,
        ci95=_off_scale(about, result.ci95) if result else None,
        confidence=1 - alpha,
        simultaneous95=_off_scale(about, together if any(single) else None),
        p=tested.p,
        p_holm=p_holm,
        p_sign_flip=result.p_sign_flip if result else None,
        p_equivalence=tested.p_equivalence,
        p_equivalence_holm=p_equivalence_holm,
        standard_error=result.error if result else None,
        df=result.df if result else None,
        margin=experiment.margin_of(each.outcome),
        method=_method(tested) if result else "none",
        blocks=blocks,
        hodges_lehmann=sizes.hodges_lehmann if sizes else None,
        cliffs_delta=sizes.cliffs_delta if sizes else None,
        rate_ratio=sizes.rate_ratio if sizes else None,
        exploratory=blocks < compare.CONFIRMATORY_BLOCKS and not experiment.looks,
        verdict=verdict,
        decided=verdict != "inconclusive" and (verdict != "degenerate" or blocks >= compare.CONFIRMATORY_BLOCKS),
        chance_next=None,
        reason=_reason(experiment, tested),
        rates=rates,
        unlabelled=last.unlabelled,
        bounds=(min(means), max(means)) if last.results[1:] else None,
        failures=tested.failures,
        control_variate=_variate(last),
        with_excluded=None,
    )


def _off_scale(about: Outcome, ends: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if ends is None else (about.off_scale(ends[0]), about.off_scale(ends[1]))


def _method(tested: _Tested) -> str:
    last = tested.last
    if not OUTCOMES[tested.planned.outcome].share:
        return "paired t over log ratios"
    return "paired CR2" + ", control variate" * (last.adjusted is not None and last.result == last.adjusted)


def _variate(last: _Compared) -> ControlVariate | None:
    plain, better = last.plain, last.adjusted
    if plain is None or better is None:
        return None
    return ControlVariate(
        decides=last.result == better,
        coefficients=last.coefficients,
        variance_ratio=(plain.error / better.error) ** 2 if plain.error and better.error else None,
        unadjusted=_beside(plain),
        adjusted=_beside(better),
    )


def _beside(result: Paired) -> Beside:
    return Beside(difference=result.mean, ci95=result.ci95, p=result.p, standard_error=result.error, df=result.df)


def _reason(experiment: Experiment, tested: _Tested) -> str:
    last, load, about = tested.last, tested.planned.load, OUTCOMES[tested.planned.outcome]
    blocks, result = last.blocks, last.result
    if result is not None and last.results[1:]:
        low, high = (points(end(each.mean for each in last.results)) for end in (min, max))
        named = f"{tested.planned.a} - {tested.planned.b}"
        head = f"{load}, {named}: {last.unlabelled:.4g} without a label"
        return f"{head}; the difference lies between {low} and {high}, were they warm or cold"
    if result is not None and result.degenerate:
        return "all differences are the same: no variance to test against"
    if result is not None:
        first = min(experiment.looks, default=0)
        return f"{load}: the first look is after {first} blocks" if tested.look.blocks < first else ""
    if blocks < 2:
        return f"{blocks} complete block{'s' * (blocks != 1)}; a paired comparison needs 2"
    unknown = [regime for regime, counts in last.counts.items() if len(counts) < blocks]
    return f"a run of {' and of '.join(unknown)} has no known {'rate' if about.share else about.title}"


_MEANS: dict[str, Callable[[Digest], float | None]] = {
    "mean": run_mean_s,
    "held": held_gb,
    "start": lambda each: each.start_mean_s,
}


def ratios(plan: Sequence[Planned], digests: Sequence[Digest]) -> list[RatioContrast]:
    """Of the percentiles that all regimes' runs support in every block, of mean latency, of what is held, and of the
    mean start of a run's replicas, where all had some.
    """
    figures: dict[str, Callable[[Digest], float | None]] = {name: _quantile_of(q) for name, q in QUANTILES.items()}
    found = []
    for each in plan:
        for name, figure in (figures | _MEANS).items():
            ratio = _ratio(each, digests, figure)
            if ratio is not None:
                exploratory = ratio.n < compare.CONFIRMATORY_BLOCKS
                found.append(
                    RatioContrast(load=each.load, a=each.a, b=each.b, figure=name, ratio=ratio, exploratory=exploratory)
                )
    return found


def _quantile_of(q: float) -> Callable[[Digest], float | None]:
    return lambda each: run_quantile(each, q).value


def _ratio(each: Planned, digests: Sequence[Digest], figure: Callable[[Digest], float | None]) -> Ratio | None:
    """None where a run does not support the figure."""
    arms = [of_blocks(in_cell(digests, each.load, name), figure) for name, _ in each.weights]
    runs = len(in_cell(digests, each.load, each.weights[0][0]))
    if not runs or len(arms[0]) < runs or any(arm.keys() != arms[0].keys() for arm in arms):
        return None
    return compare.combined_ratio([list(arm.values()) for arm in arms], [weight for _, weight in each.weights])


def break_even(plan: Sequence[Planned], digests: Sequence[Digest]) -> list[BreakEven]:
    """Of the pairs in which a scales every function to zero and b keeps a replica of some."""
    found = []
    for pair in plan:
        a, b = in_cell(digests, pair.load, pair.a), in_cell(digests, pair.load, pair.b)
        constant = a and b and not a[0].run.switches and not b[0].run.switches
        if pair.is_pair and constant and not _floor(a[0]) and _floor(b[0]):
            found.append(_break_even(pair, a, b, _ratio(pair, digests, held_gb)))
    return found


def _floor(each: Digest) -> int:
    return sum(settings.min_replicas for settings in each.run.settings.values())


def _break_even(pair: Planned, a: Sequence[Digest], b: Sequence[Digest], held: Ratio | None) -> BreakEven:
    swept = [
        foresight.equal_holding(one.predicted, other.predicted.function)
        for one in a
        for other in b
        if one.run.block == other.run.block and one.predicted and other.predicted
    ]
    crossings = [each.rate_per_s for each in swept if each.rate_per_s is not None]
    # A mean over the blocks that cross alone would be of something else.
    interval = geometric_mean_interval(crossings if len(crossings) == len(swept) else [])
    return BreakEven(
        load=pair.load,
        a=pair.a,
        b=pair.b,
        offered_rate_per_s=sum(each.requests for each in a) / sum(each.window_s for each in a),
        up_to_per_s=min((each.up_to_per_s for each in swept), default=None),
        rate_per_s=interval.estimate,
        low=interval.low,
        high=interval.high,
        held_ratio=held or Ratio(estimate=None, n=0, reason="a run's replicas are not known"),
        crossing=len(crossings),
        n=len(swept),
        method="simulated: the same arrivals in less time; t over log rates",
        reason=_no_rate(len(crossings), len(swept)) or interval.reason,
    )


def _no_rate(crossing: int, blocks: int) -> str:
    if not blocks:
        return "only single functions are simulated"
    if crossing == blocks:
        return ""
    return f"up to saturation there is none in {blocks - crossing} of {blocks} blocks"
