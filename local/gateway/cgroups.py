"""Control groups: the kernel bounds a replica's memory and CPU, as it does a container's.

In whichever version the machine has them, below the gateway's own group or the next one above that has the controllers
and lets us in. No process but replicas is moved. Where there are none, memory is watched from outside (`app`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

MOUNT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_CONTROLLERS = ("memory", "cpu")
# The kernel's own default: a limit of half a core is 50 ms of every 100.
_PERIOD_US = 100_000
# By the shell: a program is bound by its limits from its first instruction on, and cannot start anything outside.
_ENTER = 'for group; do shift; [ "$group" = -- ] && break; echo $$ >"$group" || exit 126; done; exec "$@"'
_PREFIX = "fave-"
_TRY_WITHIN_S = 10.0


class Limits(NamedTuple):
    """Of one replica; 0 is none."""

    memory_mb: int = 0
    cpu_cores: float = 0.0


class Group:
    """One replica's, in each hierarchy that bounds it."""

    def __init__(self, version: int, memory: Path, cpu: Path, limits: Limits) -> None:
        """Makes it.

        Raises
        ------
        OSError
            Where the kernel does not let us.
        """
        self._memory = memory
        self.folders = list(dict.fromkeys([memory, cpu]))
        self._kills = memory / ("memory.oom_control" if version == 1 else "memory.events")
        self._told = -1
        for folder in self.folders:
            folder.mkdir()
        for name, value in (_files_v1 if version == 1 else _files_v2)(limits):
            path = (memory if name.startswith("memory") else cpu) / name
            # Swap is bounded where the kernel counts it; it bounds memory first, which the order of the files follows.
            if "sw" not in name or path.exists():
                path.write_text(value, encoding="ascii")

    @property
    def enter(self) -> list[str]:
        """What to put before a command that is to run in it."""
        return ["/bin/sh", "-c", _ENTER, "sh", *(f"{folder}/cgroup.procs" for folder in self.folders), "--"]

    @property
    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for their memory."""
        found = re.search(r"^oom_kill (\d+)$", self._kills.read_text(encoding="ascii"), re.MULTILINE)
        return int(found[1]) if found else 0

    def when_out_of_memory(self, call: Callable[[], None]) -> None:
        """Of the older version, which kills one process of a group; the newer one kills all, which nobody overlooks."""
        if self._kills.name != "memory.oom_control":
            return
        self._told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        with self._kills.open(encoding="ascii") as watched:
            (self._memory / "cgroup.event_control").write_text(f"{self._told} {watched.fileno()}", encoding="ascii")
        asyncio.get_running_loop().add_reader(self._told, self._out_of_memory, call)

    def _out_of_memory(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._told)
            # The kernel also tells when a group is taken away.
            if self._memory.exists():
                call()

    def kill(self) -> None:
        """All that is in it, whatever session or parent it has given itself."""
        for folder in self.folders:
            with contextlib.suppress(OSError):
                for pid in (folder / "cgroup.procs").read_text(encoding="ascii").split():
                    os.kill(int(pid), signal.SIGKILL)

    def close(self) -> None:
        if self._told >= 0:
            asyncio.get_running_loop().remove_reader(self._told)
            os.close(self._told)
            self._told = -1


class ControlGroups:
    """All of one gateway's: `fave-PID` in each hierarchy, a group in it for each replica."""

    def __init__(self, version: int, parents: dict[str, Path], pid: int) -> None:
        """parents: by controller, where groups may be made.

        Raises
        ------
        OSError
            Where the kernel does not let us make one, bound it and enter it.
        """
        self.version = version
        self._base = {controller: parent / f"{_PREFIX}{pid}" for controller, parent in parents.items()}
        self._left: set[Path] = set()
        try:
            for folder in set(self._base.values()):
                folder.mkdir(exist_ok=True)
            if version == 2:
                (self._base["memory"] / "cgroup.subtree_control").write_text("+memory +cpu", encoding="ascii")
            self._try()
        except BaseException:
            self.remove()
            raise

    def _try(self) -> None:
        tried = self.make("try", Limits(256, 1.0))
        command = [*tried.enter, "/bin/sh", "-c", ":"]
        entered = subprocess.run(command, capture_output=True, check=False, timeout=_TRY_WITHIN_S)
        self.take_back(tried)
        if entered.returncode:
            raise PermissionError(entered.stderr.decode(errors="replace").strip())

    def make(self, replica_id: str, limits: Limits) -> Group:
        return Group(self.version, self._base["memory"] / replica_id, self._base["cpu"] / replica_id, limits)

    def take_back(self, group: Group) -> None:
        """Now, or with one of the next: a process that was killed takes a moment to go."""
        group.kill()
        group.close()
        self._left |= set(group.folders)
        self._left -= {folder for folder in self._left if _removed(folder)}

    def remove(self) -> None:
        for base in set(self._base.values()):
            _remove_all(base)


def find(mount: Path = MOUNT, own: Path = _OWN) -> ControlGroups | None:
    """Those of the first hierarchy that can be used; None where there is none."""
    for version, parents in _candidates(mount, own):
        for parent in set(parents.values()):
            _remove_orphans(parent)
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return ControlGroups(version, parents, os.getpid())
    return None


def _remove_orphans(parent: Path) -> None:
    """Of gateways that were killed."""
    for base in parent.glob(f"{_PREFIX}*"):
        pid = base.name.removeprefix(_PREFIX)
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _remove_all(base)


def _candidates(mount: Path, own: Path) -> Iterator[tuple[int, dict[str, Path]]]:
    """Where groups could be made: version 2 before 1, the gateway's own group before those above it."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return
    within = {controller: path for _, names, path in lines for controller in (names.split(",") if names else [""])}
    for parent in _upwards(mount, within.get("", "/")):
        with contextlib.suppress(OSError):
            given = (parent / "cgroup.subtree_control").read_text(encoding="ascii").split()
            if set(_CONTROLLERS) <= set(given):
                yield 2, dict.fromkeys(_CONTROLLERS, parent)
    if within.keys() >= set(_CONTROLLERS):
        yield 1, {each: next(_upwards(mount / each, within[each])) for each in _CONTROLLERS}


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The group and those above it, as far as they are to be seen from here."""
    here = mount / path.lstrip("/")
    for folder in (here, *here.parents):
        if folder != mount and folder.is_dir() and folder.is_relative_to(mount):
            yield folder
    yield mount


def _files_v1(limits: Limits) -> Iterator[tuple[str, str]]:
    if limits.memory_mb:
        yield "memory.limit_in_bytes", str(limits.memory_mb * 2**20)
        yield "memory.memsw.limit_in_bytes", str(limits.memory_mb * 2**20)
    if limits.cpu_cores:
        yield "cpu.cfs_period_us", str(_PERIOD_US)
        yield "cpu.cfs_quota_us", str(_quota_us(limits))


def _files_v2(limits: Limits) -> Iterator[tuple[str, str]]:
    yield "memory.oom.group", "1"
    if limits.memory_mb:
        yield "memory.max", str(limits.memory_mb * 2**20)
        yield "memory.swap.max", "0"
    if limits.cpu_cores:
        yield "cpu.max", f"{_quota_us(limits)} {_PERIOD_US}"


def _quota_us(limits: Limits) -> int:
    # The kernel takes no less than a millisecond.
    return max(1000, round(limits.cpu_cores * _PERIOD_US))


def _remove_all(base: Path) -> None:
    for folder in [*(each for each in base.glob("*") if each.is_dir()), base]:
        _removed(folder)


def _removed(folder: Path) -> bool:
    """Whether it is gone. In a file system of the kernel's the files of a group go with it."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
