"""One replica: one operating-system process that serves one function."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection
from enum import Enum
from pathlib import Path

import aiohttp

from fave.invocation import REPLICA_ID
from fave.processes import kill_group, owned

READY_PATH = "/_/ready"
PROBE_INTERVAL_S = 0.02
START_TIMEOUT_S = 120.0
TERM_GRACE_S = 10.0


class State(Enum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


class Replica:
    """Owned by its function. `in_flight` and the time stamps are the function's to change."""

    def __init__(self, replica_id: str, port: int, *, trigger: str = "") -> None:
        self.id = replica_id
        self.port = port
        self.trigger = trigger
        self.state = State.STARTING
        self.in_flight = 0
        self.last_used_s = time.monotonic()
        self.over_limit = False
        self.oom_killed = False
        self.stop_reason = ""
        # Served by FAVE's own host, which understands its addresses beside those of OpenFaaS.
        self.is_fave_host = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    async def spawn(self, command: list[str], env: dict[str, str], log: Path, cores: Collection[int]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=env,
                start_new_session=True,
                preexec_fn=owned(cores),
            )

    async def wait_ready(self, session: aiohttp.ClientSession) -> bool:
        """Probe `READY_PATH` until it answers 200; False when the process ended or the deadline passed."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        url = f"http://127.0.0.1:{self.port}{READY_PATH}"
        while self.pid is not None and time.monotonic() < deadline_s:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as reply:
                    # Another platform's replica may have taken the port: a host says who it is.
                    if reply.status == 200 and reply.headers.get(REPLICA_ID, self.id) == self.id:
                        self.is_fave_host = REPLICA_ID in reply.headers
                        return True
            await asyncio.sleep(PROBE_INTERVAL_S)
        return False

    async def wait_ended(self) -> int:
        """The exit code, 128 + signal as a shell (and OpenFaaS) counts it."""
        assert self._process is not None
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def stop(self, *, drain_s: float) -> None:
        """No new work, finish what is in flight (at most `drain_s`), TERM, deadline, KILL the whole group."""
        self.state = State.DRAINING
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.idle.wait(), drain_s)
        if self._process is None:
            return
        if self.pid is not None:
            # Its leader alone: it drains, and what works for it must not die before.
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), TERM_GRACE_S)
        kill_group(self._process.pid)
        await self._process.wait()

    def kill(self) -> None:
        if self._process is not None:
            kill_group(self._process.pid)


def tree_rss_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants, from /proc (cheaper than a scan of all processes)."""
    total = 0
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        total += pages * 4096
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text(encoding="ascii").split():
                total += tree_rss_bytes(int(child))
    except (FileNotFoundError, ProcessLookupError):
        return total
    return total
