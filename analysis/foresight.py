"""What was not measured, from what was: other idle timeouts by simulation; a single stage kept warm, checked."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from analysis import simulate
from analysis.answers import Cell, IdleTimeout, IdleTimeouts, KeptStage
from analysis.cells import held_gb_s, in_cell, of_blocks
from analysis.digest import Digest
from analysis.intervals import mean_interval
from analysis.load import Campaign, regimes_of
from fave.workload import PIPELINE

# Idle timeout over mean gap: the ratio that sets the share of gaps that are long enough.
_PER_GAP = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
# Runs of a load that are simulated, at most.
_RUNS = 10


def idle_timeouts(campaign: Campaign, digests: Sequence[Digest]) -> list[IdleTimeouts]:
    """Of every load at a single stage, in the first regime that scales it to zero."""
    experiment = campaign.experiment
    found = []
    for load, each in experiment["loads"].items():
        for regime in regimes_of(experiment, load):
            mine = [d for d in in_cell(digests, load, regime) if d.predicted][:_RUNS]
            if mine and each["target"] != PIPELINE and mine[0].run.settings[each["target"]]["min_replicas"] == 0:
                found.append(IdleTimeouts(load=load, regime=regime, runs=len(mine), curve=_curve(mine)))
                break
    return found


def _curve(mine: Sequence[Digest]) -> list[IdleTimeout]:
    ones = [each.predicted for each in mine if each.predicted]
    gap_s = simulate.mean_gap_s(ones)
    gb = mine[0].run.memory_limit_mb[mine[0].run.target] / 1024
    curve = []
    for factor in _PER_GAP:
        timeout_s = float(f"{factor * gap_s:.2g}")
        found = [simulate.again(one, timeout_s) for one in ones]
        interval = mean_interval([each.cold_rate for each in found])
        curve.append(
            IdleTimeout(
                idle_timeout_s=timeout_s,
                per_mean_gap=factor,
                cold_rate=statistics.fmean(each.cold_rate for each in found),
                low=None if interval.low is None else max(0.0, interval.low),
                high=None if interval.high is None else min(1.0, interval.high),
                held_gb_s=statistics.fmean(each.provisioned_s for each in found) * gb,
            )
        )
    return curve


def kept_stages(campaign: Campaign, cells: Sequence[Cell], digests: Sequence[Digest]) -> list[KeptStage]:
    """Every pair of regimes at the pipeline of which b is a with one function kept, and nothing else changed."""
    found = []
    for base in (cell for cell in cells if cell.path is not None and cell.runs):
        for regime in regimes_of(campaign.experiment, base.load):
            other = in_cell(digests, base.load, regime)
            function = _kept(in_cell(digests, base.load, base.regime)[0], other[0]) if other else None
            if function:
                found.append(_checked(base, regime, function, digests))
    return found


def _kept(a: Digest, b: Digest) -> str | None:
    """The one function of which b keeps a replica and a none, where they differ in nothing else."""
    differ = [name for name in a.run.settings if a.run.settings[name] != b.run.settings.get(name)]
    if len(differ) != 1:
        return None
    mine, other = a.run.settings[differ[0]], b.run.settings[differ[0]]
    same = _without_minimum(mine) == _without_minimum(other)
    return differ[0] if same and mine["min_replicas"] == 0 and other["min_replicas"] == 1 else None


def _without_minimum(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "min_replicas"}


def _checked(base: Cell, regime: str, function: str, digests: Sequence[Digest]) -> KeptStage:
    a, b = in_cell(digests, base.load, base.regime), in_cell(digests, base.load, regime)
    keep = next((k for k in base.path.keep_warm if k.function == function), None) if base.path else None
    saved = _differences(a, b, _response_s)
    extra = _differences(b, a, held_gb_s)
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
        predicted_extra_gb_s=keep.extra_gb_s if keep else 0.0,
        measured_extra_gb_s=statistics.fmean(extra) if extra else 0.0,
        blocks=len(saved),
        agrees=interval.low <= predicted_s <= interval.high if known else None,  # type: ignore[operator]
    )


def _response_s(each: Digest) -> float | None:
    return float(each.paths.response_s.mean()) if len(each.paths.response_s) else None


def _differences(a: Sequence[Digest], b: Sequence[Digest], figure: Any) -> list[float]:
    one, two = of_blocks(a, figure), of_blocks(b, figure)
    return [one[block] - two[block] for block in sorted(one.keys() & two.keys())]
