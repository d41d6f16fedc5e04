"""One function: its deployment, its replicas, and the one queue they share.

Routing is most-recently-used: of the replicas with free capacity the one that was used last takes the request, so that
the others grow idle and time out. Whichever replica becomes free first takes the head of the queue.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp

from fave import environment
from fave.gateway_client import FunctionStatus
from fave.scaling import may_stop, replicas_to_start, restart_delay_s
from fave.settings import ROOT
from fave.workload import FUNCTION_SETTINGS
from local.gateway.events import EventLog
from local.gateway.model import Deployment, command_of, policy_of
from local.gateway.replica import Replica, State, tree_rss_bytes

ROUTING = "most-recently-used"
# After so many failed starts in a row the waiting requests are refused instead of held.
_HOPELESS_STARTS = 3
# One thread per replica by default: replicas, not hidden threads, are the unit of scaling.
_SINGLE_THREADED = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "FAVE_THREADS"), "1"
)
_INHERITED_PREFIX = "CONFIG_"
_PRIVATE = ("URL", "KEY", "SECRET", "PASSWORD", "TOKEN")


def inherited_settings() -> dict[str, str]:
    """What every replica gets that changes what it does; of files the name alone, and no address or credential."""
    found = {
        name: Path(value).name
        for name, value in os.environ.items()
        if value
        and (name in FUNCTION_SETTINGS or name.startswith(_INHERITED_PREFIX))
        and not any(word in name for word in _PRIVATE)
    }
    return dict(sorted((found | _SINGLE_THREADED).items()))


class Refused(Exception):  # noqa: N818 - an answer, not a mistake
    """The function cannot take the request: HTTP `status` and the text that OpenFaaS gives."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Platform(NamedTuple):
    """What every function needs from the gateway."""

    session: aiohttp.ClientSession
    events: EventLog
    next_port: Callable[[], int]
    environment_of: Callable[[str], dict[str, str]]
    secrets: dict[str, str]
    logs: Path
    replica_cores: list[int]


