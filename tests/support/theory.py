"""Cold starts in formulas, to hold measurements against (methodology §5)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import expm


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


def paced(*, period_s: float, keep_alive_s: float, service_s: float, cold_start_s: float) -> float:
    """Share of cold arrivals at one replica when they come at even gaps: exactly 1 or 0 (after the first).

    Raises
    ------
    ValueError
        Where the gap left after a cold start and that left after a warm one lie on different sides of the keep-alive:
        then cold and warm arrivals take turns, and it depends on more than these times.
    """
    after_cold_s, after_warm_s = period_s - service_s - cold_start_s, period_s - service_s
    if after_cold_s > keep_alive_s:
        return 1.0
    if after_warm_s < keep_alive_s:
        return 0.0
    raise ValueError(
        f"a replica is idle for {after_cold_s:g} s after a cold answer and {after_warm_s:g} s after a warm one: "
        f"the keep-alive of {keep_alive_s:g} s lies between"
    )


def hyperexponential(*, p: float, rates_per_s: tuple[float, float], keep_alive_s: float) -> float:
    """Share of gaps longer than the keep-alive: p e^(-l1 T) + (1 - p) e^(-l2 T). For one replica and fast service."""
    first, second = rates_per_s
    return p * math.exp(-first * keep_alive_s) + (1 - p) * math.exp(-second * keep_alive_s)


def most_recently_used(
    *,
    arrival_rate_per_s: float,
    keep_alive_s: float,
    service_s: float,
    min_replicas: int = 0,
    max_replicas: int | None = None,
) -> float:
    """Share of arrivals that find their replica gone, several replicas, most-recently-used routing, fast cold starts.

    P = sum over k = min + 1 .. max of pi_(k-1) P(tau_k > T): the k-th replica is asked for when k - 1 are busy, and
    tau_k is how long it then has been idle: the time of first passage from k - 1 busy ones up to k. Poisson arrivals,
    exponential service; exact without a maximum (pi is Poisson then), and with one as long as arrivals seldom find all
    busy (pi is Erlang's; `erlang_b` says how seldom).
    """
    load = arrival_rate_per_s * service_s
    most = max_replicas if max_replicas is not None else int(load + 12 * math.sqrt(load) + 20)
    weights = [load**k / math.factorial(k) for k in range(most + 1)]
    total = sum(weights) if max_replicas is not None else math.exp(load)
    return sum(
        weights[k - 1] / total * _idle_longer(k, keep_alive_s, arrival_rate_per_s, 1 / service_s)
        for k in range(min_replicas + 1, most + 1)
    )


def _idle_longer(k: int, seconds: float, birth: float, death: float) -> float:
    """P(no passage to k busy ones within `seconds`), from k - 1 busy: what is left in states 0 .. k - 1."""
    generator = np.zeros((k, k))
    for busy in range(k):
        generator[busy, busy] = -birth - busy * death
        if busy:
            generator[busy, busy - 1] = busy * death
        if busy + 1 < k:
            generator[busy, busy + 1] = birth
    return float(expm(generator * seconds)[k - 1].sum())


def erlang_b(replicas: int, load: float) -> float:
    """Share of arrivals that find all replicas busy where none may wait (Erlang). load: rate times service."""
    blocking = 1.0
    for count in range(1, replicas + 1):
        blocking = load * blocking / (count + load * blocking)
    return blocking
