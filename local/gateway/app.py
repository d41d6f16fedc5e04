"""Routes and wiring of the embedded gateway: OpenFaaS' REST API on one port, its metrics on another."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import platform as host_platform
import re
import secrets
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from fave.errors import ConfigError
from fave.processes import free_port
from fave.wire.openfaas import NAME_LABEL
from local.gateway import cgroups, logs, secret_mount
from local.gateway.async_queue import MAX_QUEUED, AsyncQueue
from local.gateway.events import EventLog
from local.gateway.front import Front
from local.gateway.function import ROUTING, Function, Platform
from local.gateway.given import Given, inherited_settings
from local.gateway.inbound import SWEEP_INTERVAL_S, Inbound, sweep
from local.gateway.journal import Journal
from local.gateway.metrics import GatewayMetrics
from local.gateway.model import (
    HOST_START_TIMEOUT_S,
    NAME,
    NAMESPACE,
    Deployment,
    policy_of,
    program_of,
)
from local.gateway.proxy import Proxy
from local.gateway.replica import FIRST_PROBE_INTERVAL_S, PROBE_INTERVAL_S, TERM_GRACE_S, trees_rss_bytes
from local.leftovers import SCRATCH

VERSION = "0.1.0"
_MEMORY_CHECK_INTERVAL_S = 0.1
_IDLE_TURNS = 10
_LAG_INTERVAL_S = 0.05
_FOLLOW_INTERVAL_S = 0.25
_NDJSON = "application/x-ndjson"
# How long work in flight may still take when the whole platform stops.
_LAST_DRAIN_S = 3.0
# Below the kernel's ephemeral range, so that no outgoing connection can take a replica's port first.
_REPLICA_PORTS = range(20_000, 32_000)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """function_env: what every function gets; own_env: by function, what only it gets (its credentials).

    places: by part of the platform, the cores that it runs on; empty where nothing is pinned.
    chunked_bodies: requests' bodies reach functions chunked, as on a cluster. control_groups: use them where they are.
    """

    user: str
    password: str
    state: Path
    function_env: dict[str, str]
    own_env: dict[str, dict[str, str]] = {}
    places: dict[str, list[int]] = {}
    chunked_bodies: bool = False
    control_groups: bool = True


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str = ""
    raw_value: str = msgspec.field(name="rawValue", default="")
    namespace: str = NAMESPACE


class Gateway:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.functions: dict[str, Function] = {}
        self.journal = Journal(options.state)
        self._kept = self.journal.open()
        self.events = EventLog(options.state / "gateway-events.jsonl", self._kept.begun_at_ns)
        self.secrets: dict[str, str] = dict(self._kept.secrets)
        self.metrics = GatewayMetrics(lambda: list(self.functions.values()))
        # From anywhere in the range: two platforms on one machine should not ask for the same ports.
        first = secrets.randbelow(len(_REPLICA_PORTS))
        ports: list[int] = [*_REPLICA_PORTS[first:], *_REPLICA_PORTS[:first]]
        self._ports = itertools.cycle(ports)
        self._groups = cgroups.find() if options.control_groups else None
        self._secrets_held = secret_mount.take()
        self.connections: set[Inbound] = set()
        self.front: Front
        self._closing: set[asyncio.Task[None]] = set()
        basic = b64encode(f"{options.user}:{options.password}".encode()).decode()
        self._authorization = f"Basic {basic}".encode()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 2**20, middlewares=[self._authenticate])
        system = "/system"
        app.add_routes(
            [
                web.get("/healthz", self._health),
                web.get(f"{system}/functions", self._list),
                web.post(f"{system}/functions", self._create),
                web.put(f"{system}/functions", self._update),
                web.delete(f"{system}/functions", self._delete),
                web.get(f"{system}/function/{{name}}", self._status),
                web.post(f"{system}/scale-function/{{name}}", self._scale),
                web.get(f"{system}/info", self._info),
                web.get(f"{system}/namespaces", self._namespaces),
                web.get(f"{system}/events", self._events),
                web.get(f"{system}/logs", self._logs),
                web.get(f"{system}/secrets", self._list_secrets),
                web.post(f"{system}/secrets", self._create_secret),
                web.put(f"{system}/secrets", self._update_secret),
                web.delete(f"{system}/secrets", self._delete_secret),
            ]
        )
        app.cleanup_ctx.append(self._lifetime)
        return app

    def metrics_app(self) -> web.Application:
        async def exposition(_: web.Request) -> web.Response:
            return web.Response(body=self.metrics.exposition(), content_type="text/plain", charset="utf-8")

        async def targets(_: web.Request) -> web.Response:
            return _json([target for function in self.functions.values() for target in function.scrape_targets()])

        app = web.Application()
        app.add_routes([web.get("/metrics", exposition), web.get("/targets", targets)])
        return app

    async def _lifetime(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as callbacks:
            self._platform = Platform(
                events=self.events,
                next_port=self._next_port,
                given=Given(
                    environment_of=self._environment_of,
                    secrets=self.secrets,
                    folder=self.options.state / SCRATCH,
                    mounts_secrets=self._secrets_held is not None,
                ),
                logs=self.options.state / "logs",
                metrics=self.metrics,
                replica_cores=self.options.places.get("replicas", []),
                spawning=asyncio.Lock(),
                groups=self._groups,
            )
            proxy = Proxy(self.metrics, chunked_bodies=self.options.chunked_bodies)
            self._stand_again()
            queue = AsyncQueue(proxy, callbacks, self.journal, self.functions.get)
            self.front = Front(lambda name: self.functions.get(_short(name)), proxy, queue)
            watching = [self._watch_loop(), self._watch_connections(), self._watch_rates()]
            watching += [] if self._groups else [self._watch_memory()]
            watchers = [asyncio.create_task(each) for each in watching]
            yield
            for watcher in watchers:
                watcher.cancel()
            await queue.close()
        self.events.close()

    async def close(self) -> None:
        """Stop every replica, before the server: what is in flight is answered as far as it can be."""
        await asyncio.gather(*(function.close(_LAST_DRAIN_S) for function in self.functions.values()))
        self.journal.remove()
        if self._secrets_held is not None:
            secret_mount.leave(self._secrets_held)
        if self._groups:
            self._groups.remove()

    def _stand_again(self) -> None:
        for standing in self._kept.functions:
            try:
                function = Function(standing.deployment, self._platform, standing.created_at)
            except ConfigError as error:  # its folder or handler has gone meanwhile
                sys.stderr.write(f"{standing.deployment.service} does not come back: {error}\n")
                continue
            self.functions[function.name] = function
            function.stand_again(standing)
        self._note()

    def _note(self) -> None:
        """Whatever was changed is known to a gateway that follows this one."""
        self.journal.write((function.standing() for function in self.functions.values()), self.secrets)

    def _environment_of(self, function: str) -> dict[str, str]:
        return self.options.function_env | self.options.own_env.get(function, self.options.own_env.get("", {}))

    def _next_port(self) -> int:
        for port in itertools.islice(self._ports, len(_REPLICA_PORTS)):
            if free_port(port) == port:
                return port
        return free_port()

    async def _watch_loop(self) -> None:
        """What holds up this task holds up every call."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + _LAG_INTERVAL_S
            await asyncio.sleep(_LAG_INTERVAL_S)
            self.metrics.late(max(0.0, loop.time() - due_s))

    async def _watch_rates(self) -> None:
        while True:
            await asyncio.sleep(1)
            for function in list(self.functions.values()):
                function.second_is_over()

    async def _watch_connections(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            sweep(self.connections)

    async def _watch_memory(self) -> None:
        for turn in itertools.count():
            await asyncio.sleep(_MEMORY_CHECK_INTERVAL_S)
            with_idle = turn % _IDLE_TURNS == 0
            watched = [(f, r, r.pid) for f in self.functions.values() for r in f.limited(with_idle=with_idle) if r.pid]
            if watched:
                # In a thread: the kernel's books of hundreds of processes are not read between two calls.
                sizes = await asyncio.to_thread(trees_rss_bytes, [pid for _, _, pid in watched])
                for (function, replica, _), size in zip(watched, sizes, strict=True):
                    function.enforce_memory_limit(replica, size)

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/system/"):
            given = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, self._authorization):
                challenge = {"WWW-Authenticate": 'Basic realm="Restricted"'}
                return web.Response(status=401, text="invalid credentials", headers=challenge)
            if (namespace := request.query.get("namespace") or NAMESPACE) != NAMESPACE:
                # Never the function of that name here: it is somebody else's.
                return web.Response(status=400, text=f"namespace {namespace!r}: there is only {NAMESPACE}")
        reply = await handler(request)
        # What comes next on this connection may be an invocation, which is not for this server.
        reply.force_close()
        return reply

    # Routes.

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _list(self, request: web.Request) -> web.Response:
        return _json([function.status() for function in self.functions.values()])

    async def _create(self, request: web.Request) -> web.Response:
        deployment = await self._deployment(request)
        if deployment.service in self.functions:
            return web.Response(status=500, text=f"function {deployment.service} already exists")
        function = Function(deployment, self._platform)
        self.functions[function.name] = function
        return self._deployed(function, deployment)

    async def _update(self, request: web.Request) -> web.Response:
        deployment = await self._deployment(request)
        function = self.functions.get(deployment.service)
        if function is None:
            return web.Response(status=404, text=f"error finding function {deployment.service}")
        return self._deployed(function, deployment)

    def _deployed(self, function: Function, deployment: Deployment) -> web.Response:
        self.events.add(function.name, "deploy")
        function.update(deployment)
        self._note()
        unbound = function.policy.limits.cpu_cores and not self._groups
        return web.Response(status=202, text="limits.cpu is not kept here: no control groups" if unbound else "")

    async def _delete(self, request: web.Request) -> web.Response:
        body = await _body(request, dict[str, object])
        name = body.get("functionName")
        if not isinstance(name, str) or not name:
            return web.Response(status=400, text="functionName is missing")
        function = self.functions.pop(_short(name), None)
        if function is None:
            return web.Response(status=404, text=f"error finding function {name}")
        self.events.add(function.name, "delete")
        self._note()
        # In the background: its last invocation may take longer than a caller waits for this answer.
        task = asyncio.create_task(function.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return web.Response(status=202)

    async def _status(self, request: web.Request) -> web.Response:
        function = self._find(request)
        return (
            web.Response(status=404)
            if function is None
            else _json(function.status(with_usage=request.query.get("usage") == "1"))
        )

    async def _scale(self, request: web.Request) -> web.Response:
        function = self._find(request)
        body = await _body(request, dict[str, object])
        replicas = body.get("replicas")
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            return web.Response(status=400, text=f"replicas: {replicas!r} is not a count")
        if function is None:
            return web.Response(status=404, text=f"error finding function {request.match_info['name']}")
        function.scale(replicas)
        self._note()
        most = function.policy.max_replicas
        return web.Response(status=202, text=f"scaled to {most}, its maximum" if replicas > most else "")

    async def _info(self, _: web.Request) -> web.Response:
        version = {"sha": "", "release": VERSION}
        provider = {"provider": "fave-local", "version": version, "orchestration": "processes", "routing": ROUTING}
        limits = {
            "probe_interval_s": PROBE_INTERVAL_S,
            "first_probe_interval_s": FIRST_PROBE_INTERVAL_S,
            "start_timeout_s": HOST_START_TIMEOUT_S,
            "term_grace_s": TERM_GRACE_S,
            # By the kernel, or from outside, which knows of memory only.
            "control_groups": self._groups.version if self._groups else 0,
            "memory_check_interval_s": 0 if self._groups else _MEMORY_CHECK_INTERVAL_S,
            "max_queued_async": MAX_QUEUED,
            "chunked_bodies": self.options.chunked_bodies,
        }
        info = {"provider": provider, "version": version, "arch": host_platform.machine(), "limits": limits}
        return _json(info | {"function_settings": inherited_settings(), "places": self.options.places})

    async def _namespaces(self, _: web.Request) -> web.Response:
        return _json([NAMESPACE])

    async def _events(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdigit():
            return web.Response(status=400, text=f"since={since!r} is not a sequence number")
        return web.Response(body=_lines(self.events.since(int(since))), content_type=_NDJSON)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        get = request.query.get
        name, tail = get("name", ""), get("tail") or "-1"
        instance = get("instance", "")
        if not NAME.fullmatch(name) or not NAME.fullmatch(instance or "x") or not re.fullmatch(r"-1|[0-9]{1,9}", tail):
            return web.Response(status=400, text="name is missing, or name, instance or tail is wrong")
        try:
            since = datetime.fromisoformat(get("since") or "1970-01-01T00:00:00Z")
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"since: {error}") from error
        follow = get("follow", "").lower() in ("true", "1")
        about = {"name": _short(name), "namespace": NAMESPACE, "instance": instance}
        folder = self.options.state / "logs"
        follower = logs.Follower(folder, **about) if follow else None
        # In a thread: reading files would hold up invocations.
        messages = await asyncio.to_thread(
            logs.read,
            folder,
            since=since if since.tzinfo else since.replace(tzinfo=UTC),
            # -1, as faas-cli has it, is all; 0 was so here, too.
            tail=max(0, int(tail)),
            **about,
        )
        if follower is None:
            return web.Response(body=_lines(messages), content_type=_NDJSON)
        reply = web.StreamResponse(headers={"Content-Type": _NDJSON})
        await reply.prepare(request)
        await reply.write(_lines(messages))
        # Until the caller goes, which ends this task.
        while True:
            await asyncio.sleep(_FOLLOW_INTERVAL_S)
            if more := await asyncio.to_thread(follower.more):
                await reply.write(_lines(more))

    # Secrets: kept in memory, given to replicas as files.

    async def _list_secrets(self, _: web.Request) -> web.Response:
        return _json([{"name": name, "namespace": NAMESPACE} for name in sorted(self.secrets)])

    async def _create_secret(self, request: web.Request) -> web.Response:
        secret = await _secret(request)
        if secret.name in self.secrets:
            return web.Response(status=409, text=f"secret {secret.name} already exists")
        self.secrets[secret.name] = secret.value
        self._note()
        return web.Response(status=202)

    async def _update_secret(self, request: web.Request) -> web.Response:
        secret = await _secret(request)
        if secret.name not in self.secrets:
            return web.Response(status=404, text=f"secret {secret.name} was not found")
        self.secrets[secret.name] = secret.value
        self._note()
        return web.Response(status=202)

    async def _delete_secret(self, request: web.Request) -> web.Response:
        found = self.secrets.pop((await _secret(request)).name, None)
        self._note()
        return web.Response(status=404 if found is None else 202)

    async def _deployment(self, request: web.Request) -> Deployment:
        """The body as a deployment whose labels, limits, image and secrets can be used; else 400 with every mistake."""
        try:
            deployment = msgspec.convert(_without_nulls(msgspec.json.decode(await request.read())), Deployment)
            policy_of(deployment)
            program_of(deployment)
        except (msgspec.MsgspecError, ConfigError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        unknown = [name for name in deployment.secrets if name not in self.secrets]
        if unknown:
            raise web.HTTPBadRequest(text=f"unable to find secret: {', '.join(unknown)}")
        labels = {name: value for name, value in deployment.labels.items() if name != NAME_LABEL}
        return msgspec.structs.replace(deployment, namespace=NAMESPACE, labels=labels)

    def _find(self, request: web.Request) -> Function | None:
        return self.functions.get(_short(request.match_info["name"]))


def _short(name: str) -> str:
    return name.removesuffix(f".{NAMESPACE}")


def _lines(rows: Iterable[object]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _without_nulls(value: object) -> object:
    """Go writes `null` for what is absent: maps, lists and texts alike."""
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value if each is not None] if isinstance(value, list) else value


async def _body(request: web.Request, kind: type) -> dict[str, object]:
    try:
        value: dict[str, object] = msgspec.convert(_without_nulls(msgspec.json.decode(await request.read())), kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text=f"bad JSON: {error}") from error
    if (namespace := value.get("namespace") or NAMESPACE) != NAMESPACE:
        raise web.HTTPBadRequest(text=f"namespace {namespace!r}: there is only {NAMESPACE}")
    return value


async def _secret(request: web.Request) -> Secret:
    try:
        secret = msgspec.convert(await _body(request, dict[str, object]), Secret)
        if secret.raw_value:
            secret = msgspec.structs.replace(secret, value=b64decode(secret.raw_value, validate=True).decode())
    except (msgspec.MsgspecError, ValueError) as error:
        raise web.HTTPBadRequest(text=f"a secret has a name and a value, or a base64 rawValue: {error}") from error
    if not NAME.fullmatch(secret.name):
        raise web.HTTPBadRequest(text=f"secret name {secret.name!r} must match {NAME.pattern}")
    return secret
