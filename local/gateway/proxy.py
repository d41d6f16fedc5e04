"""One invocation: wait for a replica, forward, answer as OpenFaaS' gateway would."""

from __future__ import annotations

import time
import uuid

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from fave.clock import utc_ns
from fave.invocation import ENDING, REQUEST_ID
from local.gateway.function import Function, Refused
from local.gateway.metrics import GatewayMetrics, full_name
from local.gateway.replica import Replica

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
_HOST_MARGIN_S = 2.0


async def invoke(
    function: Function, request: web.Request, path: str, session: aiohttp.ClientSession, metrics: GatewayMetrics
) -> web.Response:
    name = full_name(function)
    metrics.invocation_started(name)
    began_s = time.monotonic()
    call_id = request.headers.get("X-Call-Id") or str(uuid.uuid4())
    body = await request.read()
    try:
        replica = await function.acquire(request.headers.get(REQUEST_ID, call_id), lambda: request.transport is None)
    except Refused as refusal:
        response = web.Response(status=refusal.status, text=refusal.text)
        if refusal.status == 429:
            response.headers["Retry-After"] = "1"
    else:
        try:
            response = await _forward(function, replica, request, path, body, call_id, session)
        finally:
            function.release(replica)
    response.headers["X-Call-Id"] = call_id
    metrics.invocation_finished(name, response.status, time.monotonic() - began_s)
    return response


async def _forward(
    function: Function,
    replica: Replica,
    request: web.Request,
    path: str,
    body: bytes,
    call_id: str,
    session: aiohttp.ClientSession,
) -> web.Response:
    start_time = str(utc_ns())
    headers = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in _NOT_FORWARDED)
    headers["X-Call-Id"] = call_id
    headers["X-Start-Time"] = start_time
    headers["X-Forwarded-Host"] = request.host
    headers["X-Forwarded-For"] = request.remote or ""
    # As it came, still encoded: a decoded `#` or `&` would change its meaning.
    query = request.rel_url.raw_query_string
    target = URL(f"http://127.0.0.1:{replica.port}/{path}" + f"?{query}" * bool(query), encoded=True)
    timeout = aiohttp.ClientTimeout(total=function.policy.exec_timeout_s + _HOST_MARGIN_S)
    try:
        async with session.request(
            request.method, target, data=body or None, headers=headers, timeout=timeout, allow_redirects=False
        ) as reply:
            content = await reply.read()
            if ENDING in reply.headers:
                function.let_end(replica, "exec_timeout passed")
            returned = CIMultiDict((k, v) for k, v in reply.headers.items() if k.lower() not in _NOT_RETURNED)
            returned["X-Start-Time"] = start_time
            returned["X-Served-By"] = "fave-gateway"
            return web.Response(status=reply.status, body=content, headers=returned)
    except TimeoutError:
        # It would be busy for ever: end it, so that its slot and its memory come back.
        function.retire(replica, "did not answer within exec_timeout")
        return web.Response(status=502)
    except aiohttp.ClientError:
        return web.Response(status=500, text=f"Can't reach service for: {function.name}.")
