"""Planned contrasts: cold-start rates, with a verdict; latency and what is held, beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import structs

from analysis import compare, foresight
from analysis.answers import BreakEven, Contrast, FailureDifference, RatioContrast, WithExcluded
from analysis.cells import QUANTILES, held_gb, in_cell, of_blocks, run_mean_s, run_quantile
from analysis.clustered import Counts
from analysis.compare import Paired, Ratio
from analysis.digest import SLOW, Digest, cold_outcome, limit_s
from analysis.intervals import geometric_mean_interval
from analysis.load import regimes_of
from analysis.words import points


class Pair(NamedTuple):
    """A planned contrast at one compared load. pilot: blocks from whose spread the number of all blocks followed."""

    load: str
    a: str
    b: str
    pilot: int = 0


def planned(
    experiment: dict[str, Any], stopping: dict[str, dict[str, Any]], *, descriptive: bool = False
) -> list[Pair]:
    """descriptive: those of the loads that are shown but not compared, instead."""
    return [
        Pair(load, a, b, _pilot(stopping, load))
        for load, each in experiment["loads"].items()
        if each["descriptive"] is descriptive
        for a, b in experiment["contrasts"]
        if {a, b} <= set(regimes_of(experiment, load))
    ]


def _pilot(stopping: dict[str, dict[str, Any]], load: str) -> int:
    decision = stopping.get(load)
    return decision["pilot_blocks"] if decision and decision["complete"] else 0


def secondary(experiment: dict[str, Any], pairs: Sequence[Pair], digests: Sequence[Digest]) -> list[Contrast]:
    """Of the outcome that is not the primary one: slow requests, where loads have a limit, or else cold starts.

    A family of its own; nothing is decided by it.
    """
    primary, cold = experiment["primary_outcome"], cold_outcome(experiment)
    outcome = cold if primary == SLOW else SLOW
    mine = [pair for pair in pairs if outcome != SLOW or limit_s(experiment, pair.load)]
    return rate_contrasts(experiment, mine, outcome, digests, [])


def rate_contrasts(
    experiment: dict[str, Any],
    pairs: Sequence[Pair],
    outcome: str,
    digests: Sequence[Digest],
    excluded: Sequence[Digest],
) -> list[Contrast]:
    """With p of differences and of equivalence adjusted by Holm over all of them, and once more with excluded runs.

    digests: of used runs. excluded: of those that were not used though their rows can be read.
    """
    found = _contrasts(experiment, pairs, outcome, {pair: digests for pair in pairs})
    put_back = {pair: _whole_blocks(pair, [*digests, *excluded], outcome) for pair in pairs}
    more = {pair: _of_pair(pair, mine) - _of_pair(pair, digests) for pair, mine in put_back.items()}
    if not any(more.values()):
        return found
    again = _contrasts(experiment, pairs, outcome, put_back)
    return [
        structs.replace(row, with_excluded=_with_excluded(other, more[pair])) if more[pair] else row
        for pair, row, other in zip(pairs, found, again, strict=True)
    ]


def _of_pair(pair: Pair, digests: Sequence[Digest]) -> int:
    return sum(len(in_cell(digests, pair.load, regime)) for regime in (pair.a, pair.b))


def _whole_blocks(pair: Pair, digests: Sequence[Digest], outcome: str) -> list[Digest]:
    """The runs of blocks of which both regimes' rates are known."""
    mine = [each for each in digests if each.run.load == pair.load and each.counts(outcome)[1]]
    a, b = ({each.run.block for each in in_cell(mine, pair.load, regime)} for regime in (pair.a, pair.b))
    return [each for each in mine if each.run.block in a & b]


def _with_excluded(row: Contrast, runs: int) -> WithExcluded:
    return WithExcluded(
        runs=runs, blocks=row.blocks, risk_difference=row.risk_difference, ci95=row.ci95, verdict=row.verdict
    )


