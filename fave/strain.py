"""Whether the machine under the platform was short of memory during a run: a run on such a machine measures that."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fave.clock import monotonic_s

_PRESSURE = Path("/proc/pressure/memory")
_VMSTAT = Path("/proc/vmstat")


class Strain(NamedTuple):
    """memory_pressure_share: of the time, None where the kernel does not say. evictions: processes that it killed."""

    memory_pressure_share: float | None
    evictions: int | None


class HostStrain:
    """Of this machine, from its making to `so_far`."""

    def __init__(self) -> None:
        self._began_s = monotonic_s()
        self._stalled_us = _stalled_us()
        self._kills = _kernel_kills()

    def so_far(self) -> Strain:
        stalled_us, kills = _stalled_us(), _kernel_kills()
        known = stalled_us is not None and self._stalled_us is not None
        share = (stalled_us - self._stalled_us) / 1e6 / (monotonic_s() - self._began_s) if known else None  # type: ignore[operator]
        return Strain(share, kills - self._kills if kills is not None and self._kills is not None else None)


def _stalled_us() -> int | None:
    """Microseconds in which some task waited for memory (pressure stall information)."""
    for line in _lines(_PRESSURE):
        if line.startswith("some "):
            return int(line.rpartition("total=")[2])
    return None


def _kernel_kills() -> int | None:
    for line in _lines(_VMSTAT):
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
