"""Connections of callers: requests are parsed, answered in their order, and bodies stream both ways.

Invocations only. A connection that asks for anything else is handed to the server of the administration's addresses,
which closes it after its answer.
"""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from local.gateway.messages import (
    LAST_CHUNK,
    Body,
    BrokenOff,
    Headers,
    Writing,
    chunk,
    date_at,
    head_bytes,
    header,
    is_chunked,
    status_line,
)

# Go's servers take a megabyte; nothing that is meant needs as much.
MOST_HEAD_BYTES = 128 * 1024
# How long a head may take, and how long a body may be silent.
READ_TIMEOUT_S = 60.0
# A caller's idle connection. Longer than any pause of a load, so that none is closed as it is used.
IDLE_TIMEOUT_S = 3600.0
SWEEP_INTERVAL_S = 1.0
# How long a refused caller has to read why.
_LINGER_S = 2.0

_ADMINISTRATION = re.compile(rb"\s*[A-Z]+ /(?:system/|healthz)")
_FIRST_LINE_ENOUGH = re.compile(rb"\s*[A-Z]+ \S{8}|\s*[A-Z]+ \S* ")
# Of requests that come before the one before them is answered.
_MOST_WAITING = 16
# So many bytes without a sign of a request's first line are none.
_MOST_UNDECIDED = 64


class Asked:
    """A request as it came. What answers it may note here who works on it."""

    def __init__(self, method: str, target: bytes, headers: Headers, version: str, body: Body, peer: str) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.version = version
        self.body = body
        self.peer = peer
        self.keeps_alive = True
        self.upgrades = False


class Answer(Protocol):
    """Where a reply goes."""

    begun: bool

    def begin(self, status: int, headers: Headers, length: int | None, reason: bytes = b"") -> None: ...
    async def write(self, piece: bytes) -> None: ...
    def end(self, last: bytes = b"") -> None: ...


class Serves(Protocol):
    async def answer(self, asked: Asked, to: ToCaller) -> None: ...
    def left(self, asked: Asked, work: asyncio.Task[None]) -> None:
        """The caller has gone while `work` was on its answer."""


class Inbound(Writing):
    """One connection. Owned by the set it is in, which is swept for those that wait too long."""

    def __init__(
        self, serves: Serves, administration: Callable[[], asyncio.Protocol], connections: set[Inbound]
    ) -> None:
        self._serves = serves
        self._administration = administration
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Asked] = deque()
        self._asked: Asked | None = None
        self.work: asyncio.Task[None] | None = None
        # Of the message that is being read; None in between.
        self._head_bytes: int | None = None
        self._body: Body | None = None
        self._undecided = b""
        self._deaf = False
        self.last = False
        self._heard_s = self._begun_s = time.monotonic()
        self.gone = False

    # asyncio's.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self.gone = True
        self.resume_writing()
        for body in (self._body, *(asked.body for asked in self._waiting)):
            if body is not None:
                body.break_off(BrokenOff("the caller has gone"))
        self._waiting.clear()
        if self.work is not None and self._asked is not None:
            self._serves.left(self._asked, self.work)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._heard_s = time.monotonic()
        if self._head_bytes is None and self._body is None and self.work is None:
            if not self._undecided:
                self._begun_s = self._heard_s
            data = self._undecided + data
            if _ADMINISTRATION.match(data):
                self._hand_over(data)
                return
            if not _FIRST_LINE_ENOUGH.match(data) and len(data) < _MOST_UNDECIDED:
                self._undecided = data
                return
            self._undecided = b""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # refused, as it says; nothing that follows is HTTP
        except httptools.HttpParserError as error:
            self._refuse(400, f"bad request: {error.__context__ or error}")
            return
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(431, f"headers and address take over {MOST_HEAD_BYTES // 1024} KB")

    # The parser's.

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._begun_s = self._heard_s
        self._target = b""
        self._headers: Headers = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_bytes = None
        self._body = Body(self.transport)
        parser = self._parser
        asked = Asked(
            parser.get_method().decode(),
            self._target,
            self._headers,
            parser.get_http_version(),
            self._body,
            self._peer,
        )
        if header(asked.headers, b"transfer-encoding") is not None and not is_chunked(asked.headers):
            raise ValueError("Transfer-Encoding is not chunked")
        asked.upgrades = parser.should_upgrade()
        # What would follow an upgrade is not HTTP.
        asked.keeps_alive = parser.should_keep_alive() and not asked.upgrades
        self._waiting.append(asked)
        if len(self._waiting) > _MOST_WAITING:
            self.transport.pause_reading()
        self._next()

    def on_body(self, piece: bytes) -> None:
        if self._body is not None:
            self._body.feed(piece)

    def on_message_complete(self) -> None:
        if self._body is not None:
            self._body.end()
            self._body = None

    # Answers, one after another.

    def _next(self) -> None:
        if self.work is None and self._waiting and not self.last:
            self._asked = asked = self._waiting.popleft()
            if len(self._waiting) == _MOST_WAITING:
                self.transport.resume_reading()
            self.work = asyncio.get_running_loop().create_task(self._answer(asked))

    async def _answer(self, asked: Asked) -> None:
        to = ToCaller(self, asked)
        try:
            await self._serves.answer(asked, to)
        except BrokenOff:
            self.last = True
        except Exception:  # noqa: BLE001 - the boundary: a mistake of ours must not leave a caller waiting
            traceback.print_exc()
            if to.begun:
                self.last = True
            else:
                to.begin(500, [], 0)
                to.end()
        finally:
            self.work = self._asked = None
            asked.body.discard()
            # An answer that stops half way is only known from a connection that is closed.
            if self.last or not to.ended or not asked.keeps_alive:
                self.last = True
                self.transport.close()
            else:
                self._next()

    def _refuse(self, status: int, why: str) -> None:
        """What cannot be read cannot be answered in its turn, nor can anything after it."""
        # Not closed yet: what is still on its way here would undo the answer before it is read.
        self.last = self._deaf = True
        if self.work is None and not self.transport.is_closing():
            text = why.encode()
            headers = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"%d" % len(text))]
            self.transport.write(head_bytes(status_line(status), [*headers, (b"Connection", b"close")]) + text)
            self.transport.write_eof()
        elif self._body is not None:
            self._body.break_off(BrokenOff(why))
            self._body = None

    def _hand_over(self, data: bytes) -> None:
        self._connections.discard(self)
        other = self._administration()
        self.transport.set_protocol(other)
        other.connection_made(self.transport)
        other.data_received(data)

    def sweep(self, now_s: float) -> None:
        """Close what waits too long for its caller."""
        silent_s = now_s - self._heard_s
        if self._deaf:
            if silent_s > _LINGER_S:
                self.transport.close()
        elif self._head_bytes is not None or self._undecided:
            if now_s - self._begun_s > READ_TIMEOUT_S:
                self._refuse(408, "the request's head did not come in time")
        elif self._body is not None:
            if silent_s > READ_TIMEOUT_S and not self._body.paused:
                self._body.break_off(BrokenOff("the request's body did not come in time"))
                self.last = True
        elif self.work is None and silent_s > IDLE_TIMEOUT_S:
            self.transport.close()


