"""Routes and wiring of the embedded gateway: OpenFaaS' REST API on one port, its metrics on another."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import platform as host_platform
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from fave.errors import ConfigError
from fave.processes import free_port
from local.gateway import logs
from local.gateway.async_queue import CALLBACK_URL, MAX_QUEUED, AsyncQueue, is_callback
from local.gateway.events import EventLog
from local.gateway.function import ROUTING, Function, Platform, inherited_settings
from local.gateway.metrics import GatewayMetrics
from local.gateway.model import NAME, NAMESPACE, Deployment, command_of, policy_of
from local.gateway.proxy import CALL_ID, Call, Proxy
from local.gateway.replica import PROBE_INTERVAL_S, READY_PATH, START_TIMEOUT_S, TERM_GRACE_S

VERSION = "0.1.0"
_MEMORY_CHECK_INTERVAL_S = 0.1
# How long work in flight may still take when the whole platform stops.
_LAST_DRAIN_S = 3.0
# Below the kernel's ephemeral range, so that no outgoing connection can take a replica's port first.
_REPLICA_PORTS = range(20_000, 32_000)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """function_env: what every function gets; own_env: by function, what only it gets (its credentials).

    places: by part of the platform, the cores that it runs on; empty where nothing is pinned.
    """

    user: str
    password: str
    state: Path
    function_env: dict[str, str]
    own_env: dict[str, dict[str, str]] = {}
    places: dict[str, list[int]] = {}


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    value: str = ""
    namespace: str = NAMESPACE


class Gateway:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.functions: dict[str, Function] = {}
        self.events = EventLog(options.state / "gateway-events.jsonl")
        self.secrets: dict[str, str] = {}
        self.metrics = GatewayMetrics(lambda: list(self.functions.values()))
        # From anywhere in the range: two platforms on one machine should not ask for the same ports.
        first = secrets.randbelow(len(_REPLICA_PORTS))
        ports: list[int] = [*_REPLICA_PORTS[first:], *_REPLICA_PORTS[:first]]
        self._ports = itertools.cycle(ports)
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
                web.post("/async-function/{name}", self._invoke_async),
                web.post("/async-function/{name}/{path:.*}", self._invoke_async),
                web.route("*", "/function/{name}", self._invoke),
                web.route("*", "/function/{name}/{path:.*}", self._invoke),
            ]
        )
        app.cleanup_ctx.append(self._lifetime)
        return app

    def metrics_app(self) -> web.Application:
        async def exposition(_: web.Request) -> web.Response:
            return web.Response(body=self.metrics.exposition(), content_type="text/plain", charset="utf-8")

        app = web.Application()
        app.add_routes([web.get("/metrics", exposition)])
        return app

    async def _lifetime(self, _: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0, force_close=False, keepalive_timeout=30)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            self._platform = Platform(
                session=self._session,
                events=self.events,
                next_port=self._next_port,
                environment_of=self._environment_of,
                secrets=self.secrets,
                logs=self.options.state / "logs",
                replica_cores=self.options.places.get("replicas", []),
            )
            self._proxy = Proxy(self._session, self.metrics)
            self._queue = AsyncQueue(self._proxy, self._session)
            watcher = asyncio.create_task(self._watch_memory())
            yield
            watcher.cancel()
            await self._queue.close()
        self.events.close()

    async def close(self) -> None:
        """Stop every replica, before the server: what is in flight is answered as far as it can be."""
        await asyncio.gather(*(function.close(_LAST_DRAIN_S) for function in self.functions.values()))

    def _environment_of(self, function: str) -> dict[str, str]:
        return self.options.function_env | self.options.own_env.get(function, self.options.own_env.get("", {}))

    def _next_port(self) -> int:
        for port in itertools.islice(self._ports, len(_REPLICA_PORTS)):
            if free_port(port) == port:
                return port
        return free_port()

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(_MEMORY_CHECK_INTERVAL_S)
            for function in list(self.functions.values()):
                function.enforce_memory_limit()

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/system/"):
            given = request.headers.get("Authorization", "").encode()
            if not hmac.compare_digest(given, self._authorization):
                challenge = {"WWW-Authenticate": 'Basic realm="Restricted"'}
                return web.Response(status=401, text="invalid credentials", headers=challenge)
        return await handler(request)

    # Routes.

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _list(self, request: web.Request) -> web.Response:
        if request.query.get("namespace", NAMESPACE) != NAMESPACE:
            return _json([])
        return _json([function.status() for function in self.functions.values()])

    async def _create(self, request: web.Request) -> web.Response:
        deployment = await self._deployment(request)
        if deployment.service in self.functions:
            return web.Response(status=500, text=f"function {deployment.service} already exists")
        function = Function(deployment, self._platform)
        self.functions[function.name] = function
        self.events.add(function.name, "deploy")
        function.update(deployment)
        return web.Response(status=202)

    async def _update(self, request: web.Request) -> web.Response:
        deployment = await self._deployment(request)
        function = self.functions.get(deployment.service)
        if function is None:
            return web.Response(status=404, text=f"error finding function {deployment.service}")
        self.events.add(function.name, "deploy")
        function.update(deployment)
        return web.Response(status=202)

    async def _delete(self, request: web.Request) -> web.Response:
        body = await _body(request, dict[str, object])
        name = body.get("functionName")
        if not isinstance(name, str) or not name:
            return web.Response(status=400, text="functionName is missing")
        function = self.functions.pop(_short(name), None)
        if function is None:
            return web.Response(status=404, text=f"error finding function {name}")
        self.events.add(function.name, "delete")
        # In the background: its last invocation may take longer than a caller waits for this answer.
        task = asyncio.create_task(function.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return web.Response(status=202)

    async def _status(self, request: web.Request) -> web.Response:
        function = self._find(request)
        return web.Response(status=404) if function is None else _json(function.status())

    async def _scale(self, request: web.Request) -> web.Response:
        function = self._find(request)
        body = await _body(request, dict[str, object])
        replicas = body.get("replicas")
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            return web.Response(status=400, text=f"replicas: {replicas!r} is not a count")
        if function is None:
            return web.Response(status=404, text=f"error finding function {request.match_info['name']}")
        function.scale(replicas)
        return web.Response(status=202)

    async def _info(self, _: web.Request) -> web.Response:
        version = {"sha": "", "release": VERSION}
        provider = {"provider": "fave-local", "version": version, "orchestration": "processes", "routing": ROUTING}
        limits = {
            "probe_path": READY_PATH,
            "probe_interval_s": PROBE_INTERVAL_S,
            "start_timeout_s": START_TIMEOUT_S,
            "term_grace_s": TERM_GRACE_S,
            "memory_check_interval_s": _MEMORY_CHECK_INTERVAL_S,
            "max_queued_async": MAX_QUEUED,
        }
        info = {"provider": provider, "version": version, "arch": host_platform.machine(), "limits": limits}
        return _json(info | {"function_settings": inherited_settings(), "places": self.options.places})

    async def _namespaces(self, _: web.Request) -> web.Response:
        return _json([NAMESPACE])

    async def _events(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not since.isdigit():
            return web.Response(status=400, text=f"since={since!r} is not a sequence number")
        lines = b"".join(msgspec.json.encode(event) + b"\n" for event in self.events.since(int(since)))
        return web.Response(body=lines, content_type="application/x-ndjson")

    async def _invoke(self, request: web.Request) -> web.Response:
        function = self._find(request)
        if function is None:
            return web.Response(status=404, text=f"error finding function {request.match_info['name']}")
        return await self._proxy.serve(function, Call(request, _path_of(request), await request.read()))

    async def _invoke_async(self, request: web.Request) -> web.Response:
        function = self._find(request)
        if function is None:
            return web.Response(status=404, text=f"error finding function {request.match_info['name']}")
        url = request.headers.get(CALLBACK_URL, "")
        if not is_callback(url):
            return web.Response(status=400, text=f"{CALLBACK_URL} {url!r} is no http address")
        call = Call(request, _path_of(request), await request.read())
        if not self._queue.put(function, call):
            return web.Response(status=429, text=f"{MAX_QUEUED} invocations are queued", headers={"Retry-After": "1"})
        return web.Response(status=202, headers={CALL_ID: call.id})

    async def _logs(self, request: web.Request) -> web.Response:
        get = request.query.get
        name, tail = get("name", ""), get("tail", "0")
        if not NAME.fullmatch(name) or not NAME.fullmatch(get("instance", "x")) or not tail.isdigit():
            return web.Response(status=400, text="name is missing, or name, instance or tail is wrong")
        try:
            since = datetime.fromisoformat(get("since") or "1970-01-01T00:00:00Z")
        except ValueError as error:
            raise web.HTTPBadRequest(text=f"since: {error}") from error
        # In a thread: reading files would hold up invocations.
        messages = await asyncio.to_thread(
            logs.read,
            self.options.state / "logs",
            name=_short(name),
            namespace=NAMESPACE,
            instance=get("instance", ""),
            since=since if since.tzinfo else since.replace(tzinfo=UTC),
            tail=int(tail),
        )
        lines = b"".join(msgspec.json.encode(message) + b"\n" for message in messages)
        return web.Response(body=lines, content_type="application/x-ndjson")

    # Secrets: kept in memory, given to replicas as files.

    async def _list_secrets(self, _: web.Request) -> web.Response:
        return _json([{"name": name, "namespace": NAMESPACE} for name in sorted(self.secrets)])

    async def _create_secret(self, request: web.Request) -> web.Response:
        secret = await _secret(request)
        if secret.name in self.secrets:
            return web.Response(status=409, text=f"secret {secret.name} already exists")
        self.secrets[secret.name] = secret.value
        return web.Response(status=202)

    async def _update_secret(self, request: web.Request) -> web.Response:
        secret = await _secret(request)
        if secret.name not in self.secrets:
            return web.Response(status=404, text=f"secret {secret.name} was not found")
        self.secrets[secret.name] = secret.value
        return web.Response(status=202)

    async def _delete_secret(self, request: web.Request) -> web.Response:
        found = self.secrets.pop((await _secret(request)).name, None)
        return web.Response(status=404 if found is None else 202)

    async def _deployment(self, request: web.Request) -> Deployment:
        """The body as a deployment whose labels, limits, image and secrets can be used; else 400 with every mistake."""
        try:
            deployment = msgspec.json.decode(await request.read(), type=Deployment)
            policy_of(deployment)
            command_of(deployment)
        except (msgspec.MsgspecError, ConfigError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        unknown = [name for name in deployment.secrets if name not in self.secrets]
        if unknown:
            raise web.HTTPBadRequest(text=f"unable to find secret: {', '.join(unknown)}")
        if not deployment.namespace:
            deployment = msgspec.structs.replace(deployment, namespace=NAMESPACE)
        return deployment

    def _find(self, request: web.Request) -> Function | None:
        return self.functions.get(_short(request.match_info["name"]))


def _short(name: str) -> str:
    return name.removesuffix(f".{NAMESPACE}")


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


async def _body(request: web.Request, kind: type) -> dict[str, object]:
    try:
        value: dict[str, object] = msgspec.json.decode(await request.read(), type=kind)
    except msgspec.MsgspecError as error:
        raise web.HTTPBadRequest(text=f"bad JSON: {error}") from error
    return value


async def _secret(request: web.Request) -> Secret:
    try:
        secret = msgspec.json.decode(await request.read(), type=Secret)
    except msgspec.MsgspecError as error:
        raise web.HTTPBadRequest(text=f"bad JSON: {error}") from error
    if not NAME.fullmatch(secret.name):
        raise web.HTTPBadRequest(text=f"secret name {secret.name!r} must match {NAME.pattern}")
    return secret


def _path_of(request: web.Request) -> str:
    """What stands behind the function's name, still encoded."""
    return request.rel_url.raw_path.split("/", 3)[3] if request.rel_url.raw_path.count("/") > 2 else ""
