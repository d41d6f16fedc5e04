"""One invocation: wait for a replica, forward, answer as OpenFaaS' gateway would."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any

from fave.clock import utc_ns
from fave.wire.invocation import ENDING, REPLICA_ID, REPLY_FIELDS, REQUEST_ID, ROUTABLE_AT
from local.gateway.function import Function, Refused
from local.gateway.inbound import Answer, Asked
from local.gateway.messages import Body, BrokenOff, Headers, head_bytes, header, is_chunked, length_of, passed_on
from local.gateway.metrics import GatewayMetrics, full_name
from local.gateway.outbound import Outbound, Reply, ask
from local.gateway.replica import Replica

CALL_ID = "X-Call-Id"
_CALL_ID, _START_TIME, _ROUTABLE_AT = CALL_ID.encode(), b"X-Start-Time", ROUTABLE_AT.encode()
_REPLICA_ID = REPLICA_ID.encode()
_FORWARDED_FOR, _FORWARDED_HOST = b"X-Forwarded-For", b"X-Forwarded-Host"
_OURS = frozenset(name.lower() for name in (_CALL_ID, _START_TIME, _ROUTABLE_AT, b"X-Served-By"))
_NOT_FORWARDED = frozenset((b"host", b"content-length", b"expect", _FORWARDED_FOR.lower())) | _OURS
_NOT_RETURNED = _OURS | {b"content-length"}
_STAMPED = ("process_started_at_ns", "ready_at_ns", "invocations_before", "received_at_ns", "started_at_ns")
_STAMPS = tuple(name.encode() for field in _STAMPED for name, known in REPLY_FIELDS.items() if known == field)
_FINISHED = next(name.encode() for name, known in REPLY_FIELDS.items() if known == "finished_at_ns")
_STAMPED_HERE = frozenset(name.lower() for name in (*_STAMPS, _FINISHED, REPLICA_ID.encode()))
# The function host enforces exec_timeout itself and says 504; beyond this margin the gateway gives up on the replica.
_HOST_MARGIN_S = 3.0
# A head is held so long for the rest of a short reply: with both, when it was finished can be said in the head.
_TOGETHER_S = 0.002
_CANCEL_TRIES, _CANCEL_TIMEOUT_S, _CANCEL_INTERVAL_S = 50, 5, 0.1
# So many in a row may turn out to be gone before a call is given up.
_MOST_REPLICAS = 3
# As web servers log it.
_CALLER_LEFT = 499


class Call:
    """What a caller asks of a function, apart from its connection: it may be done later.

    target: path and query behind the function's name, still encoded: decoded, a `#` or `&` would change its meaning.
    """

    def __init__(
        self, method: str, target: bytes, headers: Headers, body: Body | bytes, *, id: str, request_id: str
    ) -> None:
        self.id = id
        self.request_id = request_id
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.chunked = False
        self.length = len(body) if isinstance(body, bytes) else None
        self.replica: Replica | None = None
        self.abandoned = False

    @classmethod
    def of(cls, asked: Asked, target: bytes) -> Call:
        """As a function gets it."""
        call_id = header(asked.headers, _CALL_ID.lower()) or str(uuid.uuid4()).encode()
        headers = passed_on(asked.headers, _NOT_FORWARDED)
        headers.append((_CALL_ID, call_id))
        host = header(asked.headers, b"host")
        if host and header(asked.headers, _FORWARDED_HOST.lower()) is None:
            headers.append((_FORWARDED_HOST, host))
        before = [value for name, value in asked.headers if name.lower() == _FORWARDED_FOR.lower()]
        headers.append((_FORWARDED_FOR, b", ".join((*before, asked.peer.encode()))))
        request_id = header(asked.headers, REQUEST_ID.lower().encode()) or call_id
        call = cls(
            asked.method,
            target,
            headers,
            asked.body,
            id=call_id.decode("latin-1"),
            request_id=request_id.decode("latin-1"),
        )
        call.chunked = is_chunked(asked.headers)
        call.length = length_of(asked.headers)
        return call

    @property
    def body_is_here(self) -> bool:
        return isinstance(self.body, bytes) or self.body.complete


class Proxy:
    """chunked_bodies: requests' bodies reach functions chunked, as they do behind OpenFaaS' gateway."""

    def __init__(self, metrics: GatewayMetrics, *, chunked_bodies: bool = False) -> None:
        self._metrics = metrics
        self._chunked_bodies = chunked_bodies
        self._tasks: set[asyncio.Task[Any]] = set()

    def left(self, call: Call, work: asyncio.Task[None]) -> None:
        """Its caller has gone. FAVE's host is told, and the slot stays taken until it is done.

        Any other program's connection is closed, and its slot free at once: what it still does nobody can know.
        """
        call.abandoned = True
        if call.replica is not None and call.replica.is_fave_host and call.body_is_here:
            self._keep(self._cancel(call, call.replica))
        else:
            work.cancel()

    async def perform(self, function: Function, call: Call, to: Answer) -> None:
        name = full_name(function)
        self._metrics.invocation_started(name)
        began_s = time.monotonic()
        status = _CALLER_LEFT
        try:
            status = await self._result(function, call, to)
        finally:
            self._metrics.invocation_finished(name, status, time.monotonic() - began_s)

    async def _result(self, function: Function, call: Call, to: Answer) -> int:
        """The status that was answered. What one replica could not be sent goes to the next."""
        unsent = False
        for _ in range(_MOST_REPLICAS):
            try:
                call.replica = replica = await function.acquire(call.request_id, first=unsent)
            except Refused as refusal:
                return say(to, refusal.status, refusal.text, call.id)
            try:
                status = await self._exchange(function, replica, call, to)
            finally:
                function.release(replica)
                call.replica = None
            if status is not None:
                return status
            if call.abandoned:
                return _CALLER_LEFT
            unsent = True
        return self._unreachable(function, call, to)

    async def _exchange(self, function: Function, replica: Replica, call: Call, to: Answer) -> int | None:
        """The status of the answer; None when the replica took no connection, and nothing was sent."""
        start_ns, before = utc_ns(), replica.forwarded
        replica.forwarded += 1
        limit_s = function.policy.exec_timeout_s
        connection: Outbound | None = None
        try:
            async with asyncio.timeout(limit_s + _HOST_MARGIN_S if limit_s else None):
                connection = replica.kept.take() or await Outbound.to(replica.port)
                reply = await self._ask(connection, replica, call, start_ns)
                if replica.is_fave_host and header(reply.headers, ENDING.lower().encode()) is not None:
                    function.let_end(replica, "exec_timeout passed")
                if not replica.is_fave_host:
                    await reply.body.complete_within(_TOGETHER_S)
                to.begin(reply.status, _returned(reply, replica, call, start_ns, before), reply.length, reply.reason)
                await _pass_on(reply.body, to)
                return reply.status
        except TimeoutError:
            # It would be busy for ever: end it, so that its slot and its memory come back.
            function.retire(replica, "did not answer within exec_timeout")
            return 502 if to.begun else say(to, 502, "", call.id)
        except ConnectionRefusedError:
            # Before it is released: whoever waits next must not be handed to it either.
            function.give_up(replica)
            return None
        except BrokenOff:
            if isinstance(call.body, Body) and call.body.broken:
                return 408 if to.begun else say(to, 408, str(call.body.broken), call.id)
            function.doubt(replica)
            return self._unreachable(function, call, to)
        except OSError:
            # What this process lacks (files, ports) is no fault of the replica's.
            return self._unreachable(function, call, to)
        finally:
            if connection is not None and connection.finish():
                replica.kept.put(connection)

    async def _ask(self, connection: Outbound, replica: Replica, call: Call, start_ns: int) -> Reply:
        chunked = call.chunked or (self._chunked_bodies and bool(call.length))
        length = [] if call.length is None else [(b"Content-Length", b"%d" % call.length)]
        head = head_bytes(
            b"%s %s HTTP/1.1" % (call.method.encode(), call.target),
            [
                (b"Host", b"127.0.0.1:%d" % replica.port),
                *call.headers,
                (_START_TIME, b"%d" % start_ns),
                (_ROUTABLE_AT, b"%d" % replica.routable_at_ns),
                *([(b"Transfer-Encoding", b"chunked")] if chunked else length),
            ],
        )
        connection.send(head, call.method, call.body, chunked=chunked)
        return await connection.reply()

    def _unreachable(self, function: Function, call: Call, to: Answer) -> int:
        return 500 if to.begun else say(to, 500, f"Can't reach service for: {function.name}.", call.id)

    async def _cancel(self, call: Call, replica: Replica) -> None:
        """Tell the replica, until it knows of the call or the call is over."""
        for _ in range(_CANCEL_TRIES):
            if call.replica is not replica:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                    reply = await ask(replica.port, "POST", f"/_/cancel/{call.id}")
                if reply is not None and reply.status == 202:
                    return
            await asyncio.sleep(_CANCEL_INTERVAL_S)

    def _keep(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _pass_on(body: Body, to: Answer) -> None:
    """In one piece where it is all here; else each as it comes, the head with the first."""
    if not body.complete:
        await to.write(body.taken())
        while piece := await body.piece():
            await to.write(piece)
    to.end(body.taken())


def _returned(reply: Reply, replica: Replica, call: Call, start_ns: int, before: int) -> Headers:
    """A reply's headers, stamped where nobody behind the gateway does it; when it finished, if it has."""
    if replica.is_fave_host:
        headers = passed_on(reply.headers, _NOT_RETURNED)
    else:
        headers = passed_on(reply.headers, _NOT_RETURNED | _STAMPED_HERE)
        stamps = (replica.process_started_at_ns, replica.routable_at_ns, before, start_ns, start_ns)
        headers.append((_REPLICA_ID, replica.id.encode()))
        headers += [(name, b"%d" % value) for name, value in zip(_STAMPS, stamps, strict=True)]
        if reply.body.complete:
            headers.append((_FINISHED, b"%d" % utc_ns()))
    headers += [
        (_CALL_ID, call.id.encode("latin-1")),
        (_START_TIME, b"%d" % start_ns),
        (_ROUTABLE_AT, b"%d" % replica.routable_at_ns),
        (b"X-Served-By", b"fave-gateway"),
    ]
    return headers


def say(to: Answer, status: int, text: str, call_id: str = "") -> int:
    """A refusal of the gateway's own; the status."""
    headers = [(b"Content-Type", b"text/plain; charset=utf-8")]
    if call_id:
        headers.append((_CALL_ID, call_id.encode("latin-1")))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers.append((b"Retry-After", b"1"))
    content = text.encode()
    to.begin(status, headers, len(content))
    to.end(content)
    return status
