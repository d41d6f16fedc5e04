"""Connections to replicas: one exchange at a time, kept for the next one."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import httptools

from local.gateway.messages import LAST_CHUNK, Body, BrokenOff, Headers, Writing, chunk, is_chunked, length_of

# A connection that was idle so long may be closed by its server just as it is used (gunicorn does so after 2 s).
_MOST_IDLE_S = 1.0
# Below, two writes cost more than a copy.
_COPIED_BYTES = 64 * 1024


class Reply:
    """A replica's answer. length: of its body in bytes; None where only its end tells."""

    def __init__(self, status: int, reason: bytes, headers: Headers, body: Body) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body
        self.length = length_of(headers)


class Outbound(Writing):
    """To one replica. `send`, then `reply`, then take the reply's body; `reusable` tells whether another may follow."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._parser: httptools.HttpResponseParser | None = None
        self._expected: asyncio.Future[Reply] | None = None
        self._reply: Reply | None = None
        self._method = ""
        self._until_closed = False
        self._keeps_alive = False
        self._sending: asyncio.Task[None] | None = None
        self._idle_since_s = 0.0
        self._reason = b""
        self._headers: Headers = []

    @classmethod
    async def to(cls, port: int) -> Outbound:
        """Raises OSError; ConnectionRefusedError where nobody listens."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    # For who asks.

    def send(self, head: bytes, method: str, body: Body | bytes = b"", *, chunked: bool = False) -> None:
        """Begin an exchange. What of the body is still to come follows as it comes."""
        self._parser = httptools.HttpResponseParser(self)
        self._expected = asyncio.get_running_loop().create_future()
        self._reply, self._method, self._until_closed = None, method, False
        if isinstance(body, Body) and not body.complete:
            self._transport.write(head)
            self._sending = asyncio.get_running_loop().create_task(self._send_as_it_comes(body, chunked=chunked))
            return
        here = body if isinstance(body, bytes) else body.taken()
        if chunked:
            here = (chunk(here) if here else b"") + LAST_CHUNK
        if len(here) < _COPIED_BYTES:
            self._transport.write(head + here)
        else:
            self._transport.writelines((head, here))

    async def _send_as_it_comes(self, body: Body, *, chunked: bool) -> None:
        try:
            while piece := await body.piece():
                self._transport.write(chunk(piece) if chunked else piece)
                await self.drain()
        except BrokenOff:
            # The replica hears of it by the end of this connection.
            self._break_off("its caller broke off")
            self.close()
            return
        if chunked:
            self._transport.write(LAST_CHUNK)

    async def reply(self) -> Reply:
        """Once its head is here.

        Raises
        ------
        BrokenOff
        """
        assert self._expected is not None
        return await self._expected

    def finish(self) -> bool:
        """The exchange is over; whether this connection may serve the next."""
        sent = self._sending is None or self._sending.done()
        if self._sending is not None and not sent:
            self._sending.cancel()  # who has answered does not want the rest
        done = sent and self._reply is not None and self._reply.body.complete and not self._until_closed
        keeps = done and self._keeps_alive and not self._transport.is_closing()
        self._parser = self._expected = self._sending = None
        self._idle_since_s = time.monotonic()
        if not keeps:
            self.close()
        return keeps

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing() and time.monotonic() - self._idle_since_s < _MOST_IDLE_S

    def close(self) -> None:
        self._transport.close()

    # asyncio's.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.close()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break_off(f"it does not answer in HTTP: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and self._until_closed and exc is None:
            self._reply.body.end()
        self._break_off("the connection ended")
        self.resume_writing()

    def _break_off(self, why: str) -> None:
        if self._reply is not None:
            self._reply.body.break_off(BrokenOff(why))
        elif self._expected is not None and not self._expected.done():
            self._expected.set_exception(BrokenOff(why))

    # The parser's.

    def on_message_begin(self) -> None:
        self._headers, self._reason = [], b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200 or self._reply is not None or self._expected is None:
            return  # the answer itself follows; or there has been one
        self._keeps_alive = self._parser.should_keep_alive()
        self._reply = reply = Reply(status, self._reason, self._headers, Body(self._transport))
        if self._method == "HEAD" or status in (204, 304):
            reply.body.end()
        elif reply.length is None and not is_chunked(reply.headers):
            self._until_closed = True
        if not self._expected.done():
            self._expected.set_result(reply)

    def on_body(self, piece: bytes) -> None:
        if self._reply is not None and not self._reply.body.complete:
            self._reply.body.feed(piece)

    def on_message_complete(self) -> None:
        if self._reply is not None and not self._reply.body.complete:
            self._reply.body.end()


class Kept:
    """Idle connections to one replica."""

    def __init__(self) -> None:
        self._idle: list[Outbound] = []

    def take(self) -> Outbound | None:
        """The one that was used last, of those that can be."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return None

    def put(self, connection: Outbound) -> None:
        self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


async def ask(port: int, method: str, path: str) -> Reply | None:
    """The head of a replica's answer, by a connection of its own; None where there is none."""
    try:
        connection = await Outbound.to(port)
    except OSError:
        return None
    try:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        connection.send(head.encode(), method)
        return await connection.reply()
    except BrokenOff:
        return None
    finally:
        connection.finish()
