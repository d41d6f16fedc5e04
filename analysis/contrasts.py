"""Planned contrasts: cold-start rates, with a verdict; latency and what is held, beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from analysis import compare
from analysis.answers import BreakEven, Contrast, LatencyContrast
from analysis.cells import QUANTILES, cold_counts, held_gb_s, in_cell, of_blocks, run_mean_s, run_quantile
from analysis.clustered import Counts
from analysis.compare import Paired, Ratio
from analysis.digest import Digest
from analysis.intervals import geometric_mean_interval
from analysis.load import regimes_of


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


def rate_contrasts(experiment: dict[str, Any], pairs: Sequence[Pair], digests: Sequence[Digest]) -> list[Contrast]:
    """With p adjusted by Holm over all of them.

    One that could not be tested stays in the family (p = 1): what the data look like must not make the others'
    correction milder.
    """
    outcome, margin = experiment["primary_outcome"], experiment["equivalence_margin"]
    tested = [_tested(pair, digests, outcome, margin) for pair in pairs]
    adjusted = compare.holm([1.0 if t.result is None or t.result.p is None else t.result.p for t in tested])
    return [_contrast(experiment, each, p_holm, len(pairs)) for each, p_holm in zip(tested, adjusted, strict=True)]


class _Tested(NamedTuple):
    """counts: (cold, known) of each block whose rate is known, by regime."""

    pair: Pair
    counts: dict[str, list[Counts]]
    blocks: int
    result: Paired | None

    @property
    def rates(self) -> dict[str, list[float]]:
        return {regime: [cold / known for cold, known in counts] for regime, counts in self.counts.items()}


def _tested(pair: Pair, digests: Sequence[Digest], outcome: str, margin: float) -> _Tested:
    blocks = len({each.run.block for each in digests if each.run.load == pair.load})
    counts = {regime: cold_counts(in_cell(digests, pair.load, regime), outcome) for regime in (pair.a, pair.b)}
    a, b = counts[pair.a], counts[pair.b]
    enough = len(a) == len(b) == blocks >= 2
    result = compare.paired(a, b, margin=margin, pilot=pair.pilot) if enough else None
    return _Tested(pair, counts, blocks, result)


def _contrast(experiment: dict[str, Any], tested: _Tested, p_holm: float, contrasts: int) -> Contrast:
    (load, a, b, pilot), _, blocks, result = tested
    rates = tested.rates
    known_p = None if result is None or result.p is None else p_holm
    sizes = compare.sizes(rates[a], rates[b]) if result else None
    return Contrast(
        target=experiment["loads"][load]["target"],
        load=load,
        outcome=experiment["primary_outcome"],
        a=a,
        b=b,
        risk_difference=result.mean if result else None,
        ci95=result.ci95 if result else None,
        simultaneous95=compare.simultaneous_interval(result, contrasts) if result else None,
        p=result.p if result else None,
        p_holm=known_p,
        p_sign_flip=result.p_sign_flip if result else None,
        p_equivalence=result.p_equivalence if result else None,
        standard_error=result.error if result else None,
        df=result.df if result else None,
        margin=experiment["equivalence_margin"],
        method=result.method if result else "none",
        blocks=blocks,
        hodges_lehmann=sizes.hodges_lehmann if sizes else None,
        cliffs_delta=sizes.cliffs_delta if sizes else None,
        rate_ratio=sizes.rate_ratio if sizes else None,
        exploratory=(pilot or blocks) < compare.CONFIRMATORY_BLOCKS,
        verdict=compare.verdict(result, known_p) if result else "inconclusive",
        reason=_reason(tested),
        rates=rates,
    )


def _reason(tested: _Tested) -> str:
    blocks, result = tested.blocks, tested.result
    if result is not None:
        return "all differences are the same: no variance to test against" if result.degenerate else ""
    if blocks < 2:
        return f"{blocks} complete block{'s' * (blocks != 1)}; a paired comparison needs 2"
    unknown = [regime for regime, counts in tested.counts.items() if len(counts) < blocks]
    return f"a run of {' and of '.join(unknown)} has no known rate"


def latency_contrasts(pairs: Sequence[Pair], digests: Sequence[Digest]) -> list[LatencyContrast]:
    """Of the percentiles that both regimes' runs support in every block, and of the mean."""
    figures: dict[str, Callable[[Digest], float | None]] = {name: _quantile_of(q) for name, q in QUANTILES.items()}
    found = []
    for pair in pairs:
        for name, figure in (figures | {"mean": run_mean_s}).items():
            ratio = _ratio(pair, digests, figure)
            if ratio is not None:
                exploratory = ratio.n < compare.CONFIRMATORY_BLOCKS
                found.append(
                    LatencyContrast(
                        load=pair.load, a=pair.a, b=pair.b, figure=name, ratio=ratio, exploratory=exploratory
                    )
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
            found.append(_break_even(pair, a, b, _ratio(pair, digests, held_gb_s)))
    return found


def _floor(each: Digest) -> int:
    return sum(int(settings["min_replicas"]) for settings in each.run.settings.values())


def _break_even(pair: Pair, a: Sequence[Digest], b: Sequence[Digest], held: Ratio | None) -> BreakEven:
    """Regime a costs c a request, so that at rate r it costs r c a second; b costs what it costs at any rate."""
    offered = sum(each.requests for each in a) / sum(each.window_s for each in a)
    per_request = of_blocks(a, lambda d: h / d.requests if (h := held_gb_s(d)) else None)
    per_second = of_blocks(b, lambda d: h / d.window_s if (h := held_gb_s(d)) else None)
    rates = [per_second[block] / per_request[block] for block in per_request.keys() & per_second.keys()]
    interval = geometric_mean_interval(rates)
    return BreakEven(
        load=pair.load,
        a=pair.a,
        b=pair.b,
        offered_rate_per_s=offered,
        rate_per_s=interval.estimate,
        low=interval.low,
        high=interval.high,
        held_ratio=held or Ratio(estimate=None, n=0, reason="a run's replicas are not known"),
        n=interval.n_runs,
        method="t over log ratios of held GB-s, in proportion to the rate",
        reason=interval.reason,
    )
