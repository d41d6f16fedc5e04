"""Arms whose regime changes during a run: by the clock, or ahead of the load's own bursts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from fave.campaign import record
from fave.campaign.experiment import CLOSEST_S, Experiment, Policy, Prewarming
from fave.campaign.record import Change
from fave.campaign.rundir import CellDir
from fave.clock import NS_PER_S, utc_ns
from fave.traffic.arrivals import Schedule
from platforms.model import Platform
from regimes.apply import Say, switch
from workloads.model import Workload

# How often the driver looks whether the load has begun; arrivals begin 0.3 s after that is written.
_POLL_S = 0.02
_US = 1_000_000
# Before it is said what is waited for.
_PATIENCE_S = 3.0
Policies = Callable[[str], Mapping[str, Policy]]


class Step(NamedTuple):
    """From then on, seconds from the start of the load, this regime is asked for."""

    at_s: float
    regime: str


def steps(experiment: Experiment, load: str, arm: str, schedule: Schedule) -> list[Step]:
    """The first one is at 0: what stands at the start. None is at or after the load's end."""
    if arm in experiment.switching:
        return [Step(float(each.at), each.regime) for each in experiment.switching[arm]]
    ahead = experiment.prewarming.get(arm)
    if ahead is None:
        return [Step(0.0, experiment.regime_of(arm))]
    return [step for step in _ahead(ahead, schedule) if step.at_s < experiment.loads[load].traffic.duration]


def _ahead(rule: Prewarming, schedule: Schedule) -> list[Step]:
    """Warm from `before_bursts` before each burst to `after_bursts` after it; too close ones are one."""
    spans: list[tuple[float, float]] = []
    for since_s, until_s in bursts(schedule, rule.silence):
        since_s, until_s = since_s - rule.before_bursts, until_s + rule.after_bursts
        if spans and since_s < spans[-1][1] + CLOSEST_S:
            spans[-1] = (spans[-1][0], until_s)
        else:
            spans.append((since_s, until_s))
    # Too soon for a switch of its own: it stands from the start.
    found = [Step(0.0, rule.otherwise)] if not spans or spans[0][0] >= CLOSEST_S else []
    for since_s, until_s in spans:
        begins_s = since_s if found else 0.0
        # A burst and its lead may be shorter than two switches.
        found += [Step(begins_s, rule.regime), Step(max(until_s, begins_s + CLOSEST_S), rule.otherwise)]
    return found


def bursts(schedule: Schedule, silence_s: float) -> list[tuple[float, float]]:
    """First and last arrival of each, in seconds: what no silence of that length interrupts."""
    if not schedule:
        return []
    edges = [0, *(i for i, (a, b) in enumerate(pairwise(schedule), start=1) if b - a >= silence_s * _US), len(schedule)]
    return [(schedule[a] / _US, schedule[b - 1] / _US) for a, b in pairwise(edges)]


class Followed(NamedTuple):
    """standing: the policies afterwards, in the platform's words; nobody else may change them before the next one."""

    change: Change
    standing: dict[str, dict[str, str]]


def closest_s(plan: Sequence[Step]) -> float | None:
    """The least time that a switch has until the next one is asked for."""
    return min((b.at_s - a.at_s for a, b in pairwise(plan[1:])), default=None)


@contextlib.contextmanager
def followed(
    platform: Platform, workload: Workload, plan: Sequence[Step], policies: Policies, folder: CellDir, say: Say
) -> Iterator[list[Followed]]:
    """Until this is left, ask for each regime when its time has come. What came about is added to the list, which is
    whole afterwards: a switch under way is waited for.
    """
    changes: list[Followed] = []
    over = threading.Event()
    thread = threading.Thread(
        target=_follow, args=(platform, workload, plan, policies, folder, say, changes, over), name="switching"
    )
    if plan:
        thread.start()
    try:
        yield changes
    finally:
        over.set()
        if plan:
            while thread.is_alive():
                thread.join(_PATIENCE_S)
                if thread.is_alive():
                    say("waiting for a switch of regimes that is under way ...")


def _follow(
    platform: Platform,
    workload: Workload,
    plan: Sequence[Step],
    policies: Policies,
    folder: CellDir,
    say: Say,
    changes: list[Followed],
    over: threading.Event,
) -> None:
    while not folder.started.exists():
        if over.wait(_POLL_S):
            return
    zero_ns = record.read(folder.path, folder.started.name, record.Started).started_at_ns
    for step in plan:
        if over.wait(max(0.0, (zero_ns - utc_ns()) / NS_PER_S + step.at_s)):
            return
        wanted = dict(policies(step.regime))
        changes.append(_switch(platform, workload, step, wanted, say, zero_ns))


def _switch(
    platform: Platform, workload: Workload, step: Step, policies: dict[str, Policy], say: Say, zero_ns: int
) -> Followed:
    asked_ns = utc_ns()
    planned_ns = zero_ns + round(step.at_s * NS_PER_S)
    made = Change(regime=step.regime, by="schedule", planned_at_ns=planned_ns, requested_at_ns=asked_ns)
    try:
        done, standing = switch(platform, workload, step.regime, policies, say), platform.standing(policies)
    except Exception as error:  # noqa: BLE001 - a thread of its own: who judges the run must hear of it
        return Followed(msgspec.structs.replace(made, error=str(error) or type(error).__name__), {})
    change = msgspec.structs.replace(
        made,
        requested_at_ns=done.requested_at_ns,
        effective_at_ns=done.effective_at_ns,
        ready=done.ready,
        replaced=done.replaced,
    )
    return Followed(change, standing)