class ToCaller:
    """A reply on a caller's connection."""

    def __init__(self, connection: Inbound, asked: Asked) -> None:
        self.begun = False
        self.ended = False
        self._connection = connection
        self._asked = asked
        self._head = b""
        self._chunked = False
        self._bodiless = asked.method == "HEAD"

    def begin(self, status: int, headers: Headers, length: int | None, reason: bytes = b"") -> None:
        """length: of the body, in bytes; None where only its end will tell."""
        self.begun = True
        self._bodiless = self._bodiless or status in (204, 304)
        listed = list(headers)
        if header(listed, b"date") is None:
            listed.append((b"Date", date_at(int(time.time()))))
        if length is not None:
            listed.append((b"Content-Length", b"%d" % length))
        elif not self._bodiless:
            self._chunked = self._asked.version == "1.1"
            if self._chunked:
                listed.append((b"Transfer-Encoding", b"chunked"))
            else:
                self._asked.keeps_alive = False
        if not self._asked.keeps_alive:
            listed.append((b"Connection", b"close"))
        elif self._asked.version == "1.0":
            listed.append((b"Connection", b"keep-alive"))
        self._head = head_bytes(status_line(status, reason), listed)

    def go_on(self) -> None:
        """To a caller that asked whether its body is wanted before it sends it."""
        self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def write(self, piece: bytes) -> None:
        """An empty piece sends the head alone."""
        framed = b"" if self._bodiless or not piece else chunk(piece) if self._chunked else piece
        self._send(self._head + framed if self._head else framed)
        self._head = b""
        await self._connection.drain()

    def end(self, last: bytes = b"") -> None:
        framed = b"" if self._bodiless or not last else chunk(last) if self._chunked else last
        self._send(self._head + framed + (LAST_CHUNK if self._chunked and not self._bodiless else b""))
        self._head = b""
        self.ended = True

    def _send(self, data: bytes) -> None:
        if data and not self._connection.gone:
            self._connection.transport.write(data)


def sweep(connections: set[Inbound]) -> None:
    now_s = time.monotonic()
    for connection in list(connections):
        connection.sweep(now_s)


async def hang_up(connections: set[Inbound], within_s: float) -> None:
    """Close them all, after what they are at, for so long at most."""
    for connection in connections:
        connection.last = True
    works = [each.work for each in connections if each.work is not None]
    if works:
        await asyncio.wait(works, timeout=within_s)
    for connection in list(connections):
        connection.transport.close()
