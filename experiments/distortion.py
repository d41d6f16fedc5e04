"""`make distortion`: the same arrivals open loop and closed loop, against a stalled replica and against cold starts.

What a closed-loop tool hides is not a matter of opinion: here are both records of the same schedule, side by side.
"""

from __future__ import annotations

import datetime
import threading
from pathlib import Path
from typing import NamedTuple

import msgspec

from experiments.cell_run import drain
from experiments.generator import generate
from experiments.inputs import upload
from experiments.progress import say
from fave.campaign.experiment import Scaling
from fave.campaign.rundir import read_json, write_json
from fave.clock import utc_ns
from fave.errors import EXIT_INVALID_RUN, EXIT_OK, FaveError, PlatformError
from fave.processes import ask_door
from fave.settings import Duration
from fave.storage import Store
from fave.traffic import arrivals
from fave.traffic.arrivals import Traffic
from platforms.model import Platform
from platforms.session import opened
from regimes.apply import apply
from regimes.model import resolve
from workloads.model import shipped

TARGET = "stage-object-detector"
STALL_S = 3.0
_STALL_AFTER = 40
_SEED = 1


class Scenario(NamedTuple):
    """`stalls`: the replica is stopped (SIGSTOP) for `STALL_S` in the middle of the run."""

    name: str
    regime: str
    override: Scaling
    traffic: Traffic
    stalls: bool


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    pid: int
    at_ns: int
    length_s: float


SCENARIOS = (
    Scenario(
        "stall",
        "warm",
        Scaling(max_replicas=1),
        Traffic(model="paced", requests=100, duration=Duration(20)),
        stalls=True,
    ),
    Scenario(
        "cold",
        "cold",
        Scaling(idle_timeout=Duration(1)),
        Traffic(model="bursts", requests=40, duration=Duration(16), bursts=4, burst_length=Duration(0.5)),
        stalls=False,
    ),
)
_LOCUSTFILES = {"open": "load.py", "closed": "closed_schedule.py"}


def run(*, runs: Path) -> int:
    """About two minutes; the report lies in `runs`.

    Raises
    ------
    PlatformError
        On a platform that is not the embedded one: only there may a replica be stopped.
    """
    stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / f"{stamp}-distortion"
    stalls: list[Stall] = []
    with opened(say) as platform:
        if not platform.facts().co_located:
            raise PlatformError("the stall needs the embedded platform", hint="unset GATEWAY_URL")
        upload(shipped(), Store.at(platform.endpoints))
        for scenario in SCENARIOS:
            schedule = arrivals.generate(scenario.traffic, _SEED)
            arrivals.write_csv(folder / scenario.name / "schedule.csv", schedule)
            for loop in _LOCUSTFILES:
                say(f"{scenario.name}, {loop} loop: {len(schedule)} arrivals over {scenario.traffic.duration} ...")
                stalls += _run_one(scenario, loop, folder, platform)
    facts = {
        "target": TARGET,
        "stall_s": STALL_S,
        "scenarios": [scenario.name for scenario in SCENARIOS],
        "stalls": stalls,
    }
    write_json(folder / "distortion.json", facts)
    done = ask_door("analysis", "distortion", str(folder))
    if done.returncode:
        raise FaveError(f"no report: {done.stderr.strip()}")
    say(done.stdout.rstrip())
    return EXIT_OK if read_json(folder / "results.json")["valid"] else EXIT_INVALID_RUN


def _run_one(scenario: Scenario, loop: str, folder: Path, platform: Platform) -> list[Stall]:
    work = shipped()
    apply(platform, work, scenario.regime, resolve(scenario.regime, work.functions_of(TARGET), scenario.override), say)
    out = folder / scenario.name / loop
    options = {
        "--schedule": folder / scenario.name / "schedule.csv",
        "--target": TARGET,
        "--regime": scenario.regime,
        "--regime-stands": None,
        "--id-prefix": f"{folder.name}-{scenario.name}-{loop}",
    }
    over, stalls = threading.Event(), list[Stall]()
    staller = threading.Thread(target=_stall, args=(platform, _invocations(platform) + _STALL_AFTER, over, stalls))
    if scenario.stalls:
        staller.start()
    try:
        generate(
            _LOCUSTFILES[loop],
            options,
            out=out,
            log=folder / "logs" / f"{scenario.name}-{loop}.log",
            platform=platform,
            deadline_s=scenario.traffic.duration * 4 + 60,
        )
    finally:
        over.set()
        if scenario.stalls:
            staller.join()
    drain(platform, (TARGET,))
    if scenario.stalls and not stalls:
        raise FaveError(f"no replica of {TARGET} could be stopped: there is no stall to show")
    return stalls


def _invocations(platform: Platform) -> float:
    return platform.counts()[TARGET].invocations


def _stall(platform: Platform, after: float, over: threading.Event, stalls: list[Stall]) -> None:
    """A real stall: the replica's process does not run for a while, as under a noisy neighbour or a long collection."""
    while not over.is_set() and _invocations(platform) < after:
        over.wait(0.05)
    replicas = [] if over.is_set() else platform.processes_of(TARGET)
    try:
        for replica in replicas:
            replica.suspend()
            stalls.append(Stall(pid=replica.pid, at_ns=utc_ns(), length_s=STALL_S))
        over.wait(STALL_S)
    finally:
        for replica in replicas:
            replica.resume()
