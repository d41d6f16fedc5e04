"""One replica: one operating-system process that serves one function."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from enum import Enum
from http import HTTPStatus
from pathlib import Path

from fave.clock import utc_ns
from fave.processes import kill_group
from fave.wire.invocation import READY_DESCRIPTOR
from local.gateway.cgroups import Group
from local.gateway.model import Program
from local.gateway.outbound import Kept, ask

# A program of somebody else's is asked so often whether it is ready.
FIRST_PROBE_INTERVAL_S, PROBE_INTERVAL_S = 0.005, 0.02
_FIRST_S = 1.0
_PROBE_TIMEOUT_S = 5.0
TERM_GRACE_S = 10.0
# The kernel kills a replica when the gateway dies, and has it on its cores from the first moment (both of util-linux;
# they exec, so the process stays the same). By their paths: a function may have another PATH.
SETPRIV, TASKSET = (shutil.which(name) or f"/usr/bin/{name}" for name in ("setpriv", "taskset"))
_LISTENS_S = 1.0
_PAGE_BYTES, _TICKS_PER_S = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


class State(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


class Replica:
    """Owned by its function. `in_flight` and the time stamps are the function's to change."""

    def __init__(self, replica_id: str, port: int, reason: str = "", trigger: str = "") -> None:
        """reason, trigger: why it is started, and for which request."""
        self.id = replica_id
        self.port = port
        self.reason = reason
        self.trigger = trigger
        self.asked_for_s = time.monotonic()
        self.state = State.STARTING
        self.in_flight = 0
        self.last_used_s = time.monotonic()
        # Nobody listens on its port any more: it gets no further call, whatever its process still does.
        self.unreachable = False
        self.over_limit = False
        self.oom_killed = False
        self.stop_reason = ""
        # Served by FAVE's own host, which understands its addresses beside those of OpenFaaS.
        self.is_fave_host = False
        self.process_started_at_ns = 0
        # When the gateway saw it ready: from then on it gets calls.
        self.routable_at_ns = 0
        self.forwarded = 0
        self.why_not = ""
        self.idle_timer: asyncio.TimerHandle | None = None
        self.kept = Kept()
        # None: on a machine without control groups.
        self.group: Group | None = None
        self.idle = asyncio.Event()
        self.idle.set()
        self._told = -1
        self._process: asyncio.subprocess.Process | None = None

    def forget_timer(self) -> None:
        if self.idle_timer is not None:
            self.idle_timer.cancel()
            self.idle_timer = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def spawn(self, program: Program, env: dict[str, str], log: Path, cores: Collection[int]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        command = program.on(self.port)
        _insist_on(command[0], program.folder, env)
        told, tells = os.pipe() if program.hosted else (-1, -1)
        self._told = told
        self.process_started_at_ns = utc_ns()
        try:
            with log.open("ab") as output, _closing(tells):
                # Not by `preexec_fn`: Python then copies the gateway's address space, and every call waits for that.
                self._process = await asyncio.create_subprocess_exec(
                    *(SETPRIV, "--pdeathsig", "KILL", "--"),
                    *(self.group.enter if self.group else ()),
                    *((TASKSET, "--cpu-list", ",".join(map(str, cores))) if cores else ()),
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**env, READY_DESCRIPTOR: str(tells)} if program.hosted else env,
                    pass_fds=(tells,) if program.hosted else (),
                    cwd=program.folder,
                    start_new_session=True,
                )
        except BaseException:
            if program.hosted:
                os.close(told)
            raise

    async def wait_ready(self, program: Program) -> bool:
        """Until it is ready; False when the process ended or the deadline passed, which `why_not` tells.

        FAVE's host says so itself; any other program is asked, more often in its first second.
        """
        within_s = program.ready_timeout_s
        try:
            async with asyncio.timeout(within_s):
                ready = await (self._tells() if program.hosted else self._found_ready(program))
        except TimeoutError:
            asked = f"{program.ready_path} did not answer 200" if program.ready_path else "nothing listened"
            self.why_not = f"{asked} on port {self.port} within {within_s:g} s"
            return False
        self.is_fave_host = ready and program.hosted
        return ready

    async def _tells(self) -> bool:
        """Whether the function host said that it is ready, before it ended."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[None] = loop.create_future()
        with _closing(self._told):
            loop.add_reader(self._told, _notice, heard)
            try:
                await heard
                return os.read(self._told, 1) != b""
            finally:
                loop.remove_reader(self._told)

    async def _found_ready(self, program: Program) -> bool:
        began_s = time.monotonic()
        while not await self._answers(program):
            if self.pid is None:
                return False
            first = time.monotonic() - began_s < _FIRST_S
            await asyncio.sleep(FIRST_PROBE_INTERVAL_S if first else PROBE_INTERVAL_S)
        return True

    async def _answers(self, program: Program) -> bool:
        if not program.ready_path:
            return await self.listens()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                reply = await ask(self.port, "GET", program.ready_path)
                return reply is not None and reply.status == HTTPStatus.OK
        return False

    async def listens(self) -> bool:
        """Whether its port takes connections; one that is too busy to take another one does."""
        try:
            # Not by `wait_for`, which forgets that it was cancelled when its time and the answer come together.
            async with asyncio.timeout(_LISTENS_S):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except TimeoutError:
            return True
        except OSError:
            return False
        writer.close()
        return True

    async def wait_ended(self) -> int:
        """The exit code, 128 + signal as a shell (and OpenFaaS) counts it."""
        assert self._process is not None
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def stop(self, *, drain_s: float) -> None:
        """No new work, finish what is in flight (at most `drain_s`), TERM, deadline, KILL the whole group."""
        self.state = State.DRAINING
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self.idle.wait()
        if self._process is None:
            return
        if self.pid is not None:
            # Its leader alone: it drains, and what works for it must not die before.
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TERM_GRACE_S):
                    await self._process.wait()
        kill_group(self._process.pid)
        await self._process.wait()

    def kill(self) -> None:
        if self._process is not None:
            kill_group(self._process.pid)


def _notice(heard: asyncio.Future[None]) -> None:
    if not heard.done():
        heard.set_result(None)


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _insist_on(program: str, folder: Path, env: dict[str, str]) -> None:
    """Raises OSError where there is no such program: what starts it would only say so in its log."""
    found = folder / program if "/" in program else shutil.which(program, path=env.get("PATH", os.defpath))
    if found is None or not os.path.exists(found):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if not os.access(found, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def trees_rss_bytes(pids: Iterable[int]) -> list[int]:
    return [sum(memory_of_one(pid) for pid in tree(root)) for root in pids]


def tree(pid: int) -> Iterator[int]:
    """A process and all its descendants, from /proc (cheaper than a scan of all processes)."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                yield from tree(int(child))


def memory_of_one(pid: int) -> int:
    """Resident bytes; 0 for one that has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    return 0


def cpu_s_of_one(pid: int) -> float:
    """Of its own and of its children that have ended; 0 for one that has ended itself."""
    with contextlib.suppress(OSError):
        # The name before may hold anything, blanks and brackets included.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS_PER_S
    return 0.0
