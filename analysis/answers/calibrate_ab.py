"""How often `make ab` errs: campaigns of two versions, simulated as they are measured, judged by what judges real ones.

The shipped experiment's traffic and settings; a server that answers in 20 ms and starts in 160 ms, as that of the
documentation's example does. Every time varies between requests, between runs, and drifts over the campaign.
"""

from __future__ import annotations

import math
import os
import random
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np

from analysis.answers import guards
from analysis.rows.simulate import Array, Function, Times, simulate
from analysis.statistics import compare
from analysis.statistics.clustered import Counts
from analysis.words import Table
from fave.campaign.outcomes import OUTCOMES
from fave.settings import Duration
from fave.traffic.arrivals import Traffic, generate

_TRAFFIC = Traffic(model="poisson", requests=12, duration=Duration(12))
_BLOCKS, _MARGIN = 8, 0.20
_FUNCTION = Function(idle_timeout_s=1.0, min_replicas=0, max_replicas=2)
_SERVICE_S, _START_S = 0.02, 0.16
# Standard deviations of logs: of single times, and between runs; and the drift over a campaign.
_SPREAD, _BETWEEN_RUNS, _DRIFT = 0.3, 0.10, 0.30
_OUTCOMES = ("invocation_cold_rate", "start_s", "mean_latency_s", "held_gb", "failure_rate")


class Version(NamedTuple):
    """What b is, beside a. start_s: by so much longer; start_factor: so many times as long."""

    name: str
    start_s: float = 0.0
    start_factor: float = 1.0


VERSIONS = (
    Version("the same"),
    Version("an import of 300 ms", start_s=0.3),
    Version("an import of 30 ms", start_s=0.03),
    Version("start at the margin", start_factor=1 + _MARGIN),
)


class Erred(NamedTuple):
    """Shares of campaigns in which b was called worse, in some outcome; and in none by more than its margin."""

    version: str
    campaigns: int
    worse: float
    within: float


def calibrate(campaigns: int, *, seed: int = 20261128, versions: Sequence[Version] = VERSIONS) -> list[Erred]:
    """The same number and seed give the same table."""
    found = []
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for version in versions:
            seeds = [f"{seed}:{version.name}:{i}" for i in range(campaigns)]
            states = list(processes.map(_states, [version] * campaigns, seeds, chunksize=16))
            found.append(
                Erred(
                    version.name,
                    campaigns,
                    statistics.fmean("worse" in each for each in states),
                    statistics.fmean(set(each) == {"within"} for each in states),
                )
            )
    return found


def table(found: Sequence[Erred]) -> Table:
    rows = [(each.version, f"{each.worse:.1%}", f"{each.within:.1%}") for each in found]
    campaigns = found[0].campaigns if found else 0
    note = f"{campaigns} campaigns each; standard error of 5 %: {math.sqrt(0.05 * 0.95 / max(1, campaigns)):.1%}"
    return Table("Two versions", ("b is", "called worse (exit code 7)", "shown not to be (0)"), rows, [note])


def _states(version: Version, seed: str) -> list[str]:
    rng = random.Random(seed)
    runs: tuple[list[dict[str, Counts]], list[dict[str, Counts]]] = ([], [])
    for block in range(_BLOCKS):
        arrivals_s = np.asarray(generate(_TRAFFIC, rng.randrange(2**32)), float) / 1e6
        for position, arm in enumerate(rng.sample((0, 1), 2)):
            drifted = 1 + _DRIFT * (2 * block + position) / (2 * _BLOCKS)
            start_s = _START_S * (version.start_factor if arm else 1) + (version.start_s if arm else 0.0)
            runs[arm].append(_run(arrivals_s, start_s, drifted * rng.lognormvariate(0, _BETWEEN_RUNS), rng))
    a, b = runs
    return [each.state for each in guards.judged([_tested(name, a, b) for name in _OUTCOMES])]


def _run(arrivals_s: Array, start_s: float, slower: float, rng: random.Random) -> dict[str, Counts]:
    n, chance = len(arrivals_s), np.random.default_rng(rng.getrandbits(64))
    service, start = (mean * slower * chance.lognormal(-(_SPREAD**2) / 2, _SPREAD, n) for mean in (_SERVICE_S, start_s))
    found = simulate(arrivals_s, _FUNCTION, Times(service, start), until_s=float(_TRAFFIC.duration))
    starts = max(1, int(found.triggered.sum()))
    figures = {
        "start_s": float(start[:starts].mean()),
        "mean_latency_s": float(found.latency_s.mean()),
        "held_gb": found.provisioned_s,
    }
    logs: dict[str, Counts] = {name: (math.log(value), 1) for name, value in figures.items()}
    return logs | {"invocation_cold_rate": (int(found.affected.sum()), n), "failure_rate": (0, n)}


def _tested(outcome: str, a: Sequence[dict[str, Counts]], b: Sequence[dict[str, Counts]]) -> guards.Compared:
    about = OUTCOMES[outcome]
    margin = about.on_scale(_MARGIN)
    counts = [[run[outcome] for run in arm] for arm in (b, a)]
    found = compare.combined(counts, (1.0, -1.0), margin=margin, most=1.0 if about.share else math.inf)
    blocks = tuple(x / n - y / m for (x, n), (y, m) in zip(*counts, strict=True))
    return guards.Compared("steady", blocks, found.mean, found.error, found.df, margin)
