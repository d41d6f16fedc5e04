"""HTTP messages on their way: bodies that are taken while they come, and which headers go on.

Names and values of headers are bytes as they came; nothing on the way has an opinion on them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

Headers = list[tuple[bytes, bytes]]

# So much of a body may lie here before its connection reads no more.
_MOST_HELD_BYTES = 256 * 1024
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


class BrokenOff(Exception):  # noqa: N818 - what happened to a message, not a mistake
    """The rest of a message will not come."""


class TooLong(Exception):  # noqa: N818 - an answer, not a mistake
    """A body is longer than may be kept."""


class Body:
    """What comes of a message's body. One connection feeds it, one task takes it, in pieces or whole.

    Over a limit the connection is told to read no more until something is taken.
    """

    def __init__(self, source: asyncio.Transport) -> None:
        self.complete = False
        self.broken: BrokenOff | None = None
        self._source = source
        self.paused = False
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._unwanted = False
        self._waiter: asyncio.Future[None] | None = None

    # For the connection.

    def feed(self, piece: bytes) -> None:
        if self._unwanted:
            return
        self._pieces.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > _MOST_HELD_BYTES and not self.paused:
            self.paused = True
            self._source.pause_reading()
        self._wake()

    def end(self) -> None:
        self.complete = True
        self._wake()

    def break_off(self, why: BrokenOff) -> None:
        if not self.complete:
            self.broken = why
            self._wake()

    # For who takes it.

    async def piece(self) -> bytes:
        """What is there, else what comes next; empty at the end.

        Raises
        ------
        BrokenOff
        """
        while not self._pieces and not self.complete:
            if self.broken:
                raise self.broken
            await self._news()
        return self.taken()

    def taken(self) -> bytes:
        """All that is there, without waiting."""
        if not self._pieces:
            return b""
        joined = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._held_bytes = 0
        self._go_on()
        return joined

    async def whole(self, most_bytes: int) -> bytes:
        """All of it, once it is complete.

        Raises
        ------
        BrokenOff
        TooLong
            When it is longer than `most_bytes`.
        """
        pieces, size = [], 0
        while piece := await self.piece():
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                raise TooLong
        return b"".join(pieces)

    async def complete_within(self, seconds: float) -> None:
        """Wait so long at most; without taking anything."""
        if not self.complete:
            handle = asyncio.get_running_loop().call_later(seconds, self._wake)
            await self._news()
            handle.cancel()

    def discard(self) -> None:
        """Nobody wants the rest: it is read and thrown away, so that the connection can be used again."""
        self._unwanted = True
        self._pieces.clear()
        self._go_on()

    def _go_on(self) -> None:
        if self.paused:
            self.paused = False
            if not self._source.is_closing():
                self._source.resume_reading()

    async def _news(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Writing(asyncio.Protocol):
    """A connection that tells its writers when the other side takes no more."""

    _writable: asyncio.Future[None] | None = None

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    async def drain(self) -> None:
        if self._writable is not None:
            await self._writable


def passed_on(headers: Iterable[tuple[bytes, bytes]], without: frozenset[bytes]) -> Headers:
    """Headers that concern more than one connection, but for those named (in lower case)."""
    listed = list(headers)
    named = {
        word.strip().lower() for name, value in listed if name.lower() == b"connection" for word in value.split(b",")
    }
    dropped = without | named
    return [(n, v) for n, v in listed if (low := n.lower()) not in _HOP_BY_HOP and low not in dropped]


def header(headers: Iterable[tuple[bytes, bytes]], lower_name: bytes) -> bytes | None:
    """The first of that name (in lower case)."""
    return next((value for name, value in headers if name.lower() == lower_name), None)


def length_of(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Content-Length, which the parser has already checked."""
    value = header(headers, b"content-length")
    return None if value is None else int(value)


def is_chunked(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    codings = (header(headers, b"transfer-encoding") or b"").lower().split(b",")
    return codings[-1].strip() == b"chunked"


def head_bytes(first_line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [first_line, *(name + b": " + value for name, value in headers), b"", b""]
    return b"\r\n".join(lines)


def status_line(status: int, reason: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d %s" % (status, reason or _reason(status))


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


LAST_CHUNK = b"0\r\n\r\n"


@lru_cache(maxsize=2)
def date_at(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()


@lru_cache
def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Status"
