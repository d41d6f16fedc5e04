"""Whether somebody enforced the scaling policy that was asked for: counts against minimum, maximum and idleness.

A regime that nobody scales to zero under is no cold regime, whatever its labels say. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from fave.campaign.experiment import Policy
from fave.clock import NS_PER_S
from fave.wire.records import ReplicaRow, StageRow


class Breach(NamedTuple):
    """For how long beyond what the policy allows, in words."""

    over_s: float
    said: str


class _Sample(NamedTuple):
    at_ns: int
    desired: int


def worst_breach(
    policies: Mapping[str, Policy], rows: Iterable[StageRow], seen: Iterable[ReplicaRow], start_ns: int, end_ns: int
) -> Breach | None:
    """The longest of them in (start, end]; None where nobody counted replicas.

    rows: the calls, whose callers tell how long a function was in use. Surplus replicas of a function that is in use
    are not judged: which of them was needed depends on how the platform spreads calls.
    """
    calls, counts = list(rows), list(seen)
    found = []
    for function, policy in policies.items():
        samples = [
            _Sample(row.at_ns, row.desired)
            for row in counts
            if row.function == function and row.desired is not None and start_ns < row.at_ns <= end_ns
        ]
        if samples:
            used = _in_use([row for row in calls if row.stage == function], end_ns)
            found += [
                _longest(samples, policy.max_replicas.__lt__, f"{function} over its maximum"),
                _longest(samples, policy.min_replicas.__gt__, f"{function} under its minimum"),
                _idle(samples, used, policy, start_ns, function),
            ]
    return max(found, default=None)


def _longest(samples: Sequence[_Sample], wrong: Callable[[int], bool], said: str) -> Breach:
    """From the first sample of a row of wrong ones to its last."""
    longest_ns, since_ns = 0, None
    for each in samples:
        if not wrong(each.desired):
            since_ns = None
            continue
        since_ns = since_ns or each.at_ns
        longest_ns = max(longest_ns, each.at_ns - since_ns)
    return Breach(longest_ns / NS_PER_S, said)


def _in_use(calls: Iterable[StageRow], end_ns: int) -> list[tuple[int, int]]:
    """When at least one call was under way, in order; one that never returned is under way to the end."""
    spans = sorted((row.sent_at_ns, row.returned_at_ns or end_ns) for row in calls if row.sent_at_ns)
    merged: list[tuple[int, int]] = []
    for since, until in spans:
        if merged and since <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until))
        else:
            merged.append((since, until))
    return merged


def _idle(
    samples: Sequence[_Sample], used: Sequence[tuple[int, int]], policy: Policy, start_ns: int, function: str
) -> Breach:
    """How long more replicas than the minimum stood after a whole idle timeout without any call."""
    over_ns, grown_ns, before = 0, start_ns, policy.min_replicas
    for at_ns, count in samples:
        if count > before:
            grown_ns = at_ns  # one that has just come is not idle for long
        before = count
        place = bisect_right(used, at_ns, key=lambda span: span[0])
        last_ns = used[place - 1][1] if place else start_ns
        if count > policy.min_replicas:
            idle_ns = at_ns - max(last_ns, grown_ns, start_ns)
            over_ns = max(over_ns, idle_ns - int(policy.idle_timeout * NS_PER_S))
    said = f"{function} kept idle replicas beyond its idle timeout of {policy.idle_timeout}"
    return Breach(max(0, over_ns) / NS_PER_S, said)
