"""One invocation: wait for a replica, forward, answer as OpenFaaS' gateway would."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Coroutine
from typing import Any, NamedTuple

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from fave.clock import utc_ns
from fave.invocation import ENDING, REQUEST_ID
from local.gateway.function import Function, Refused
from local.gateway.metrics import GatewayMetrics, full_name
from local.gateway.replica import Replica

CALL_ID = "X-Call-Id"
_HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_NOT_FORWARDED = _HOP_BY_HOP | {"host", "content-length", "expect"}
_NOT_RETURNED = _HOP_BY_HOP | {"content-length"}
# The function host enforces exec_timeout itself and says 504; beyond this margin the gateway gives up on the replica.
_HOST_MARGIN_S = 3.0
_CANCEL_TRIES = 50


class Call:
    """What a caller asks for, apart from its connection: it may be done later, or when the caller has gone."""

    def __init__(self, request: web.Request, path: str, body: bytes) -> None:
        self.id = request.headers.get(CALL_ID) or str(uuid.uuid4())
        self.method = request.method
        self.body = body
        self.headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _NOT_FORWARDED)
        self.headers[CALL_ID] = self.id
        self.headers["X-Forwarded-Host"] = request.host
        self.headers["X-Forwarded-For"] = request.remote or ""
        # As it came, still encoded: a decoded `#` or `&` would change its meaning.
        query = request.rel_url.raw_query_string
        self.target = f"/{path}" + f"?{query}" * bool(query)
        self.abandoned = False
        self.replica: Replica | None = None


class Result(NamedTuple):
    status: int
    headers: CIMultiDict[str]
    body: bytes


class Proxy:
    def __init__(self, session: aiohttp.ClientSession, metrics: GatewayMetrics) -> None:
        self._session = session
        self._metrics = metrics
        self._tasks: set[asyncio.Task[Any]] = set()

    async def serve(self, function: Function, call: Call) -> web.Response:
        """Answer a caller that waits. When it goes, the replica is told, and the slot stays taken until it is done."""
        work = self._keep(self.perform(function, call))
        try:
            result: Result = await asyncio.shield(work)
        except asyncio.CancelledError:
            call.abandoned = True
            if call.replica is None:
                work.cancel()  # it still waits for a replica, or is about to get one
            else:
                self._keep(self._cancel(call))
            raise
        return web.Response(status=result.status, body=result.body, headers=result.headers)

    async def perform(self, function: Function, call: Call) -> Result:
        name = full_name(function)
        self._metrics.invocation_started(name)
        began_s = time.monotonic()
        try:
            call.replica = await function.acquire(call.headers.get(REQUEST_ID, call.id))
        except Refused as refusal:
            result = _said(refusal.status, refusal.text)
            if refusal.status == 429:
                result.headers["Retry-After"] = "1"
        else:
            try:
                result = await self._forward(function, call.replica, call)
            finally:
                function.release(call.replica)
                call.replica = None
        result.headers[CALL_ID] = call.id
        self._metrics.invocation_finished(name, result.status, time.monotonic() - began_s)
        return result

    async def _forward(self, function: Function, replica: Replica, call: Call) -> Result:
        start_time = str(utc_ns())
        headers = call.headers.copy()
        headers["X-Start-Time"] = start_time
        target = URL(f"http://127.0.0.1:{replica.port}{call.target}", encoded=True)
        timeout = aiohttp.ClientTimeout(total=function.policy.exec_timeout_s + _HOST_MARGIN_S)
        try:
            async with self._session.request(
                call.method, target, data=call.body or None, headers=headers, timeout=timeout, allow_redirects=False
            ) as reply:
                content = await reply.read()
                if ENDING in reply.headers:
                    function.let_end(replica, "exec_timeout passed")
                returned = CIMultiDict((k, v) for k, v in reply.headers.items() if k.lower() not in _NOT_RETURNED)
                returned["X-Start-Time"] = start_time
                returned["X-Served-By"] = "fave-gateway"
                return Result(reply.status, returned, content)
        except TimeoutError:
            # It would be busy for ever: end it, so that its slot and its memory come back.
            function.retire(replica, "did not answer within exec_timeout")
            return _said(502, "")
        except aiohttp.ClientError:
            return _said(500, f"Can't reach service for: {function.name}.")

    async def _cancel(self, call: Call) -> None:
        """Tell the replica, until it knows of the call or the call is over; a foreign function simply goes on."""
        for _ in range(_CANCEL_TRIES):
            replica = call.replica
            if replica is None or not replica.is_fave_host:
                return
            target = URL(f"http://127.0.0.1:{replica.port}/_/cancel/{call.id}", encoded=True)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.post(target, timeout=aiohttp.ClientTimeout(total=5)) as reply:
                    if reply.status == 202:
                        return
            await asyncio.sleep(0.1)

    def _keep(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _said(status: int, text: str) -> Result:
    return Result(status, CIMultiDict({"Content-Type": "text/plain; charset=utf-8"}), text.encode())
