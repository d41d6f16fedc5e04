"""`/async-function`: invocations that nobody waits for, done in turn, their results posted to a callback address."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
import traceback
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from local.gateway.function import Function
from local.gateway.proxy import CALL_ID, Call, Proxy, Result

CALLBACK_URL = "X-Callback-Url"
MAX_QUEUED = 1000
_WORKERS = 32
_CALLBACK_TRIES = 3
_CALLBACK_TIMEOUT_S = 10.0


class _Order(NamedTuple):
    function: Function
    call: Call
    callback_url: str


class AsyncQueue:
    """In memory: what is queued when the platform stops is lost, as with OpenFaaS' queue without persistence."""

    def __init__(self, proxy: Proxy, session: aiohttp.ClientSession) -> None:
        self._proxy = proxy
        self._session = session
        self._orders: asyncio.Queue[_Order] = asyncio.Queue(MAX_QUEUED)
        self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]

    def put(self, function: Function, call: Call) -> bool:
        """False when the queue is full."""
        # The callback is the queue's business, not the function's.
        callback_url = call.headers.pop(CALLBACK_URL, "")
        try:
            self._orders.put_nowait(_Order(function, call, callback_url))
        except asyncio.QueueFull:
            return False
        return True

    async def close(self) -> None:
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            order = await self._orders.get()
            began_s = time.monotonic()
            try:
                result = await self._proxy.perform(order.function, order.call)
                if order.callback_url:
                    await self._call_back(order, result, time.monotonic() - began_s)
            except Exception:  # noqa: BLE001 - one order that cannot be done must not cost the queue a worker
                traceback.print_exc()

    async def _call_back(self, order: _Order, result: Result, took_s: float) -> None:
        """A receiver whose answer is lost hears it again, with the same call id; in the end it is given up."""
        headers = result.headers.copy()
        headers[CALL_ID] = order.call.id
        headers["X-Function-Name"] = order.function.name
        headers["X-Function-Status"] = str(result.status)
        headers.setdefault("X-Duration-Seconds", f"{took_s:.6f}")
        timeout = aiohttp.ClientTimeout(total=_CALLBACK_TIMEOUT_S)
        for attempt in range(_CALLBACK_TRIES):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with self._session.post(
                    order.callback_url, data=result.body, headers=headers, timeout=timeout
                ) as reply:
                    if reply.status < 500:
                        return
            await asyncio.sleep(0.5 * 2**attempt)
        sys.stderr.write(f"callback {order.call.id} of {order.function.name} was not taken\n")


def is_callback(url: str) -> bool:
    parts = urlsplit(url)
    return not url or (parts.scheme in ("http", "https") and bool(parts.hostname))
