"""The gateway's side of a caller's connection, without a network: whatever pieces the bytes come in."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.gateway import inbound
from local.gateway.front import elsewhere, place_of
from local.gateway.inbound import Inbound
from local.gateway.messages import passed_on

pytestmark = pytest.mark.unit


class Wire(asyncio.Transport):
    """What was written, and whether it was closed."""

    def __init__(self):
        super().__init__()
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data):
        self.written += data

    def write_eof(self):
        self.closed = True

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def get_extra_info(self, name, default=None):
        return ("127.0.0.1", 1) if name == "peername" else default


class Echo:
    """Answers with what it was asked, once it has heard all of it."""

    def __init__(self):
        self.heard = []

    async def answer(self, asked, to):
        body = await asked.body.whole(10**6)
        self.heard.append((asked.method, asked.target, dict(asked.headers), body))
        to.begin(200, [(b"Date", b"now")], len(body))
        to.end(body)

    def left(self, asked, work):
        work.cancel()


def talk(pieces, serves):
    async def run():
        wire, connection = Wire(), Inbound(serves, asyncio.Protocol, set())
        connection.connection_made(wire)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
                await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return wire

    return asyncio.run(run())


REQUESTS = (
    b"POST /function/a?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /function/b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    b"GET /function/c HTTP/1.1\r\nHost: h\r\nX-Mine: \xff\r\n\r\n"
)
ANSWERS = b"".join(
    b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    for body in (b"hello", b"abcde", b"")
)


@given(st.lists(st.integers(1, len(REQUESTS) - 1), max_size=12))
def test_requests_are_answered_in_turn_in_whatever_pieces_they_come(cuts):
    edges = [0, *sorted(set(cuts)), len(REQUESTS)]
    serves = Echo()
    wire = talk([REQUESTS[a:b] for a, b in pairwise(edges)], serves)
    assert wire.written == ANSWERS
    assert [(method, target, body) for method, target, _, body in serves.heard] == [
        ("POST", b"/function/a?x=1", b"hello"),
        ("POST", b"/function/b", b"abcde"),
        ("GET", b"/function/c", b""),
    ]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6))
def test_whatever_comes_is_answered_or_waited_for_and_never_raises(pieces):
    wire = talk([b"GET /function/", *pieces], Echo())
    assert wire.written[:9] in (b"", b"HTTP/1.1 ")


def test_a_body_that_nobody_takes_is_held_back_and_goes_on_when_it_is_taken():
    class Later(Echo):
        async def answer(self, asked, to):
            await may_take.wait()
            await super().answer(asked, to)

    may_take = asyncio.Event()

    async def run():
        wire, connection = Wire(), Inbound(Later(), asyncio.Protocol, set())
        connection.connection_made(wire)
        head = b"POST /function/a HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n"
        connection.data_received(head + b"x" * 400000)
        held_back = wire.paused
        may_take.set()
        while wire.paused:
            await asyncio.sleep(0)
        connection.data_received(b"x" * 500000)
        await connection.work
        return held_back, wire

    held_back, wire = asyncio.run(asyncio.wait_for(run(), timeout=30))
    assert held_back
    assert wire.written.endswith(b"x" * 900000)


@pytest.mark.parametrize(
    ("sent", "after_s", "says"),
    [
        (b"GET /func", 61, b"408"),
        (b"GET /function/a HTTP/1.1\r\nHost", 61, b"408"),
        (b"GET /function/a HTTP/1.1\r\nHost", 59, b""),
        (b"", 3599, b""),
        (b"", 3601, b"closed"),
    ],
)
def test_who_waits_too_long_for_a_caller_closes(monkeypatch, sent, after_s, says):
    async def run():
        wire, connections = Wire(), set()
        connection = Inbound(Echo(), asyncio.Protocol, connections)
        connection.connection_made(wire)
        if sent:
            connection.data_received(sent)
        now_s = inbound.time.monotonic()
        monkeypatch.setattr(inbound.time, "monotonic", lambda: now_s + after_s)
        inbound.sweep(connections)
        monkeypatch.undo()
        return wire

    wire = asyncio.run(run())
    assert (wire.closed, says in wire.written or says == b"closed") == (bool(says), True)


@pytest.mark.parametrize(
    ("target", "place"),
    [
        (b"/function/f", (False, "f", b"/")),
        (b"/function/f.openfaas-fn/a%2Fb?x=%23", (False, "f.openfaas-fn", b"/a%2Fb?x=%23")),
        (b"/async-function/f/", (True, "f", b"/")),
        (b"/function/", None),
        (b"/functions/f", None),
        (b"*", None),
    ],
)
def test_an_address_leads_to_a_function_and_its_path(target, place):
    assert place_of(target) == place


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        (b"/function/f", None),
        (b"/function/f/", None),
        (b"/function/f/.hidden", None),
        (b"/function/f/a%2F%2Fb", None),
        (b"//function/f", b"/function/f"),
        (b"/function//f/?q=//", b"/function/f/?q=//"),
        (b"/function/f/../../system/info", b"/system/info"),
        (b"/function/f/%2e%2e/g", b"/function/g"),
        (b"/function/f/./", b"/function/f/"),
    ],
)
def test_a_path_in_another_form_leads_to_the_shortest(target, leads_to):
    assert elsewhere(target) == leads_to


def test_headers_that_concern_one_connection_go_no_further():
    headers = [(b"Connection", b"close, X-One"), (b"X-One", b"1"), (b"TE", b"x"), (b"X-Two", b"2"), (b"Host", b"h")]
    assert passed_on(headers, frozenset((b"host",))) == [(b"X-Two", b"2")]
