"""What a campaign will take and what it can show, told before anything runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.model import Experiment
from experiments.plan import Group, forecast_s
from experiments.progress import duration
from experiments.switching import closest_s, steps
from fave.campaign import record
from fave.campaign.outcomes import OUTCOMES, Outcome
from fave.errors import ConfigError
from fave.traffic import traces

_POWER = 0.8
_ALPHA = 0.05
# Of a factorial: two main effects and the interaction.
_EFFECTS = 3
# Shown where no pilot is known: the spread of differences that steady, and very bursty, traffic had in simulations.
_USUAL_SD = (0.02, 0.05, 0.10, 0.20)


class Pilot(NamedTuple):
    """Where spreads come from: sd of the block-wise differences by (outcome, load, a, b), of logs where arms are
    compared as ratios; `every` where one is given for all.

    start_s: how long a replica takes to start, where it takes longest. Without a spread where all differences were the
    same: that a few blocks agreed does not say that more would.
    """

    source: str
    sds: dict[tuple[str, str, str, str], float]
    every: float | None = None
    start_s: float | None = None

    def sd(self, outcome: str, load: str, a: str, b: str) -> float | None:
        return self.every if self.every is not None else self.sds.get((outcome, load, a, b))


def given(sd: float) -> Pilot:
    if not 0 < sd < 1:
        raise ConfigError(f"--sd {sd:g}: a standard deviation of rates, or of logs, lies between 0 and 1")
    return Pilot("--sd", {}, sd)


def from_run(folder: Path) -> Pilot:
    """The spreads that an earlier campaign showed.

    Raises
    ------
    ConfigError
        When it has no results.
    InvalidRunError
        When they cannot be read.
    """
    path = folder / "results.json"
    if not path.exists():
        raise ConfigError(f"{folder.name}: has no results.json", hint=f"make report RUN={folder.name}")
    # Reports from before 2026-11-26 have no standard errors.
    found = record.read(folder, path.name, record.Pilot)
    sds = {
        (row.outcome, row.load, row.a, row.b): row.standard_error * math.sqrt(row.blocks)
        for row in (*found.contrasts, *found.secondary_contrasts)
        if row.standard_error
    }
    starts_s = [cell.start_s.estimate for cell in found.cells if cell.start_s.estimate is not None]
    return Pilot(folder.name, sds, start_s=max(starts_s, default=None))


def earlier(name: str, runs: Path) -> Pilot | None:
    """Of the latest campaign of the same name that has results."""
    for path in sorted(runs.glob("[0-9]*/results.json"), reverse=True):
        # yyyymmdd-hhmmss-NAME
        if path.parent.name.split("-", 2)[2:] == [name]:
            return from_run(path.parent)
    return None


def summary(experiment: Experiment, groups: Sequence[Group], pilot: Pilot | None) -> list[str]:
    """Cells, time, held memory, smallest detectable difference; a few lines."""
    cells = sum(len(group.cells) for group in groups)
    load_s = sum(len(group.cells) * experiment.loads[group.load].traffic.duration for group in groups)
    low, high = held_gb_s(experiment, groups)
    blocks = ", ".join(f"{name} {load.blocks}" for name, load in experiment.loads.items())
    lines = [
        f"{cells} cells: {len(experiment.regimes)} regimes, blocks by load: {blocks}",
        f"forecast: {duration(forecast_s(experiment, list(groups)))} and the reports, {duration(load_s)} of it offered "
        f"load; memory held {low:,.0f} to {high:,.0f} GB-s (minimum to maximum replicas)",
    ]
    lines += [
        f"{name} replays {load.traffic.trace.file}: {traces.recognised(load.traffic.trace)}"
        for name, load in experiment.loads.items()
        if load.traffic.trace
    ]
    if experiment.looks:
        lines.append(
            f"looks after {', '.join(map(str, experiment.looks))} blocks: a load ends when all its contrasts are "
            "decided; told is the longest that it can take"
        )
    return lines + detectable(experiment, pilot)


def too_fast(experiment: Experiment, groups: Sequence[Group], pilot: Pilot | None) -> list[str]:
    """Arms that switch faster than replicas started in the pilot: what they ask for would never be there in time."""
    if pilot is None or pilot.start_s is None:
        return []
    start_s, found = pilot.start_s, dict[str, None]()
    for group in groups:
        for arm in experiment.regimes_of(group.load):
            lead_s = float(experiment.prewarming[arm].before_bursts) if arm in experiment.prewarming else None
            closest = (
                closest_s(steps(experiment, group.load, arm, group.schedule)) if experiment.switches(arm) else None
            )
            least_s = min((each for each in (lead_s, closest) if each is not None), default=None)
            if least_s is not None and least_s < start_s:
                what = f"{arm}, {group.load}: a switch has {least_s:.2g} s, a replica took {start_s:.2g} s to start"
                found[f"{what} ({pilot.source})"] = None
    return list(found)


def held_gb_s(experiment: Experiment, groups: Sequence[Group]) -> tuple[float, float]:
    """Bounds of the provisioned cost: every function at its minimum, or maximum, for as long as load is offered."""
    low = high = 0.0
    runs = Counter((group.load, cell.regime) for group in groups for cell in group.cells)
    for (load, regime), count in runs.items():
        every = [experiment.policies(load, regime, each) for each in experiment.regimes_in(regime)]
        for function, each in every[0].items():
            gb_s = count * each.memory_limit_mb / 1024 * experiment.loads[load].traffic.duration
            low += min(policies[function].min_replicas for policies in every) * gb_s
            high += max(policies[function].max_replicas for policies in every) * gb_s
    return low, high


def detectable(experiment: Experiment, pilot: Pilot | None) -> list[str]:
    """The smallest difference of the primary outcome that each planned contrast shows with 80 % power."""
    planned = [(name, load, a, b) for name, load in experiment.loads.items() for a, b in experiment.contrasts_of(name)]
    family = len(planned) + _EFFECTS * sum(map(experiment.crosses, experiment.loads))
    if not planned:
        return []
    # Of several looks the last one has this share of alpha (`analysis.looks`).
    share = 2 / (len(experiment.looks) + 1) if experiment.looks else 1.0
    alpha = share * _ALPHA / family
    strictest = f"alpha {share * _ALPHA:.2g} / {family}: Holm's strictest step{' at the last look' * (share < 1)}"
    outcome, about = experiment.primary_outcome, OUTCOMES[experiment.primary_outcome]
    head = f"smallest difference of {about.several} shown with {_POWER:.0%} power, in {about.difference_unit}"
    head += f" ({strictest})"
    if pilot is None:
        lines = [f"{head}; no pilot is known (--pilot RUN or --sd), so for some spreads:"]
        for blocks in sorted({load.blocks for _, load, _, _ in planned}):
            lines.append(f"  {blocks} blocks: " + ", ".join(_usual(about, sd, blocks, alpha) for sd in _USUAL_SD))
        return lines
    margin = experiment.equivalence_margin
    lines = [f"{head}, spread from {pilot.source}; in brackets the blocks that would show {margin * 100:g}:"]
    for name, load, a, b in planned:
        sd = pilot.sd(outcome, name, a, b)
        said = "no spread is known" if sd is None else _known(about, sd, load.blocks, alpha, margin)
        lines.append(f"  {f'{name}: {a} - {b}':36} {said}")
    return lines


def _usual(about: Outcome, sd: float, blocks: int, alpha: float) -> str:
    from analysis.statistics.power import smallest_detectable

    return f"sd {sd * 100:g}: {_shown(about, smallest_detectable(sd, blocks, power=_POWER, alpha=alpha))}"


def _known(about: Outcome, sd: float, blocks: int, alpha: float, margin: float) -> str:
    from analysis.statistics.power import blocks_needed, smallest_detectable

    least = _shown(about, smallest_detectable(sd, blocks, power=_POWER, alpha=alpha))
    needed = blocks_needed(about.on_scale(margin), sd, power=_POWER, alpha=alpha)
    return f"sd {sd * 100:5.1f}, {blocks} blocks: {least} ({needed or 'over 1000'})"


def _shown(about: Outcome, difference: float | None) -> str:
    """In points, or per cent."""
    if difference is None:
        return "none"
    if about.share:
        return f"{difference * 100:.1f}" if difference < 1 else "none (over 100)"
    return f"{about.off_scale(difference) * 100:.1f}" if difference < 1 else "none (over 170)"


def order(groups: Sequence[Group]) -> list[str]:
    """A line per block: the loads in their order, and of each the regimes."""
    lines: dict[int, list[str]] = {}
    for group in groups:
        lines.setdefault(group.block, []).append(f"{group.load} ({', '.join(cell.regime for cell in group.cells)})")
    return [f"  block {block + 1}: {'; '.join(parts)}" for block, parts in lines.items()]


def table(experiment: Experiment, groups: Sequence[Group]) -> list[tuple[str, ...]]:
    """By load and regime: what is sent to what, and from which initial state."""
    rows: list[tuple[str, ...]] = []
    for name, load in experiment.loads.items():
        mine = [group for group in groups if group.load == name]
        counts = sorted({len(group.schedule) for group in mine})
        arrivals = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        for regime in experiment.regimes_of(name):
            settings = experiment.policies(name, regime).values()
            initial = load.initial_replicas.get(regime)
            ready = sum(each.min_replicas for each in settings) if initial is None else initial * len(settings)
            bounds = f"{min(e.min_replicas for e in settings)} to {max(e.max_replicas for e in settings)}"
            idle = ", ".join(sorted({str(each.idle_timeout) for each in settings}))
            rows.append((name, regime, load.target, str(len(mine)), arrivals, bounds, idle, str(ready)))
    return rows


TABLE_COLUMNS: tuple[str, ...] = (
    "load",
    "regime",
    "target",
    "runs",
    "arrivals a run",
    "replicas",
    "idle timeout",
    "ready at the start",
)


def whole(name: str, experiment: Experiment, groups: Sequence[Group], pilot: Pilot | None) -> str:
    """All of `python -m experiments plan`."""
    from analysis.words import text_table

    parts: list[Any] = [f"{name}: {experiment.description}", ""]
    parts += [text_table(TABLE_COLUMNS, table(experiment, groups)), ""]
    parts += ["order (the same for the same seed):", *order(groups), ""]
    parts += summary(experiment, groups, pilot)
    rule = experiment.settle
    states = "new replicas, scaled to 0 and then to the initial count" if rule.how == "scale" else "waited for"
    parts += [
        f"initial states: {states}, verified by gateway and Prometheus (timeout {rule.timeout})",
        f"primary outcome: {experiment.primary_outcome}; "
        f"equivalence margin ±{experiment.equivalence_margin * 100:g} "
        f"{OUTCOMES[experiment.primary_outcome].difference_unit}",
        *(f"secondary outcome: {name}" for name in experiment.secondary_outcomes),
        *(f"not worse: {a} than {b}, in any of these" for a, b in experiment.not_worse),
        *(f"threshold: {text}" for text in experiment.thresholds),
        *(f"control: {c.kind}, {c.load}, {', '.join(c.regimes)}" for c in experiment.controls),
    ]
    return "\n".join(parts)
