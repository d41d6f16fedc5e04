"""Routes and wiring of the embedded gateway: OpenFaaS' REST API on one port, its metrics on another."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import platform as host_platform
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
from aiohttp import web

from fave.errors import ConfigError
from fave.processes import free_port
from local.gateway import proxy
from local.gateway.events import EventLog
from local.gateway.function import ROUTING, Function, Platform
from local.gateway.metrics import GatewayMetrics
from local.gateway.model import NAMESPACE, Deployment, command_of, policy_of

VERSION = "0.1.0"
_MEMORY_CHECK_INTERVAL_S = 0.1
# How long work in flight may still take when the whole platform stops.
_LAST_DRAIN_S = 3.0
# Below the kernel's ephemeral range, so that no outgoing connection can take a replica's port first.
_REPLICA_PORTS = range(20_000, 32_000)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    user: str
    password: str
    state: Path
    function_env: dict[str, str]


class Gateway:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.functions: dict[str, Function] = {}
        self.events = EventLog(options.state / "gateway-events.jsonl")
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
                self._session, self.events, self._next_port, self.options.function_env, self.options.state / "logs"
            )
            watcher = asyncio.create_task(self._watch_memory())
            yield
            watcher.cancel()
        self.events.close()

    async def close(self) -> None:
        """Stop every replica, before the server: what is in flight is answered as far as it can be."""
        await asyncio.gather(*(function.close(_LAST_DRAIN_S) for function in self.functions.values()))

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
        deployment = await _deployment(request)
        if deployment.service in self.functions:
            return web.Response(status=500, text=f"function {deployment.service} already exists")
        function = Function(deployment, self._platform)
        self.functions[function.name] = function
        self.events.add(function.name, "deploy")
        function.update(deployment)
        return web.Response(status=202)

    async def _update(self, request: web.Request) -> web.Response:
        deployment = await _deployment(request)
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
        return _json({"provider": provider, "version": version, "arch": host_platform.machine()})

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
        path = request.rel_url.raw_path.removeprefix("/function/").partition("/")[2]
        return await proxy.invoke(function, request, path, self._session, self.metrics)

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


async def _deployment(request: web.Request) -> Deployment:
    """The body as a deployment whose labels, limits and image can be used; 400 with every mistake otherwise."""
    try:
        deployment = msgspec.json.decode(await request.read(), type=Deployment)
        policy_of(deployment)
        command_of(deployment)
    except (msgspec.MsgspecError, ConfigError, ValueError) as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    if not deployment.namespace:
        deployment = msgspec.structs.replace(deployment, namespace=NAMESPACE)
    return deployment
