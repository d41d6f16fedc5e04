"""Bring a regime about on a platform, and verify it before any traffic; exchange it under traffic."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from fave.campaign.experiment import Policy, Settle
from fave.clock import utc_ns
from fave.errors import PlatformError
from platforms import hopeless
from platforms.model import Counts, Platform
from workloads.model import Workload

Say = Callable[[str], None]
_SWITCH_TIMEOUT_S = 180.0
_WITNESS_TIMEOUT_S = 15.0
_POLL_S = 0.1
_NONE = Counts(0, 0)


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What stands: each function's policy and the replica counts that were verified."""

    regime: str
    policies: dict[str, Policy]
    initial_ready: dict[str, int]
    took_s: float


class Switched(msgspec.Struct, frozen=True, kw_only=True):
    """A regime that was exchanged under traffic: when it was asked for, and when replica counts showed it.

    replaced: functions whose replicas the platform replaced for it; their first calls afterwards may be cold.
    """

    regime: str
    requested_at_ns: int
    effective_at_ns: int
    ready: dict[str, int]
    replaced: list[str] = []


def apply(
    platform: Platform,
    workload: Workload,
    regime: str,
    policies: dict[str, Policy],
    say: Say = print,
    *,
    initial: int | None = None,
    settle: Settle | None = None,
) -> Applied:
    """All replicas to 0, deploy, scale to the initial count, verify; FAVE's functions of an earlier target are removed.

    Explicitly, not by waiting for idle timeouts: the state at the start must not depend on what ran before. Where a
    platform cannot do that, `settle` says to wait.
    initial: ready replicas of each function at the start, within its bounds; None is its minimum.

    Raises
    ------
    PlatformError
        When a function of that name is there that FAVE did not deploy, before anything is changed; when the replicas do
        not become what the regime says (names each function with what it has).
    """
    began_s = time.monotonic()
    rule, began_ns = settle or Settle(), utc_ns()
    there = platform.changeable(workload, policies)
    if rule.how == "scale":
        for function in there:
            platform.scale(function, 0)
        _settle(platform, dict.fromkeys(there, 0), began_ns, rule.timeout, say)
    for function in there - policies.keys():
        platform.remove(function)
    deployed_ns = utc_ns()
    wanted = {f: each.min_replicas if initial is None else initial for f, each in policies.items()}
    platform.deploy(workload, regime, policies)
    for function, count in wanted.items():
        if rule.how == "scale" or count:
            platform.scale(function, count)
    _settle(platform, wanted, deployed_ns, rule.timeout, say)
    time.sleep(rule.rest)
    # The witness of the run must see the same, in a look from after the settling.
    settled_at_ns = utc_ns()
    exactly = {function: (count, count) for function, count in wanted.items()}
    _wait_for(lambda: _unseen(platform, exactly, settled_at_ns), _WITNESS_TIMEOUT_S, "Prometheus", say)
    return Applied(regime=regime, policies=policies, initial_ready=wanted, took_s=time.monotonic() - began_s)


def switch(
    platform: Platform, workload: Workload, regime: str, policies: dict[str, Policy], say: Say = print
) -> Switched:
    """Exchange the scaling policy under traffic: no replica is stopped for it but those above the new maximum, and
    those that a platform replaces, which is told.

    That holds where regimes differ in scaling only, as the shipped ones do; a changed limit replaces replicas.

    In force when every function has at least its minimum ready and at most its maximum there. Replicas above the new
    minimum go when their idle timeout passes, as the regime says; until then they are what the earlier one left.

    Raises
    ------
    PlatformError
        When a function is not deployed or not FAVE's, before anything is changed; when counts do not come to lie within
        the new bounds.
    """
    requested_at_ns = utc_ns()
    platform.changeable(workload, policies)
    there = platform.counts()
    missing = sorted(policies.keys() - there.keys())
    if missing:
        raise PlatformError(f"not deployed: {', '.join(missing)}", hint=f"python -m regimes apply {regime}")
    replaced = platform.bound(workload, regime, policies)
    for function, policy in policies.items():
        if there[function].desired < policy.min_replicas:
            platform.scale(function, policy.min_replicas)
    bounds = {function: (each.min_replicas, each.max_replicas) for function, each in policies.items()}
    _wait_for(lambda: _outside(platform.counts(), bounds), _SWITCH_TIMEOUT_S, "the gateway", say)
    settled_at_ns = utc_ns()
    _wait_for(lambda: _unseen(platform, bounds, settled_at_ns), _WITNESS_TIMEOUT_S, "Prometheus", say)
    ready = {function: each.ready for function, each in platform.counts().items() if function in policies}
    return Switched(
        regime=regime,
        requested_at_ns=requested_at_ns,
        effective_at_ns=settled_at_ns,
        ready=ready,
        replaced=replaced,
    )


def _settle(platform: Platform, wanted: dict[str, int], since_ns: int, timeout_s: float, say: Say) -> None:
    """Wait until every function has exactly `wanted` replicas, all of them ready, and none that is still ending.

    since_ns: when what is to come was asked for; starts that failed since then tell that it does not.
    """

    def wrong() -> list[str]:
        found = _wrong(platform.counts(), wanted)
        if found:
            hopeless.refuse(platform, since_ns)
        return found

    _wait_for(wrong, timeout_s, "the gateway", say)


def _wait_for(wrong: Callable[[], list[str]], timeout_s: float, witness: str, say: Say) -> None:
    """Until `wrong` finds nothing; tells what it still finds every ten seconds."""
    deadline_s = time.monotonic() + timeout_s
    told_s = time.monotonic()
    while found := wrong():
        if time.monotonic() > deadline_s:
            hint = "`make probe` tells what this platform can do; see docs/openfaas-editions.md"
            raise PlatformError(
                f"replicas did not settle within {timeout_s:g} s, says {witness}: {'; '.join(found)}", hint=hint
            )
        if time.monotonic() - told_s > 10:
            say(f"waiting for replicas: {'; '.join(found)}")
            told_s = time.monotonic()
        time.sleep(_POLL_S)


def _wrong(counts: dict[str, Counts], wanted: dict[str, int]) -> list[str]:
    have = {function: counts.get(function, _NONE) for function in wanted}
    return [
        f"{function} has {each.ready} ready of {each.desired}, wanted {wanted[function]}"
        + f", {each.draining} draining" * bool(each.draining)
        for function, each in have.items()
        if each[:3] != (wanted[function], wanted[function], 0)
    ]


def _outside(counts: dict[str, Counts], bounds: dict[str, tuple[int, int]]) -> list[str]:
    """Functions whose counts do not lie within (min, max), in words."""
    have = {function: counts.get(function, _NONE) for function in bounds}
    return [
        f"{function} has {each.ready} ready of {each.desired}, wanted {bounds[function][0]} to {bounds[function][1]}"
        for function, each in have.items()
        if each.ready < bounds[function][0] or each.desired > bounds[function][1]
    ]


def _unseen(platform: Platform, bounds: dict[str, tuple[int, int]], since_ns: int) -> list[str]:
    seen = platform.ready_since(since_ns)
    return [
        f"{function}: {seen.get(function)}, wanted {low} to {high}"
        for function, (low, high) in bounds.items()
        if not low <= seen.get(function, -1) <= high
    ]
