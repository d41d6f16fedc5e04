"""Scaling decisions as functions of plain numbers: the gateway calls them, the simulator compiles the very same."""

from __future__ import annotations


def replicas_to_start(
    waiting: int,
    free: int,
    ready: int,
    starting: int,
    concurrency: int,
    min_replicas: int,
    max_replicas: int,
    planned: int,
) -> int:
    """How many replicas to start now.

    Reactive part: waiting requests beyond the free capacity of ready and starting replicas need new ones; the first
    ones from zero bring the minimum back. Planned part: `planned_replicas`; 0 where nothing is planned ahead.

    free: what ready replicas could take now. concurrency: of one replica.
    """
    alive = ready + starting
    uncovered = waiting - free - starting * concurrency
    wanted = max(alive + max(0, -(-uncovered // concurrency)), planned)
    if alive == 0 and waiting > 0:
        wanted = max(wanted, min_replicas)
    return max(0, min(wanted, max_replicas) - alive)


def planned_replicas(load: float, per_replica: float) -> int:
    """OpenFaaS' rule for `capacity` (requests in flight) and `rps` (per second): so many for a load."""
    return int(-(-load // per_replica))


def may_stop(idle_s: float, idle_timeout_s: float, alive: int, floor: int) -> bool:
    """Whether a replica that has been idle so long may go, with `alive` of them there and `floor` to be kept."""
    return alive > floor and idle_s >= idle_timeout_s


def restart_delay_s(consecutive_failures: int) -> float:
    """Back-off after a crash or a failed start: none at first, then 0.5, 1, 2, … at most 30 s."""
    return 0.0 if consecutive_failures <= 1 else float(min(30.0, 0.5 * 2.0 ** (consecutive_failures - 2)))
