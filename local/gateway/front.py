"""The addresses of invocations: `/function/NAME[/path]` and `/async-function/NAME[/path]`."""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from local.gateway.async_queue import CALLBACK_URL, MAX_QUEUED, AsyncQueue, is_callback
from local.gateway.function import Function
from local.gateway.inbound import Asked, ToCaller
from local.gateway.messages import TooLong, header
from local.gateway.proxy import CALL_ID, Call, Proxy, say

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_ASYNC = b"async-function"
# As proxies send it: with the host before the path.
_ORIGIN = re.compile(rb"^https?://[^/?]*")
# What is done later is kept until then.
MOST_ASYNC_BYTES = 64 * 2**20


class Place(NamedTuple):
    """Where a request goes: synchronous or not, to which function, and with which path and query, still encoded."""

    asynchronous: bool
    function: str
    target: bytes


class Front:
    """Finds the function and the way to it. What `find` does not know is not found."""

    def __init__(self, find: Callable[[str], Function | None], proxy: Proxy, queue: AsyncQueue) -> None:
        self._find = find
        self._proxy = proxy
        self._queue = queue
        self._calls: dict[Asked, Call] = {}

    async def answer(self, asked: Asked, to: ToCaller) -> None:
        target = _ORIGIN.sub(b"", asked.target)
        if (cleaned := elsewhere(target)) is not None:
            to.begin(301, [(b"Location", cleaned)], 0)
            to.end()
            return
        place = place_of(target)
        if place is None:
            say(to, 404, "404 page not found")
        elif asked.method not in (("POST",) if place.asynchronous else _METHODS):
            say(to, 405, f"{asked.method} is no method of an invocation")
        elif asked.upgrades:
            say(to, 501, "connections are not upgraded here: a function is called by requests and replies")
        elif (function := self._find(place.function)) is None:
            say(to, 404, f"error finding function {place.function}")
        else:
            call = Call.of(asked, place.target)
            if header(asked.headers, b"expect") is not None:
                to.go_on()
            if place.asynchronous:
                await self._queued(function, call, asked, to)
                return
            self._calls[asked] = call
            try:
                await self._proxy.perform(function, call, to)
            finally:
                del self._calls[asked]

    def left(self, asked: Asked, work: asyncio.Task[None]) -> None:
        call = self._calls.get(asked)
        if call is None:
            work.cancel()
        else:
            self._proxy.left(call, work)

    async def _queued(self, function: Function, call: Call, asked: Asked, to: ToCaller) -> None:
        url = (header(asked.headers, CALLBACK_URL.lower().encode()) or b"").decode("latin-1")
        if not is_callback(url):
            say(to, 400, f"{CALLBACK_URL} {url!r} is no http address")
            return
        try:
            body = await asked.body.whole(MOST_ASYNC_BYTES)
        except TooLong:
            say(to, 413, f"over {MOST_ASYNC_BYTES // 2**20} MB are not kept for later")
            return
        if self._queue.put(function, call, body, url):
            to.begin(202, [(CALL_ID.encode(), call.id.encode("latin-1"))], 0)
            to.end()
        else:
            say(to, 429, f"{MAX_QUEUED} invocations are queued")


def place_of(target: bytes) -> Place | None:
    path, _, query = target.partition(b"?")
    kind, _, rest = path.removeprefix(b"/").partition(b"/")
    name, _, below = rest.partition(b"/")
    if kind not in (b"function", _ASYNC) or not name:
        return None
    return Place(
        kind != b"function",
        unquote_to_bytes(name).decode("utf-8", "replace"),
        b"/" + below + (b"?" + query if query else b""),
    )


def elsewhere(target: bytes) -> bytes | None:
    """Where a path that is not in its shortest form leads to, as Go's servers have it; None for one that is."""
    raw, _, query = target.partition(b"?")
    if b"//" not in raw and b"/." not in unquote_to_bytes(raw):
        return None
    path = unquote_to_bytes(raw).decode("utf-8", "replace")
    shortest = posixpath.normpath("/" + path.lstrip("/"))
    if path.endswith("/") and shortest != "/":
        shortest += "/"
    if shortest == path:
        return None
    return quote(shortest).encode() + (b"?" + query if query else b"")
