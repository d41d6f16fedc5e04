"""Cold starts of a single replica in formulas, to hold measurements against (methodology §5)."""

from __future__ import annotations

import math
from typing import NamedTuple


class SingleReplica(NamedTuple):
    """Shares of arrivals. triggered: a start began because of it. affected: its replica was not ready when it came."""

    triggered: float
    affected: float


def single_replica(
    *, arrival_rate_per_s: float, keep_alive_s: float, service_s: float, cold_start_s: float
) -> SingleReplica:
    """One replica at most, Poisson arrivals, any distribution of service and cold-start times (their means count).

    A busy cycle begins with a start, which affects the arrivals during it, too; the replica goes when nothing has come
    for the keep-alive time T after the last end of service:
    triggered = (1 - rho) e^(-lambda T) / (1 + lambda C e^(-lambda T)), affected = triggered (1 + lambda C),
    rho = lambda S. Exact in the steady state.

    Raises
    ------
    ValueError
        When the replica cannot keep up (rho >= 1).
    """
    rho = arrival_rate_per_s * service_s
    if rho >= 1:
        raise ValueError(f"utilisation {rho:.2f}: one replica cannot keep up, there is no steady state")
    silent = math.exp(-arrival_rate_per_s * keep_alive_s)
    waiting = arrival_rate_per_s * cold_start_s
    triggered = (1 - rho) * silent / (1 + waiting * silent)
    return SingleReplica(triggered, triggered * (1 + waiting))
