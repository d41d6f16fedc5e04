"""Child processes that are owned: own group, die with their parent, TERM → deadline → KILL → reap."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from fave import environment
from fave.errors import FaveError, PlatformError
from fave.settings import ROOT

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: a child between fork and exec must not import or allocate.
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """For `preexec_fn`: the kernel kills this process when the thread that started it dies (Linux)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def owned(cores: Collection[int]) -> Callable[[], None]:
    """For `preexec_fn`: `die_with_parent`, and all its threads on these cores only; on any where there are none."""

    def before_exec() -> None:
        die_with_parent()
        if cores:
            os.sched_setaffinity(0, cores)

    return before_exec


def places(cores: Iterable[int]) -> dict[str, list[int]]:
    """Which part of an embedded platform runs on which of a machine's cores; empty where they are too few to part.

    From four cores on the generator has one and the services share one; from eight on each service has its own. The
    replicas have the rest.
    """
    own = sorted(cores)
    if len(own) < 4:
        return {}
    services = 3 if len(own) >= 8 else 1
    gateway, store, prometheus = own[1:4] if services == 3 else own[1:2] * 3
    return {
        "generator": own[:1],
        "gateway": [gateway],
        "object store": [store],
        "prometheus": [prometheus],
        "replicas": own[1 + services :],
    }


def kill_group(pid: int, sig: int = signal.SIGKILL) -> None:
    """Signal the process group that `pid` leads; silently nothing when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, sig)


def free_port(preferred: int = 0) -> int:
    """`preferred` if it can be bound on loopback now, else a port the kernel chooses."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            # As servers do: a port whose last connections linger in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise PlatformError("no free port on 127.0.0.1")


def wait_until(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.02) -> bool:
    """Poll `condition` until it holds; False when it did not within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True


def lives(pid: int) -> bool:
    """One that ended and that nobody waited for does not."""
    import psutil  # no cold start pays for it

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def ask_door(*arguments: str, shown: bool = False) -> subprocess.CompletedProcess[str]:
    """Another of FAVE's doors as a child, to its end. shown: what it prints goes to our own output as it comes."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env=environment.for_doors(),
        stdout=None if shown else subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def need_door(*arguments: str, shown: bool = False) -> None:
    """The same, where we cannot go on without it.

    Raises
    ------
    FaveError
        With what it said, and its exit code.
    """
    done = ask_door(*arguments, shown=shown)
    if done.returncode:
        error = FaveError(done.stderr.strip().removeprefix("error: "))
        error.exit_code = done.returncode
        raise error


class OwnedProcess:
    """A child in its own process group, whose output goes to `log`; killed when this process dies.

    env: by default that of FAVE's doors.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        stop_grace_s: float = 5.0,
        cores: Collection[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self.stop_grace_s = stop_grace_s
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment.for_doors() if env is None else env,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=owned(cores),
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process.poll() is None

    def wait_ready(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Wait for `ready`; a child that ended or a missed deadline is an error with the end of its log."""

        def ended_or_ready() -> bool:
            return not self.running() or ready()

        if wait_until(ended_or_ready, timeout_s=timeout_s, interval_s=0.05) and self.running():
            return
        code = self.process.poll()
        what = f"ended with code {code}" if code is not None else f"was not ready within {timeout_s:g} s"
        self.stop()
        raise PlatformError(f"{self.name} {what}; the end of {self.log}:\n{self.log_tail()}")

    def stop(self) -> int:
        """TERM, wait `stop_grace_s`, KILL the whole group, reap. Returns the exit code."""
        if self.running():
            kill_group(self.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.stop_grace_s)
        # The group can outlive its leader: whatever is left of it goes too.
        kill_group(self.pid)
        return self.process.wait()

    def log_tail(self, lines: int = 15) -> str:
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