def _contrasts(
    experiment: dict[str, Any], pairs: Sequence[Pair], outcome: str, digests: Mapping[Pair, Sequence[Digest]]
) -> list[Contrast]:
    margin = experiment["equivalence_margin"]
    tested = [_tested(pair, digests[pair], outcome, margin) for pair in pairs]
    adjusted = compare.holm([each.result.p if each.result else None for each in tested])
    equivalence = compare.holm([each.result.p_equivalence if each.result else None for each in tested])
    return [
        _contrast(experiment, outcome, each, p_holm, p_equivalence, len(pairs))
        for each, p_holm, p_equivalence in zip(tested, adjusted, equivalence, strict=True)
    ]


class _Tested(NamedTuple):
    """counts: (cold, known) of each block whose rate is known, all its tries that are given together; by regime.

    results: of what has a label, and where something has none, of both ends; result: what holds at all of them.
    """

    pair: Pair
    counts: dict[str, list[Counts]]
    blocks: int
    unlabelled: float
    results: list[Paired]
    result: Paired | None
    failures: FailureDifference | None

    @property
    def rates(self) -> dict[str, list[float]]:
        return {regime: [cold / known for cold, known in counts] for regime, counts in self.counts.items()}


def _tested(pair: Pair, digests: Sequence[Digest], outcome: str, margin: float) -> _Tested:
    blocks = len({each.run.block for each in digests if each.run.load == pair.load})
    a, b = (in_cell(digests, pair.load, regime) for regime in (pair.a, pair.b))

    def compared(of_a: Callable[[Digest], Counts], of_b: Callable[[Digest], Counts]) -> Paired:
        return compare.paired(_by_block(a, of_a), _by_block(b, of_b), margin=margin, pilot=pair.pilot)

    def labelled(each: Digest) -> Counts:
        return each.counts(outcome)

    def if_warm(each: Digest) -> Counts:
        return each.bounded(outcome)[0]

    def if_cold(each: Digest) -> Counts:
        return each.bounded(outcome)[1]

    counts = {regime: _by_block(mine, labelled) for regime, mine in ((pair.a, a), (pair.b, b))}
    unlabelled = math.fsum(each.lacking(outcome) for each in (*a, *b))
    results: list[Paired] = []
    if len(counts[pair.a]) == len(counts[pair.b]) == blocks >= 2:
        results = [compared(labelled, labelled)]
        results += [compared(if_warm, if_cold), compared(if_cold, if_warm)] if unlabelled else []
    return _Tested(
        pair=pair,
        counts=counts,
        blocks=blocks,
        unlabelled=unlabelled,
        results=results,
        result=compare.surviving(results[0], results[1:], margin) if results else None,
        failures=_failures(compared(_failed, _failed)) if results else None,
    )


def _by_block(mine: Sequence[Digest], counts: Callable[[Digest], Counts]) -> list[Counts]:
    """Of the blocks that have any."""
    found: dict[int, Counts] = {}
    for each in mine:
        events, trials = counts(each)
        if trials:
            before = found.get(each.run.block, (0, 0))
            found[each.run.block] = before[0] + events, before[1] + trials
    return list(found.values())


def _failed(each: Digest) -> Counts:
    return each.failures, each.requests


def _failures(result: Paired) -> FailureDifference:
    return FailureDifference(estimate=result.mean, ci95=result.ci95, p=result.p)


