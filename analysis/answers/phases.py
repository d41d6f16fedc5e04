"""Switches and phases of all runs of an arm, as figures with intervals over runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from msgspec import structs

from analysis.answers.cells import in_cell
from analysis.rows.digest import Digest
from analysis.rows.phases import Phase
from analysis.statistics.intervals import mean_interval, pooled_rate_interval
from fave.campaign.experiment import Experiment
from fave.campaign.results import Estimate, PhaseFigures, Share, SwitchFigures, share


def switches(experiment: Experiment, digests: Sequence[Digest]) -> list[SwitchFigures]:
    """By load, arm, and from which regime to which."""
    found = []
    for load, arm, mine in _arms(experiment, digests):
        names = dict.fromkeys(each.name for run in mine for each in run.switches)
        for name in names:
            runs = [[each for each in run.switches if each.name == name] for run in mine]
            every = [each for run in runs for each in run]
            found.append(
                SwitchFigures(
                    load=load,
                    regime=arm,
                    switch=name,
                    switches=len(every),
                    in_force_s=mean_interval([_mean_of(each.in_force_s for each in run) for run in runs if run]),
                    longest_s=max(each.in_force_s for each in every),
                    cold=_share([_sum(each.cold for each in run) for run in runs]),
                    replaced=sorted({name for each in every for name in each.replaced}),
                )
            )
    return found


def phases(experiment: Experiment, digests: Sequence[Digest]) -> list[PhaseFigures]:
    """By load and arm: of regimes, then of traffic, each in the order in which they came."""
    found: list[PhaseFigures] = []
    for load, arm, mine in _arms(experiment, digests):
        for of in (lambda each: each.by_regime, lambda each: each.by_traffic):
            found += _of_arm(load, arm, mine, of)
    return found


def _of_arm(
    load: str, arm: str, mine: Sequence[Digest], of: Callable[[Digest], Sequence[Phase]]
) -> Iterable[PhaseFigures]:
    for name in dict.fromkeys(phase.name for run in mine for phase in of(run)):
        those = [phase for run in mine for phase in of(run) if phase.name == name]
        recovered = [phase.recovery_s for phase in those if phase.recovery_s is not None]
        known = [value for value in recovered if not math.isnan(value)]
        yield PhaseFigures(
            load=load,
            regime=arm,
            phase=name,
            runs=len(those),
            seconds=_mean_of(phase.seconds for phase in those),
            requests=sum(phase.requests for phase in those),
            cold=_share([phase.cold for phase in those]),
            mean_latency_s=mean_interval([p.latency_sum_s / p.answered for p in those if p.answered]),
            held_gb=mean_interval([p.held_gb_s / p.seconds for p in those if p.seconds > 0]),
            recovery_s=_recovered(known) if recovered else None,
            unrecovered=len(recovered) - len(known),
        )


def _arms(experiment: Experiment, digests: Sequence[Digest]) -> Iterable[tuple[str, str, Sequence[Digest]]]:
    for load in experiment.loads:
        for arm in experiment.regimes_of(load):
            yield load, arm, in_cell(digests, load, arm)


def _recovered(known: Sequence[float]) -> Estimate:
    """No time is below 0, as a t interval may be."""
    found = mean_interval(known)
    return found if found.low is None else structs.replace(found, low=max(0.0, found.low))


def _mean_of(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known) if known else 0.0


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    every = list(counts)
    return sum(cold for cold, _ in every), sum(known for _, known in every)


def _share(counts: Sequence[tuple[int, int]]) -> Share:
    known = [each for each in counts if each[1]]
    return share(pooled_rate_interval(known), *_sum(known))
