"""What was not measured, from what was: other settings and rates by simulation; a single stage kept warm, checked."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import structs

from analysis.answers.cells import held_gb, in_cell, mean_of, of_blocks
from analysis.rows import simulate
from analysis.rows.digest import Counts, Digest
from analysis.rows.folder import Campaign
from analysis.rows.simulate import Function, Predicted, Simulated
from analysis.statistics.intervals import mean_interval
from fave.campaign.results import Cell, Front, KeptStage, OnFront, Sweep, Swept

# Idle timeout over mean gap: the ratio that sets the share of gaps that are long enough.
_PER_GAP = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Swept beside what was measured.
_MINIMA, _MAXIMA = (0, 1), (1, 2, 4)
# Of a load, runs that are simulated, at most, and their arrivals beyond the first run's.
_RUNS, _ARRIVALS = 10, 20_000
# Rates: steps of a fourth root of two, from a sixteenth of the offered one to where replicas would be so busy.
_STEP, _SLOWEST, _SATURATED = 2**0.25, 1 / 16, 0.9
# Who holds so much of its maximum holds all of it.
_ALL = 0.95


def sweeps(campaign: Campaign, digests: Sequence[Digest]) -> list[Sweep]:
    """Of every load at a single stage, with the times of one of its regimes."""
    experiment = campaign.experiment
    found = []
    for load in experiment.loads:
        regimes = experiment.regimes_of(load)
        known = [d for regime in regimes for d in in_cell(digests, load, regime) if d.predicted]
        if known:
            regime = min(known, key=lambda each: _tells_less(each, known)).run.regime
            found.append(_swept(load, regime, in_cell(known, load, regime), known))
    return found


def _tells_less(each: Digest, known: Sequence[Digest]) -> tuple[bool, bool]:
    """First whose regime had replicas started: how long that takes is asked of the times. Then who scales to zero."""
    started = any(d.predicted.seen.start_s for d in known if d.predicted and d.run.regime == each.run.regime)
    return not started, each.run.settings[each.run.function].min_replicas > 0


def _swept(load: str, regime: str, mine: Sequence[Digest], known: Sequence[Digest]) -> Sweep:
    """mine: the runs that the times are of. known: all runs of the load that can be simulated."""
    sources = _some(mine)
    ones = [each.predicted for each in sources if each.predicted]
    functions = {each.predicted.function for each in known if each.predicted}
    base, gap_s = ones[0].function, simulate.mean_gap_s(ones)
    started = any(one.seen.start_s for one in ones)
    gb = mine[0].run.memory_limit_mb[mine[0].run.function] / 1024
    settings = [
        _setting(ones, base._replace(idle_timeout_s=_round(factor * gap_s), min_replicas=least, max_replicas=most), gb)
        for most in sorted({*_MAXIMA, *(each.max_replicas for each in functions)})
        for least in sorted({*_MINIMA, *(each.min_replicas for each in functions)})
        # Where no replica was started nobody knows how long that takes.
        if (least <= most if started else least == most)
        # With nothing to stop there is no timeout.
        for factor in (_PER_GAP if least < most else _PER_GAP[-1:])
    ]
    front = _best([(e.cold_rate, e.p95_s if e.slow_rate is None else e.slow_rate, e.held_gb) for e in settings])
    cells = [in_cell(known, load, name) for name in dict.fromkeys(each.run.regime for each in known)]
    slow = [_off(sources, cell, lambda each: each.slow, Predicted.slow_rate) for cell in cells if cell[0].slow[1]]
    return Sweep(
        load=load,
        regime=regime,
        runs=len(ones),
        min_replicas=base.min_replicas,
        max_replicas=base.max_replicas,
        off=max(_off(sources, cell, lambda each: each.cold.invocations, _cold_rate) for cell in cells),
        off_slow=max(slow, default=None),
        settings=[msgspec.structs.replace(each, on_front=i in front) for i, each in enumerate(settings)],
    )


def _some(mine: Sequence[Digest]) -> list[Digest]:
    arrivals, found = 0, list(mine[:1])
    for each in mine[1:_RUNS]:
        arrivals += each.requests
        if arrivals <= _ARRIVALS:
            found.append(each)
    return found


def _round(seconds: float) -> float:
    return float(f"{seconds:.2g}")


def _setting(ones: Sequence[Predicted], function: Function, gb: float) -> Swept:
    found = [(one, one.again(function)) for one in ones]
    rates = [each.cold_rate for _, each in found]
    interval = mean_interval(rates)
    return Swept(
        min_replicas=function.min_replicas,
        max_replicas=function.max_replicas,
        idle_timeout_s=function.idle_timeout_s,
        per_mean_gap=_round(function.idle_timeout_s / simulate.mean_gap_s(ones)),
        cold_rate=statistics.fmean(rates),
        low=None if interval.low is None else max(0.0, interval.low),
        high=None if interval.high is None else min(1.0, interval.high),
        slow_rate=mean_of([one.slow_rate(each) for one, each in found]),
        p95_s=float(np.quantile(np.concatenate([each.latency_s for _, each in found]), 0.95)),
        held_gb=statistics.fmean(one.held(each) for one, each in found) * gb,
        on_front=False,
    )


def _off(
    sources: Sequence[Digest],
    cell: Sequence[Digest],
    counts: Callable[[Digest], Counts],
    rate: Callable[[Predicted, Simulated], float | None],
) -> float:
    """By how much the sweep misses a rate of a regime that was measured, over the blocks of both.

    Simulated with the sweep's own times, as settings that were not measured are: what a regime does to service and
    start times counts as a miss.
    """
    measured = {each.run.block: counts(each) for each in cell if counts(each)[1]}
    both = [each for each in sources if each.run.block in measured]
    ones = [(each.run.block, each.predicted) for each in both if each.predicted]
    apart = [
        measured[block][0] / measured[block][1] - (rate(one, one.again(settings)) or 0.0)
        for settings in (each.predicted.function for each in cell[:1] if each.predicted)
        for block, one in ones
    ]
    return abs(statistics.fmean(apart)) if apart else 0.0


def _cold_rate(_: Predicted, found: Simulated) -> float:
    return found.cold_rate


def _best(points: Sequence[tuple[float, ...]]) -> set[int]:
    """The Pareto front: indices of the points that no other one beats."""
    return {i for i, point in enumerate(points) if not any(_beats(other, point) for other in points)}


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """At least as good (less) in everything, and better in something; rounding aside."""
    pairs = [(a, b, 1e-9 * max(abs(a), abs(b))) for a, b in zip(one, other, strict=True)]
    return all(a <= b + eps for a, b, eps in pairs) and any(a < b - eps for a, b, eps in pairs)


def fronts(cells: Sequence[Cell]) -> list[Front]:
    """Of each load: which measured regimes no other one beats in cold starts, slowness and memory held at once."""
    found = []
    for load in dict.fromkeys(cell.load for cell in cells):
        mine = [
            cell
            for cell in cells
            if cell.load == load and cell.cold_rate.estimate is not None and cell.cost_gb_s.provisioned is not None
        ]
        slow = next((name for name, of in _SLOW.items() if all(of(cell) is not None for cell in mine)), "")
        points = {
            cell.regime: (cell.cold_rate.estimate or 0.0, _SLOW[slow](cell) or 0.0, cell.cost_gb_s.provisioned or 0.0)
            for cell in mine
        }
        if len(points) > 1:
            found.append(Front(load=load, slow=slow, regimes=_on_front(points, slow)))
    return found


_SLOW: dict[str, Callable[[Cell], float | None]] = {
    "slow_rate": lambda cell: cell.slow_rate.rate.estimate if cell.slow_rate else None,
    "p95": lambda cell: None if "p95" in cell.latency_s.near_jump else cell.latency_s.p95,
    "": lambda _: 0.0,
}


def _on_front(points: dict[str, tuple[float, float, float]], slow: str) -> list[OnFront]:
    return [
        OnFront(
            regime=regime,
            cold_rate=point[0],
            slow=point[1] if slow else None,
            held_gb=point[2],
            beaten_by=min((name for name, other in points.items() if _beats(other, point)), default=""),
        )
        for regime, point in sorted(points.items(), key=lambda each: (each[1][2], each[0]))
    ]


class Equal(NamedTuple):
    """rate_per_s: where both hold the same. None where one holds less at all rates up to `up_to_per_s`; from there on
    it holds all the replicas that it may, or cannot keep up.
    """

    rate_per_s: float | None
    up_to_per_s: float


def equal_holding(one: Predicted, other: Function) -> Equal:
    """The lowest rate at which `one`'s function holds as much as `other` would, of `one`'s arrivals in less time."""
    most = min(each.max_replicas for each in (one.function, other))
    fastest_per_s = _SATURATED * most * one.function.concurrency / float(one.times.service_s.mean())
    slower: tuple[float, float] | None = None
    for step in range(math.floor(math.log(fastest_per_s / (_SLOWEST * one.rate_per_s), _STEP)) + 1):
        rate_per_s = _SLOWEST * one.rate_per_s * _STEP**step
        a, b = (one.held_at(rate_per_s, function) for function in (one.function, other))
        if a >= _ALL * most:
            return Equal(None, rate_per_s)
        apart = math.log(a / b)
        if apart >= 0:
            share = slower[1] / (slower[1] - apart) if slower else 1.0
            return Equal(rate_per_s * _STEP ** (share - 1), fastest_per_s)
        slower = rate_per_s, apart
    return Equal(None, fastest_per_s)


def kept_stages(campaign: Campaign, cells: Sequence[Cell], digests: Sequence[Digest]) -> list[KeptStage]:
    """Every pair of regimes at the pipeline of which b is a with one function kept, and nothing else changed."""
    found = []
    for base in (cell for cell in cells if cell.path is not None and cell.runs):
        for regime in campaign.experiment.regimes_of(base.load):
            other = in_cell(digests, base.load, regime)
            function = _kept(in_cell(digests, base.load, base.regime)[0], other[0]) if other else None
            if function:
                found.append(_checked(base, regime, function, digests))
    return found


def _kept(a: Digest, b: Digest) -> str | None:
    """The one function of which b keeps a replica and a none, where they differ in nothing else."""
    differ = [name for name in a.run.settings if a.run.settings[name] != b.run.settings.get(name)]
    if len(differ) != 1 or a.run.switches or b.run.switches or a.run.settings.keys() != b.run.settings.keys():
        return None
    mine, other = a.run.settings[differ[0]], b.run.settings[differ[0]]
    same = structs.replace(mine, min_replicas=1) == other
    return differ[0] if same and mine.min_replicas == 0 and other.min_replicas == 1 else None


def _checked(base: Cell, regime: str, function: str, digests: Sequence[Digest]) -> KeptStage:
    a, b = in_cell(digests, base.load, base.regime), in_cell(digests, base.load, regime)
    keep = next((k for k in base.path.keep_warm if k.function == function), None) if base.path else None
    saved = _differences(a, b, _response_s)
    extra = _differences(b, a, held_gb)
    interval = mean_interval(saved)
    predicted_s = keep.saved_s if keep else 0.0
    known = interval.low is not None and interval.high is not None
    return KeptStage(
        load=base.load,
        a=base.regime,
        b=regime,
        function=function,
        predicted_s=predicted_s,
        measured_s=interval.estimate or 0.0,
        low_s=interval.low,
        high_s=interval.high,
        predicted_extra_gb=keep.extra_gb if keep else 0.0,
        measured_extra_gb=statistics.fmean(extra) if extra else 0.0,
        blocks=len(saved),
        agrees=interval.low <= predicted_s <= interval.high if known else None,  # type: ignore[operator]
    )


def _response_s(each: Digest) -> float | None:
    return float(each.paths.response_s.mean()) if len(each.paths.response_s) else None


def _differences(a: Sequence[Digest], b: Sequence[Digest], figure: Any) -> list[float]:
    one, two = of_blocks(a, figure), of_blocks(b, figure)
    return [one[block] - two[block] for block in sorted(one.keys() & two.keys())]