def _contrast(
    experiment: dict[str, Any],
    outcome: str,
    tested: _Tested,
    p_holm: float | None,
    p_equivalence_holm: float | None,
    contrasts: int,
) -> Contrast:
    load, a, b, pilot = tested.pair
    blocks, result, rates = tested.blocks, tested.result, tested.rates
    single = [compare.simultaneous_interval(each, contrasts) for each in tested.results]
    # An end at which nothing varies is a point.
    wide = [interval or (each.mean, each.mean) for interval, each in zip(single, tested.results, strict=True)]
    means = [each.mean for each in tested.results]
    counting = pilot or blocks
    sizes = compare.sizes(rates[a], rates[b]) if result else None
    return Contrast(
        target=experiment["loads"][load]["target"],
        load=load,
        outcome=outcome,
        a=a,
        b=b,
        risk_difference=result.mean if result else None,
        ci95=result.ci95 if result else None,
        simultaneous95=(min(low for low, _ in wide), max(high for _, high in wide)) if any(single) else None,
        p=result.p if result else None,
        p_holm=p_holm,
        p_sign_flip=result.p_sign_flip if result else None,
        p_equivalence=result.p_equivalence if result else None,
        p_equivalence_holm=p_equivalence_holm,
        standard_error=result.error if result else None,
        df=result.df if result else None,
        margin=experiment["equivalence_margin"],
        method=result.method if result else "none",
        blocks=blocks,
        hodges_lehmann=sizes.hodges_lehmann if sizes else None,
        cliffs_delta=sizes.cliffs_delta if sizes else None,
        rate_ratio=sizes.rate_ratio if sizes else None,
        exploratory=counting < compare.CONFIRMATORY_BLOCKS,
        verdict=compare.verdict(p_holm, p_equivalence_holm, counting) if result else "inconclusive",
        reason=_reason(tested),
        rates=rates,
        unlabelled=tested.unlabelled,
        bounds=(min(means), max(means)) if tested.results[1:] else None,
        failures=tested.failures,
        with_excluded=None,
    )


def _reason(tested: _Tested) -> str:
    blocks, result = tested.blocks, tested.result
    if result is not None and tested.results[1:]:
        low, high = (points(end(each.mean for each in tested.results)) for end in (min, max))
        head = f"{tested.pair.load}, {tested.pair.a} - {tested.pair.b}: {tested.unlabelled:.4g} without a label"
        return f"{head}; the difference lies between {low} and {high}, were they warm or cold"
    if result is not None:
        return "all differences are the same: no variance to test against" if result.degenerate else ""
    if blocks < 2:
        return f"{blocks} complete block{'s' * (blocks != 1)}; a paired comparison needs 2"
    unknown = [regime for regime, counts in tested.counts.items() if len(counts) < blocks]
    return f"a run of {' and of '.join(unknown)} has no known rate"


def ratios(pairs: Sequence[Pair], digests: Sequence[Digest]) -> list[RatioContrast]:
    """Of the percentiles that both regimes' runs support in every block, of mean latency, and of what is held."""
    figures: dict[str, Callable[[Digest], float | None]] = {name: _quantile_of(q) for name, q in QUANTILES.items()}
    found = []
    for pair in pairs:
        for name, figure in (figures | {"mean": run_mean_s, "held": held_gb}).items():
            ratio = _ratio(pair, digests, figure)
            if ratio is not None:
                exploratory = ratio.n < compare.CONFIRMATORY_BLOCKS
                found.append(
                    RatioContrast(load=pair.load, a=pair.a, b=pair.b, figure=name, ratio=ratio, exploratory=exploratory)
                )
    return found


def _quantile_of(q: float) -> Callable[[Digest], float | None]:
    return lambda each: run_quantile(each, q).value


def _ratio(pair: Pair, digests: Sequence[Digest], figure: Callable[[Digest], float | None]) -> Ratio | None:
    """None where a run does not support the figure."""
    a, b = (of_blocks(in_cell(digests, pair.load, regime), figure) for regime in (pair.a, pair.b))
    runs = len(in_cell(digests, pair.load, pair.a))
    if not runs or len(a) < runs or a.keys() != b.keys():
        return None
    return compare.paired_ratio(list(a.values()), list(b.values()))


def break_even(pairs: Sequence[Pair], digests: Sequence[Digest]) -> list[BreakEven]:
    """Of the pairs in which a scales every function to zero and b keeps a replica of some."""
    found = []
    for pair in pairs:
        a, b = in_cell(digests, pair.load, pair.a), in_cell(digests, pair.load, pair.b)
        if a and b and not _floor(a[0]) and _floor(b[0]):
            found.append(_break_even(pair, a, b, _ratio(pair, digests, held_gb)))
    return found


def _floor(each: Digest) -> int:
    return sum(int(settings["min_replicas"]) for settings in each.run.settings.values())


def _break_even(pair: Pair, a: Sequence[Digest], b: Sequence[Digest], held: Ratio | None) -> BreakEven:
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
