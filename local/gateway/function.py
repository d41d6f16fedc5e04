"""One function: its deployment, its replicas, and the one queue they share.

Routing is most-recently-used: of the replicas with free capacity the one that was used last takes the request, so that
the others grow idle and time out. Whichever replica becomes free first takes the head of the queue.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
import uuid
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from fave.scaling import may_stop, planned_replicas, replicas_to_start, restart_delay_s
from fave.wire.openfaas import NAME_LABEL, FunctionStatus
from local.gateway.cgroups import ControlGroups
from local.gateway.demand import Highest, Rate
from local.gateway.events import EventLog, EventName
from local.gateway.given import Given
from local.gateway.journal import Standing
from local.gateway.logs import last_lines
from local.gateway.metrics import GatewayMetrics, full_name
from local.gateway.model import Deployment, Policy, policy_of, program_of
from local.gateway.replica import Replica, State, cpu_s_of_one, memory_of_one, tree

ROUTING = "most-recently-used"
# After so many failed starts in a row the waiting requests are refused instead of held.
_HOPELESS_STARTS = 3
_DYING_S = 0.05
# Requests per second are those of the last so many seconds.
RATE_OVER_S = 5
# Of the log of a replica that did not start, so much is told to who waited.
_LAST_LINES = 5
# Loops may call a moment early.
_TIMER_SLACK_S = 0.001


class Refused(Exception):  # noqa: N818 - an answer, not a mistake
    """The function cannot take the request: HTTP `status` and the text that OpenFaaS gives."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Platform(NamedTuple):
    """What every function needs from the gateway."""

    events: EventLog
    next_port: Callable[[], int]
    given: Given
    logs: Path
    metrics: GatewayMetrics
    replica_cores: list[int]
    spawning: asyncio.Lock
    groups: ControlGroups | None = None


