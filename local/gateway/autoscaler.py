"""Pure scaling decisions. Time and state come in, a number goes out."""

from __future__ import annotations

import math

import msgspec

from local.gateway.model import Policy


class PoolState(msgspec.Struct, frozen=True, kw_only=True):
    """`free` is the capacity of ready replicas that nothing uses now; in_flight counts admitted, unfinished work."""

    ready: int
    starting: int
    waiting: int
    in_flight: int
    free: int


def replicas_to_start(policy: Policy, state: PoolState) -> int:
    """How many to start now.

    Reactive part: waiting requests beyond the free capacity of ready and starting replicas need new ones.
    Planned part (`type: capacity`): ceil(load / (target * proportion)), OpenFaaS' rule.
    """
    alive = state.ready + state.starting
    uncovered = state.waiting - state.free - state.starting * policy.max_in_flight
    wanted = alive + max(0, math.ceil(uncovered / policy.max_in_flight))
    if policy.scaling_type == "capacity":
        load = state.in_flight + state.waiting
        wanted = max(wanted, math.ceil(load / (policy.target_in_flight * policy.target_proportion)))
    return max(0, min(wanted, policy.max_replicas) - alive)


def idle_expired(policy: Policy, *, idle_since_s: float, now_s: float, alive: int) -> bool:
    """Whether a replica that has been idle since `idle_since_s` may go, with `alive` of them there."""
    return alive > policy.keep_alive_floor and now_s - idle_since_s >= policy.idle_timeout_s


def restart_delay_s(consecutive_failures: int) -> float:
    """Back-off after a crash or a failed start: none at first, then 0.5, 1, 2, … at most 30 s."""
    return 0.0 if consecutive_failures <= 1 else min(30.0, 0.5 * 2 ** (consecutive_failures - 2))