class Function:
    def __init__(self, deployment: Deployment, platform: Platform) -> None:
        self.deployment = deployment
        self.policy = policy_of(deployment)
        self.command = command_of(deployment)
        self.invocations = 0
        self.replicas: dict[str, Replica] = {}
        self._platform = platform
        self._waiting: deque[asyncio.Future[Replica]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_starts = 0
        # Back-off: until then (monotonic clock) nothing is started on its own.
        self._not_before_s = 0.0
        self._closing = False
        # Restored after crashes. An explicit scale below min lowers it: the operator's word counts.
        self._floor = self.policy.min_replicas

    @property
    def name(self) -> str:
        return self.deployment.service

    # What there is.

    def _in(self, *states: State) -> list[Replica]:
        return [replica for replica in self.replicas.values() if replica.state in states]

    @property
    def ready(self) -> int:
        return len(self._in(State.READY))

    @property
    def alive(self) -> int:
        """Starting and ready: what OpenFaaS calls `replicas`."""
        return len(self._in(State.STARTING, State.READY))

    @property
    def in_flight(self) -> int:
        return sum(replica.in_flight for replica in self.replicas.values())

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def status(self) -> FunctionStatus:
        return FunctionStatus(
            name=self.name,
            image=self.deployment.image,
            namespace=self.deployment.namespace,
            replicas=self.alive,
            available_replicas=self.ready,
            draining=len(self._in(State.DRAINING)),
            invocation_count=self.invocations,
            labels=self.deployment.labels,
            annotations=self.deployment.annotations,
            env_vars=self.deployment.env_vars,
            secrets=self.deployment.secrets,
            limits=self.deployment.limits,
            requests=self.deployment.requests,
            read_only_root_filesystem=self.deployment.read_only_root_filesystem,
        )

    # Requests.

    async def acquire(self, request_id: str) -> Replica:
        """A replica with a reserved slot, waiting for one if need be. Pair with `release`; cancelled, it takes nothing.

        Raises
        ------
        Refused
            429 when the queue is full, 503 when the function is going away, 500 when replicas cannot start.
        """
        if self._closing:
            raise Refused(503, f"No endpoints available for: {self.name}.")
        replica = self._pick()
        if replica is not None:
            self._reserve(replica)
            self._scale_up(request_id)
            return replica
        if len(self._waiting) >= self.policy.max_waiting:
            raise Refused(429, f"Queue limit of {self.policy.max_waiting} waiting requests reached for: {self.name}.")
        waiter: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._scale_up(request_id)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and not waiter.exception():
                self.release(waiter.result())
            raise

    def release(self, replica: Replica) -> None:
        replica.in_flight -= 1
        replica.last_used_s = time.monotonic()
        if replica.in_flight == 0:
            replica.idle.set()
            self._watch_idle(replica)
        self._dispatch()

    def _pick(self) -> Replica | None:
        free = [r for r in self._in(State.READY) if r.in_flight < self.policy.max_in_flight]
        return max(free, key=lambda replica: replica.last_used_s, default=None)

    def _reserve(self, replica: Replica) -> None:
        replica.in_flight += 1
        replica.last_used_s = time.monotonic()
        replica.idle.clear()
        self.invocations += 1

    def _dispatch(self) -> None:
        while self._waiting and (replica := self._pick()) is not None:
            waiter = self._waiting.popleft()
            if not waiter.done():  # else its caller has gone
                self._reserve(replica)
                waiter.set_result(replica)

    def _refuse_waiting(self, refusal: Refused) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(refusal)

    # Scaling.

    def _scale_up(self, request_id: str) -> None:
        if time.monotonic() < self._not_before_s:
            return
        ready = self._in(State.READY)
        count = replicas_to_start(
            waiting=len(self._waiting),
            free=sum(self.policy.max_in_flight - replica.in_flight for replica in ready),
            ready=len(ready),
            starting=len(self._in(State.STARTING)),
            in_flight=sum(replica.in_flight for replica in ready),
            concurrency=self.policy.max_in_flight,
            max_replicas=self.policy.max_replicas,
            planned_per_replica=self.policy.planned_per_replica,
        )
        for _ in range(count):
            self._start("request", request_id)

    def scale(self, replicas: int) -> None:
        """To exactly `replicas` (at most max): starts what is missing, drains the least recently used of the rest."""
        replicas = min(replicas, self.policy.max_replicas)
        self._floor = min(replicas, self.policy.min_replicas)
        self._platform.events.add(self.name, "scale", replicas=replicas)
        self._not_before_s = 0.0
        self._shrink_to(replicas, "scaled down")
        for _ in range(replicas - self.alive):
            self._start("scaled up", "")

    def _shrink_to(self, replicas: int, reason: str) -> None:
        alive = sorted(self._in(State.STARTING, State.READY), key=lambda replica: replica.last_used_s)
        for replica in alive[: max(0, len(alive) - replicas)]:
            self._stop(replica, reason)

    def update(self, deployment: Deployment) -> None:
        """Take over a new deployment. Replicas are kept when only scaling labels changed, else replaced."""
        policy, command = policy_of(deployment), command_of(deployment)
        keep = deployment.identity() == self.deployment.identity()
        self.deployment, self.policy, self.command = deployment, policy, command
        self._failed_starts = 0
        self._not_before_s = 0.0
        self._floor = policy.min_replicas
        if not keep:
            for replica in self._in(State.STARTING, State.READY):
                self._stop(replica, "replaced")
        self._shrink_to(policy.max_replicas, "over max")
        self._restore()
        for replica in self._in(State.READY):
            self._watch_idle(replica)

    def _restore(self) -> None:
        if not self._closing and time.monotonic() >= self._not_before_s:
            for _ in range(self._floor - self.alive):
                self._start("below min", "")
            self._scale_up("")

    def _start(self, reason: str, request_id: str) -> None:
        replica = Replica(f"{self.name}-{uuid.uuid4().hex[:10]}", self._platform.next_port(), trigger=request_id)
        self.replicas[replica.id] = replica
        self._platform.events.add(self.name, "start", replica_id=replica.id, reason=reason, request_id=request_id)
        self._spawn_task(self._life_of(replica))

    def _stop(self, replica: Replica, reason: str, drain_s: float | None = None) -> None:
        if replica.state in (State.STARTING, State.READY):
            replica.state = State.DRAINING
            replica.stop_reason = reason
            self._spawn_task(replica.stop(drain_s=self.policy.write_timeout_s if drain_s is None else drain_s))

    def let_end(self, replica: Replica, reason: str) -> None:
        """Send nothing more to a replica that ends by itself once its other invocations are answered."""
        replica.state = State.DRAINING
        replica.stop_reason = reason
        self._restore()

    def retire(self, replica: Replica, reason: str) -> None:
        """End a replica that does not answer any more, whatever it does."""
        self.let_end(replica, reason)
        replica.kill()

    def _watch_idle(self, replica: Replica) -> None:
        """Ask again when the idle timeout may have passed; a timer per idle period, so that stops are punctual."""
        since_s = replica.last_used_s
        delay_s = max(0.0, since_s + self.policy.idle_timeout_s - time.monotonic())
        asyncio.get_running_loop().call_later(delay_s + 0.001, self._check_idle, replica, since_s)

    def _check_idle(self, replica: Replica, since_s: float) -> None:
        unused = replica.state is State.READY and replica.in_flight == 0 and replica.last_used_s == since_s
        idle_s, floor = time.monotonic() - since_s, self.policy.keep_alive_floor
        if unused and may_stop(idle_s, self.policy.idle_timeout_s, self.alive, floor):
            self._stop(replica, "idle")

    # A replica's life.

    async def _life_of(self, replica: Replica) -> None:
        log = self._platform.logs / self.name / f"{replica.id}.log"
        try:
            self._scratch(replica).mkdir(parents=True)
            self._write_secrets(replica)
            await replica.spawn(self.command, self._environment(replica), log, self._platform.replica_cores)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._ended(replica, 127, f"{self.command[0]}: {error}")
            return
        if replica.state is State.DRAINING:
            replica.kill()  # stopped before there was a process to stop
        started = await replica.wait_ready(self._platform.session)
        if started and replica.state is State.STARTING:
            replica.state = State.READY
            replica.last_used_s = time.monotonic()
            self._failed_starts = 0
            self._platform.events.add(self.name, "ready", replica_id=replica.id, request_id=replica.trigger)
            self._watch_idle(replica)
            self._dispatch()
        elif not started and replica.state is State.STARTING:
            replica.kill()
        self._ended(replica, await replica.wait_ended(), "")

    def _ended(self, replica: Replica, code: int, reason: str) -> None:
        # Descendants that outlived their leader must not outlive the replica.
        replica.kill()
        shutil.rmtree(self._scratch(replica), ignore_errors=True)
        state, replica.state = replica.state, State.ENDED
        del self.replicas[replica.id]
        add = self._platform.events.add
        if replica.oom_killed:
            limit = f"over its limit of {self.policy.memory_limit_mb} MB"
            add(self.name, "oom_killed", replica_id=replica.id, exit_code=137, reason=limit)
        elif state is State.DRAINING:
            add(self.name, "stop", replica_id=replica.id, exit_code=code, reason=replica.stop_reason)
        elif state is State.STARTING:
            add(self.name, "start_failed", replica_id=replica.id, exit_code=code, reason=reason or "ended before ready")
        else:
            add(self.name, "crashed", replica_id=replica.id, exit_code=code)
        if state is State.STARTING and not replica.oom_killed:
            self._back_off()
        else:
            self._restore()

    def _back_off(self) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _HOPELESS_STARTS:
            text = f"Can't reach service for: {self.name}. (replicas end before they are ready; see their logs)"
            self._refuse_waiting(Refused(500, text))
        delay_s = restart_delay_s(self._failed_starts)
        self._not_before_s = time.monotonic() + delay_s
        asyncio.get_running_loop().call_later(delay_s + 0.001, self._restore)

    def _scratch(self, replica: Replica) -> Path:
        """The replica's temporary folder, removed with it: a killed stage cannot clean up."""
        return self._platform.logs.parent / "tmp" / replica.id

    def _write_secrets(self, replica: Replica) -> None:
        """As files that only this account reads, like OpenFaaS' under /var/openfaas/secrets."""
        folder = self._scratch(replica) / "secrets"
        folder.mkdir(mode=0o700)
        for name in self.deployment.secrets:
            (folder / name).write_text(self._platform.secrets.get(name, ""), encoding="utf-8")

    def _environment(self, replica: Replica) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name in FUNCTION_SETTINGS or name.startswith(_INHERITED_PREFIX)
        }
        return {
            **environment.for_measured(),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self._scratch(replica)),
            "HF_HUB_OFFLINE": "1",
            **inherited,
            **_SINGLE_THREADED,
            **self._platform.environment_of(self.name),
            "secret_mount_path": str(self._scratch(replica) / "secrets"),
            **self.deployment.env_vars,
            "port": str(replica.port),
            "FAVE_FUNCTION": self.name,
            "FAVE_REPLICA_ID": replica.id,
            "FAVE_MEMORY_LIMIT_MB": str(self.policy.memory_limit_mb),
        }

    def enforce_memory_limit(self) -> None:
        """Kill every replica whose process tree is over the limit, as the kernel would in a container."""
        if not self.policy.memory_limit_mb:
            return
        for replica in list(self.replicas.values()):
            pid = replica.pid
            over = pid is not None and tree_rss_bytes(pid) > self.policy.memory_limit_mb * 2**20
            if over and replica.over_limit:
                replica.oom_killed = True
                replica.kill()
            # Twice in a row: between fork and exec a child shows its parent's memory once more.
            replica.over_limit = over

    async def close(self, drain_s: float | None = None) -> None:
        """Refuse what waits, drain (at most `drain_s`, default write_timeout) and stop every replica."""
        self._closing = True
        self._refuse_waiting(Refused(503, f"No endpoints available for: {self.name}."))
        for replica in self._in(State.STARTING, State.READY):
            self._stop(replica, "deleted", drain_s)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _spawn_task(self, coroutine: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