class Function:
    """created_at: as OpenFaaS tells it (RFC 3339); now, for a new one."""

    def __init__(self, deployment: Deployment, platform: Platform, created_at: str = "") -> None:
        self.deployment = deployment
        self.policy: Policy = policy_of(deployment)
        self.program = program_of(deployment)
        self.invocations = 0
        self.replicas: dict[str, Replica] = {}
        self._platform = platform
        self._waiting: deque[asyncio.Future[Replica]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed_starts = 0
        # Back-off: until then (monotonic clock) nothing is started on its own.
        self._not_before_s = 0.0
        self._closing = False
        self._created_at = created_at or datetime.now(tz=UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        # Restored after crashes. An explicit scale below min lowers it: the operator's word counts.
        self._floor = self._scaled_to = self.policy.floor
        self._last_used_s = time.monotonic()
        self._rate = Rate(RATE_OVER_S)
        self._per_s = 0.0
        self._planned = Highest()
        # When CPU time was asked for last, and how much it was (s).
        self._cpu_read = (time.monotonic(), 0.0)

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

    def status(self, *, with_usage: bool = False) -> FunctionStatus:
        return FunctionStatus(
            name=self.name,
            image=self.deployment.image,
            namespace=self.deployment.namespace,
            created_at=self._created_at,
            replicas=self.alive,
            available_replicas=self.ready,
            draining=len(self._in(State.DRAINING)),
            invocation_count=self.invocations,
            labels={**self.deployment.labels, NAME_LABEL: self.name},
            annotations=self.deployment.annotations,
            env_process=self.deployment.env_process,
            env_vars=self.deployment.env_vars,
            constraints=self.deployment.constraints,
            secrets=self.deployment.secrets,
            limits=self.deployment.limits,
            requests=self.deployment.requests,
            read_only_root_filesystem=self.deployment.read_only_root_filesystem,
            usage=self._usage() if with_usage else None,
        )

    def _usage(self) -> dict[str, float]:
        """As OpenFaaS tells it: thousandths of a core since it was last asked for, and bytes."""
        pids = [pid for replica in self.replicas.values() if replica.pid for pid in tree(replica.pid)]
        (before_s, before_cpu_s), now_s = self._cpu_read, time.monotonic()
        cpu_s = sum(map(cpu_s_of_one, pids))
        self._cpu_read = now_s, cpu_s
        # What a replica has used that ended since then is not known any more.
        used_s = max(0.0, cpu_s - before_cpu_s)
        return {
            "cpu": round(1000 * used_s / max(now_s - before_s, _TIMER_SLACK_S), 3),
            "totalMemoryBytes": float(sum(map(memory_of_one, pids))),
        }

    def standing(self) -> Standing:
        """What is to be known of it again."""
        return Standing(
            deployment=self.deployment, created_at=self._created_at, floor=self._floor, replicas=self._scaled_to
        )

    def stand_again(self, standing: Standing) -> None:
        """As it was scaled before its gateway was killed."""
        self._floor, self._scaled_to = standing.floor, standing.replicas
        for _ in range(standing.replicas):
            self._start("below min", "")

    def scrape_targets(self) -> list[dict[str, object]]:
        """Where replicas tell Prometheus of themselves, as its discovery by HTTP has it; FAVE's host does."""
        return [
            {
                "targets": [f"127.0.0.1:{replica.port}"],
                "labels": {
                    "__metrics_path__": "/_/metrics",
                    "function_name": full_name(self),
                    "replica": replica.id,
                },
            }
            for replica in self._in(State.READY)
            if replica.is_fave_host
        ]

    # Requests.

    async def acquire(self, request_id: str, *, first: bool = False) -> Replica:
        """A replica with a reserved slot, waiting for one if need be. Pair with `release`; cancelled, it takes nothing.

        first: before all others that wait, for a call whose replica turned out to be gone.

        Raises
        ------
        Refused
            429 when the queue is full, 503 when the function is going away, 500 when replicas cannot start.
        """
        if self._closing:
            raise Refused(503, f"No endpoints available for: {self.name}.")
        if not first:
            self._rate.count()
        replica = self._pick()
        if replica is not None:
            self._reserve(replica)
            self._scale_up(request_id)
            return replica
        if len(self._waiting) >= self.policy.max_waiting and not first:
            raise Refused(429, f"Queue limit of {self.policy.max_waiting} waiting requests reached for: {self.name}.")
        waiter: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if first else self._waiting.append)(waiter)
        self._scale_up(request_id)
        began_s = time.monotonic()
        try:
            found = await waiter
        except asyncio.CancelledError:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and not waiter.exception():
                self.release(waiter.result())
            raise
        self._platform.metrics.waited(full_name(self), time.monotonic() - began_s)
        return found

    def release(self, replica: Replica) -> None:
        replica.in_flight -= 1
        replica.last_used_s = self._last_used_s = time.monotonic()
        self._plan()
        if replica.in_flight == 0:
            replica.idle.set()
            self._watch_idle(replica)
            if self.policy.zero_after_s is not None and self.policy.min_replicas > 1:
                self._watch_all()  # those that are kept under load go with the last one
        self._dispatch()

    def _usable(self) -> list[Replica]:
        return [replica for replica in self._in(State.READY) if not replica.unreachable]

    def _pick(self) -> Replica | None:
        free = [r for r in self._usable() if r.in_flight < self.policy.max_in_flight]
        return max(free, key=lambda replica: replica.last_used_s, default=None)

    def _reserve(self, replica: Replica) -> None:
        replica.in_flight += 1
        replica.last_used_s = self._last_used_s = time.monotonic()
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
        # With none there nothing is planned ahead: an operator's zero stands until somebody asks.
        planned = self._plan() if self.alive else 0
        if not self._waiting and planned <= self.alive:
            return  # as `replicas_to_start` would say; for every request
        if time.monotonic() < self._not_before_s:
            return
        ready = self._usable()
        count = replicas_to_start(
            waiting=len(self._waiting),
            free=sum(self.policy.max_in_flight - replica.in_flight for replica in ready),
            ready=len(ready),
            starting=len(self._in(State.STARTING)),
            concurrency=self.policy.max_in_flight,
            min_replicas=self.policy.min_replicas,
            # One in doubt may come back: it keeps its place.
            max_replicas=self.policy.max_replicas - (self.ready - len(ready)),
            planned=planned,
        )
        for _ in range(count):
            self._start("request", request_id)

    def _plan(self) -> int:
        """OpenFaaS' rule, noted for the window within which nobody goes that it planned for."""
        policy = self.policy
        if policy.scaling_type == "capacity":
            if policy.load_per_replica >= policy.max_in_flight:
                return 0  # whoever is planned for is in use, or asked for by who waits
            load: float = self.in_flight + len(self._waiting)
        else:
            load = self._per_s
        planned = planned_replicas(load, policy.load_per_replica)
        self._planned.note(time.monotonic(), planned)
        return planned

    def second_is_over(self) -> None:
        """Once a second: requests per second are known, and what they ask for."""
        self._per_s = self._rate.second_is_over()
        if self.policy.scaling_type == "rps" and self.alive and not self._closing:
            self._scale_up("")

    def scale(self, replicas: int) -> None:
        """To exactly `replicas` (at most max): starts what is missing, drains the least recently used of the rest."""
        replicas = min(replicas, self.policy.max_replicas)
        self._floor = min(replicas, self.policy.floor)
        self._scaled_to = replicas
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
        policy, program = policy_of(deployment), program_of(deployment)
        keep = deployment.identity() == self.deployment.identity()
        self.deployment, self.policy, self.program = deployment, policy, program
        self._failed_starts = 0
        self._not_before_s = 0.0
        self._floor = self._scaled_to = policy.floor
        # What the rule before wanted keeps nobody.
        self._planned = Highest()
        if not keep:
            for replica in self._in(State.STARTING, State.READY):
                self._stop(replica, "replaced")
        self._shrink_to(policy.max_replicas, "over max")
        self._restore()
        self._watch_all()

    def _restore(self) -> None:
        if not self._closing and time.monotonic() >= self._not_before_s:
            for _ in range(self._floor - self.alive):
                self._start("below min", "")
            self._scale_up("")

    def _start(self, reason: str, request_id: str) -> None:
        replica = Replica(f"{self.name}-{uuid.uuid4().hex[:10]}", self._platform.next_port(), reason, request_id)
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

    def give_up(self, replica: Replica) -> None:
        """One that took no connection: what was meant for it was not sent, and counts for who gets it."""
        self.invocations -= 1
        replica.unreachable = True
        replica.kill()

    def doubt(self, replica: Replica) -> None:
        """One that broke a connection may be dying: nobody else is sent to it until it is known to listen."""
        if not replica.unreachable:
            replica.unreachable = True
            self._spawn_task(self._ask_again(replica))

    async def _ask_again(self, replica: Replica) -> None:
        # The kernel takes a moment to close what a process that is killed had open.
        await asyncio.sleep(_DYING_S)
        if replica.state is not State.READY:
            return
        if replica.pid is not None and await replica.listens():
            replica.unreachable = False
            self._dispatch()
        else:
            replica.kill()

    def _watch_idle(self, replica: Replica) -> None:
        """Ask when it may go; one timer a replica, which is punctual whatever comes before."""
        if replica.idle_timer is None:
            now_s = time.monotonic()
            delay_s = max(0.0, self._may_go_at_s(replica, now_s) - now_s) + _TIMER_SLACK_S
            replica.idle_timer = asyncio.get_running_loop().call_later(delay_s, self._check_idle, replica)

    def _watch_all(self) -> None:
        for replica in self._in(State.READY):
            replica.forget_timer()
            self._watch_idle(replica)

    def _may_go_at_s(self, replica: Replica, now_s: float) -> float:
        """When to ask: never at once again, where it is kept as one of the last or of those planned for."""
        policy, at_s = self.policy, replica.last_used_s + self.policy.window_s
        if at_s <= now_s:
            at_s = now_s + policy.window_s
        if policy.zero_after_s is None or self.in_flight or self._waiting:
            return at_s
        return min(at_s, max(now_s, self._last_used_s + policy.zero_after_s))

    def _check_idle(self, replica: Replica) -> None:
        replica.idle_timer = None
        if replica.state is not State.READY or replica.in_flight:
            return  # whoever releases it watches again
        now_s, policy, alive = time.monotonic(), self.policy, self.alive
        kept = max(policy.min_replicas, self._planned.within(policy.window_s, now_s))
        surplus = may_stop(now_s - replica.last_used_s, policy.window_s, alive, kept)
        if surplus or self._may_go_to_zero(now_s):
            self._stop(replica, "idle")
        else:
            self._watch_idle(replica)

    def _may_go_to_zero(self, now_s: float) -> bool:
        to_zero_s = self.policy.zero_after_s
        if to_zero_s is None or self.in_flight or self._waiting:
            return False
        return may_stop(now_s - self._last_used_s, to_zero_s, self.alive, 0)

    # A replica's life.

    async def _life_of(self, replica: Replica) -> None:
        log = self._log_of(replica)
        try:
            program, env = self._platform.given.to(replica, self.deployment, self.program, self.policy.limits.memory_mb)
            if self._platform.groups is not None:
                replica.group = self._platform.groups.make(replica.id, self.policy.limits)
                replica.group.when_out_of_memory(lambda: self._over_memory(replica))
            # One after another, and what has come meanwhile in between: twenty at once would hold up every call.
            async with self._platform.spawning:
                await replica.spawn(program, env, log, self._platform.replica_cores)
                await asyncio.sleep(0)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._ended(replica, 127, f"{self.program.command[0]}: {error}")
            return
        if replica.state is State.DRAINING:
            replica.kill()  # stopped before there was a process to stop
        started = await replica.wait_ready(self.program)
        if started and replica.state is State.STARTING:
            replica.state = State.READY
            replica.last_used_s = self._last_used_s = time.monotonic()
            self._failed_starts = 0
            add = self._platform.events.add
            replica.routable_at_ns = add(self.name, "ready", replica_id=replica.id, request_id=replica.trigger).at_ns
            took_s = time.monotonic() - replica.asked_for_s
            self._platform.metrics.replica_ready(full_name(self), replica.reason, took_s)
            self._watch_idle(replica)
            self._dispatch()
        elif not started and replica.state is State.STARTING:
            replica.kill()
        self._ended(replica, await replica.wait_ended(), "")

    def _ended(self, replica: Replica, code: int, reason: str) -> None:
        # Descendants that outlived their leader must not outlive the replica.
        replica.kill()
        if replica.group is not None and self._platform.groups is not None:
            replica.oom_killed |= replica.group.oom_kills > 0
            self._platform.groups.take_back(replica.group)
        self._platform.given.take_back(replica)
        state, replica.state = replica.state, State.ENDED
        replica.forget_timer()
        replica.kept.close()
        del self.replicas[replica.id]
        event: EventName
        if replica.oom_killed:
            event, code, reason = "oom_killed", 137, f"over its limit of {self.policy.limits.memory_mb} MB"
        elif state is State.DRAINING:
            event, reason = "stop", replica.stop_reason
        elif state is State.STARTING:
            event, reason = "start_failed", reason or replica.why_not or "ended before ready"
        else:
            event, reason = "crashed", ""
        self._platform.events.add(self.name, event, replica_id=replica.id, exit_code=code, reason=reason)
        self._platform.metrics.replica_ended(full_name(self), event, reason)
        if state is State.STARTING:
            self._back_off(replica, reason)
        else:
            self._restore()

    def _back_off(self, replica: Replica, reason: str) -> None:
        """Refuse what waits where another try would do no better: the next, for one that had its whole time."""
        self._failed_starts += 1
        if self._failed_starts >= _HOPELESS_STARTS or replica.why_not:
            said = "\n".join(last_lines(self._log_of(replica), _LAST_LINES))
            why = f"replicas end before they are ready: {reason}" + f"; the end of the log:\n{said}" * bool(said)
            self._refuse_waiting(Refused(500, f"Can't reach service for: {self.name}. ({why})"))
        delay_s = restart_delay_s(self._failed_starts)
        self._not_before_s = time.monotonic() + delay_s
        asyncio.get_running_loop().call_later(delay_s + 0.001, self._restore)

    def _log_of(self, replica: Replica) -> Path:
        return self._platform.logs / self.name / f"{replica.id}.log"

    def limited(self, *, with_idle: bool) -> list[Replica]:
        """Replicas whose memory is to be looked at; those that do nothing need not be asked as often."""
        if not self.policy.limits.memory_mb:
            return []
        return [
            replica
            for replica in self.replicas.values()
            if with_idle or replica.over_limit or replica.in_flight or replica.state is not State.READY
        ]

    def enforce_memory_limit(self, replica: Replica, rss_bytes: int) -> None:
        """Kill it when its process tree is over the limit, as the kernel would in a container."""
        over = rss_bytes > self.policy.limits.memory_mb * 2**20
        if over and replica.over_limit:
            self._over_memory(replica)
        # Twice in a row: between fork and exec a child shows its parent's memory once more.
        replica.over_limit = over

    def _over_memory(self, replica: Replica) -> None:
        replica.oom_killed = True
        replica.kill()

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
