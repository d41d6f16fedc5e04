"""What else a machine had to do during a run, and whether it was short of memory: such a run measures that."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import psutil

from fave.clock import monotonic_s

_PROC = Path("/proc")
# A process that ends while the tree is read is counted with its parent, twice, or not at all: read until none does.
_READINGS = 5


class Strain(NamedTuple):
    """memory_pressure_share: of the time, None where the kernel does not say. evictions: processes that it killed."""

    memory_pressure_share: float | None
    evictions: int | None


class CpuUse(NamedTuple):
    """Of one machine over a time. None where the kernel does not say.

    foreign_share: of its cores' time, what went to processes that are not FAVE's and to other guests of the same host.
    steal_share: the second part of it alone. pressure_share: of the time, while some task waited for a core.
    """

    foreign_share: float | None
    steal_share: float | None
    pressure_share: float | None


class CoreTime(NamedTuple):
    """In seconds since the machine started, of all cores together. own_s: of some processes' trees."""

    busy_s: float
    steal_s: float
    own_s: float


def cpu_use(before: CoreTime, after: CoreTime, elapsed_s: float, cores: int) -> tuple[float, float]:
    """The shares that were foreign and stolen.

    The kernel counts the whole machine's time in ticks and a process's exactly: the difference can be below 0.
    """
    steal_s = max(0.0, after.steal_s - before.steal_s)
    others_s = max(0.0, (after.busy_s - before.busy_s) - (after.own_s - before.own_s))
    return (others_s + steal_s) / (elapsed_s * cores), steal_s / (elapsed_s * cores)


class HostStrain:
    """Of this machine, from its making to `so_far`. owners: the roots of FAVE's own process trees."""

    def __init__(self, owners: Iterable[int] = ()) -> None:
        self._owners = tuple(owners)
        self._began_s = monotonic_s()
        self._memory_us, self._cpu_us = _stalled_us("memory"), _stalled_us("cpu")
        self._kills = _kernel_kills()
        self._cores = _core_time(self._owners)

    def so_far(self) -> Strain:
        kills = _kernel_kills()
        known = kills is not None and self._kills is not None
        return Strain(self._stalled_share("memory", self._memory_us), kills - self._kills if known else None)  # type: ignore[operator]

    def cpu_so_far(self) -> CpuUse:
        now, elapsed_s = _core_time(self._owners), monotonic_s() - self._began_s
        foreign, steal = None, None
        if now and self._cores:
            foreign, steal = cpu_use(self._cores, now, elapsed_s, os.cpu_count() or 1)
        return CpuUse(foreign, steal, self._stalled_share("cpu", self._cpu_us))

    def _stalled_share(self, what: str, then_us: int | None) -> float | None:
        now_us = _stalled_us(what)
        if now_us is None or then_us is None:
            return None
        return (now_us - then_us) / 1e6 / (monotonic_s() - self._began_s)


def _core_time(owners: Iterable[int]) -> CoreTime | None:
    """Interrupts are left out: they are nobody's, and most are made by the load itself."""
    for line in _lines(_PROC / "stat"):
        if line.startswith("cpu "):
            user, nice, system, _idle, _wait, _irq, _softirq, steal = (int(each) for each in line.split()[1:9])
            tick_s = 1 / os.sysconf("SC_CLK_TCK")
            return CoreTime((user + nice + system) * tick_s, steal * tick_s, _tree_s(owners))
    return None


def _tree_s(owners: Iterable[int]) -> float:
    """What the processes, all below them, and all of these that have ended used so far."""
    before: set[int] = set()
    used_s: dict[int, float] = {}
    for _ in range(_READINGS):
        before, used_s = set(used_s), {}
        for owner in owners:
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(owner)
                for process in (root, *root.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        used_s[process.pid] = sum(process.cpu_times()[:4])
        if used_s.keys() == before:
            break
    return sum(used_s.values())


def _stalled_us(what: str) -> int | None:
    """Microseconds in which some task waited for it (pressure stall information)."""
    for line in _lines(_PROC / "pressure" / what):
        if line.startswith("some "):
            return int(line.rpartition("total=")[2])
    return None


def _kernel_kills() -> int | None:
    for line in _lines(_PROC / "vmstat"):
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
