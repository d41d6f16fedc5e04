"""Scaling decisions as functions of plain numbers: the gateway calls them, the simulator compiles the very same."""

from __future__ import annotations


def replicas_to_start(
    waiting: int,
    free: int,
    ready: int,
    starting: int,
    in_flight: int,
    concurrency: int,
    max_replicas: int,
    planned_per_replica: float,
) -> int:
    """How many replicas to start now.

    Reactive part: waiting requests beyond the free capacity of ready and starting replicas need new ones.
    Planned part (OpenFaaS' `capacity`): ceil(load / planned_per_replica), where that is over 0.

    free: what ready replicas could take now. in_flight: what they work on. concurrency: of one replica.
    """
    alive = ready + starting
    uncovered = waiting - free - starting * concurrency
    wanted = alive + max(0, -(-uncovered // concurrency))
    if planned_per_replica > 0:
        wanted = max(wanted, int(-(-(in_flight + waiting) // planned_per_replica)))
    return max(0, min(wanted, max_replicas) - alive)


def may_stop(idle_s: float, idle_timeout_s: float, alive: int, floor: int) -> bool:
    """Whether a replica that has been idle so long may go, with `alive` of them there and `floor` to be kept."""
    return alive > floor and idle_s >= idle_timeout_s


def restart_delay_s(consecutive_failures: int) -> float:
    """Back-off after a crash or a failed start: none at first, then 0.5, 1, 2, … at most 30 s."""
    return 0.0 if consecutive_failures <= 1 else float(min(30.0, 0.5 * 2.0 ** (consecutive_failures - 2)))
