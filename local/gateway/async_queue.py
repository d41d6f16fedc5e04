"""`/async-function`: invocations that nobody waits for, done in turn, their results posted to a callback address."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDict

from fave.wire.invocation import DURATION
from local.gateway.function import Function
from local.gateway.journal import Journal, QueuedCall
from local.gateway.messages import Headers
from local.gateway.proxy import CALL_ID, Call, Proxy

CALLBACK_URL = "X-Callback-Url"
MAX_QUEUED = 1000
_WORKERS = 32
_CALLBACK_TRIES = 3
_CALLBACK_TIMEOUT_S = 10.0


class _Result:
    """A reply that is kept."""

    def __init__(self) -> None:
        self.begun = False
        self.status = 0
        self.headers: Headers = []
        self.body = bytearray()

    def begin(self, status: int, headers: Headers, length: int | None, reason: bytes = b"") -> None:
        self.begun, self.status, self.headers = True, status, headers

    async def write(self, piece: bytes) -> None:
        self.body += piece

    def end(self, last: bytes = b"") -> None:
        self.body += last


class AsyncQueue:
    """At least once: a call that was accepted is done after a gateway that was killed, or a second time.

    What is queued when the platform is stopped is lost, as with OpenFaaS' queue without persistence.
    """

    def __init__(
        self,
        proxy: Proxy,
        session: aiohttp.ClientSession,
        journal: Journal,
        find: Callable[[str], Function | None],
    ) -> None:
        self._proxy = proxy
        self._session = session
        self._journal = journal
        self._find = find
        self._orders: asyncio.Queue[tuple[Path, QueuedCall]] = asyncio.Queue(MAX_QUEUED)
        for order in journal.queued():
            self._orders.put_nowait(order)
        self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]

    def put(self, function: Function, call: Call, body: bytes, callback_url: str) -> bool:
        """False when the queue is full."""
        if self._orders.full():
            return False
        # The callback is the queue's business, not the function's.
        headers = [(name, value) for name, value in call.headers if name.lower() != CALLBACK_URL.lower().encode()]
        queued = QueuedCall(
            function=function.name,
            callback_url=callback_url,
            id=call.id,
            request_id=call.request_id,
            method=call.method,
            target=call.target,
            headers=headers,
            body=body,
        )
        self._orders.put_nowait((self._journal.keep(queued), queued))
        return True

    async def close(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            path, order = await self._orders.get()
            try:
                await self._do(order)
            except Exception:  # noqa: BLE001 - one order that cannot be done must not cost the queue a worker
                traceback.print_exc()
            path.unlink(missing_ok=True)

    async def _do(self, order: QueuedCall) -> None:
        began_s = time.monotonic()
        result, function = _Result(), self._find(order.function)
        if function is None:
            result.begin(404, [], 0)
        else:
            call = Call(order.method, order.target, order.headers, order.body, id=order.id, request_id=order.request_id)
            await self._proxy.perform(function, call, result)
        if order.callback_url:
            await self._call_back(order, result, time.monotonic() - began_s)

    async def _call_back(self, order: QueuedCall, result: _Result, took_s: float) -> None:
        """A receiver whose answer is lost hears it again, with the same call id; in the end it is given up."""
        headers = CIMultiDict((n.decode("latin-1"), v.decode("latin-1")) for n, v in result.headers)
        headers[CALL_ID] = order.id
        headers["X-Function-Name"] = order.function
        headers["X-Function-Status"] = str(result.status)
        headers.setdefault(DURATION, f"{took_s:.6f}")
        timeout = aiohttp.ClientTimeout(total=_CALLBACK_TIMEOUT_S)
        for attempt in range(_CALLBACK_TRIES):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.post(
                    order.callback_url, data=bytes(result.body), headers=headers, timeout=timeout
                ) as reply:
                    if reply.status < 500:
                        return
            await asyncio.sleep(0.5 * 2**attempt)
        sys.stderr.write(f"callback {order.id} of {order.function} was not taken\n")


def is_callback(url: str) -> bool:
    parts = urlsplit(url)
    return not url or (parts.scheme in ("http", "https") and bool(parts.hostname))
