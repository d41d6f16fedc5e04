"""The gateway as a transparent proxy: bodies pass as they come, and nothing of them is changed."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import sys
import threading
from urllib.parse import urlsplit

import psutil
import pytest

from fave.processes import wait_until
from fave.settings import ROOT
from fave.wire.openfaas import FunctionSpec
from tests.support.stranger import ZIPPED

pytestmark = pytest.mark.integration

NAME = "stranger"


@pytest.fixture(scope="module")
def stranger(platform):
    labels = {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "1"}
    command = f"{sys.executable} {ROOT}/tests/support/stranger.py {{port}}"
    env = {"max_inflight": "4", "exec_timeout": "60s"}
    platform.gateway.deploy(FunctionSpec(service=NAME, image="", env_process=command, labels=labels, env_vars=env))
    assert wait_until(lambda: platform.counts(NAME) == (1, 1), timeout_s=30)
    yield NAME
    platform.gateway.delete(NAME)


@pytest.fixture
def connect(platform, stranger):
    """New connections to the gateway, closed afterwards."""
    at = urlsplit(platform.endpoints.gateway_url)
    opened = []

    def connect():
        opened.append(http.client.HTTPConnection(at.hostname, at.port, timeout=60))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


@pytest.fixture
def raw(platform, stranger):
    """Send bytes as they are, and read until the gateway closes."""
    at = urlsplit(platform.endpoints.gateway_url)

    def raw(*pieces: bytes) -> bytes:
        with socket.create_connection((at.hostname, at.port), timeout=60) as connection:
            for piece in pieces:
                connection.sendall(piece)
            heard = b""
            while piece := connection.recv(65536):
                heard += piece
            return heard

    return raw


def ask(connection, method, path, **options):
    connection.request(method, f"/function/{NAME}{path}", **options)
    return connection.getresponse()


def test_a_piece_reaches_the_caller_before_the_next_one_is_made(connect):
    reply = ask(connect(), "GET", "/steps")
    assert (reply.status, reply.read(3)) == (200, b"one")
    assert ask(connect(), "POST", "/go").status == 200
    assert reply.read() == b"two"


def test_large_bodies_pass_without_lying_in_the_gateway(platform, connect):
    gateway = platform.service("local.gateway")
    ask(connect(), "GET", "/big?mb=1").read()
    before_mb = gateway.memory_info().rss / 2**20
    reply = ask(connect(), "GET", "/big?mb=200")
    size, most_mb = 0, 0.0
    while piece := reply.read(2**20):
        size += len(piece)
        most_mb = max(most_mb, gateway.memory_info().rss / 2**20)
    assert size == 200 * 2**20
    sent = (bytes(2**20) for _ in range(100))
    seen = json.loads(ask(connect(), "POST", "/seen", body=sent, encode_chunked=True).read())
    assert seen["size"] == 100 * 2**20
    assert seen["sha256"] == hashlib.sha256(bytes(100 * 2**20)).hexdigest()
    most_mb = max(most_mb, gateway.memory_info().rss / 2**20)
    assert most_mb - before_mb < 40


def test_a_caller_that_reads_slowly_holds_the_function_back_and_not_the_gateway(platform, connect):
    gateway = platform.service("local.gateway")
    before_mb = gateway.memory_info().rss / 2**20
    reply = ask(connect(), "GET", "/big?mb=100")
    assert reply.read(1) == b"\0"
    assert ask(connect(), "GET", "/seen").status == 200
    assert gateway.memory_info().rss / 2**20 - before_mb < 40
    assert len(reply.read()) == 100 * 2**20 - 1


def test_what_is_compressed_stays_so_and_comes_to_whoever_did_not_ask(connect):
    reply = ask(connect(), "GET", "/zipped")
    assert (reply.headers["Content-Encoding"], reply.read()) == ("gzip", ZIPPED)


def test_head_keeps_the_length_and_the_connection(connect):
    connection = connect()
    reply = ask(connection, "HEAD", "/zipped")
    assert (reply.headers["Content-Length"], reply.read()) == (str(len(ZIPPED)), b"")
    assert ask(connection, "GET", "/zipped").read() == ZIPPED


def test_every_header_of_a_name_passes(connect):
    assert ask(connect(), "GET", "/seen").headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_a_reply_that_ends_with_its_connection_is_whole(connect):
    connection = connect()
    assert ask(connection, "GET", "/closing").read() == b"until the end"
    assert ask(connection, "GET", "/seen").status == 200


def test_much_may_stand_in_headers_and_query(connect):
    headers = {f"X-Many-{k}": "v" * 600 for k in range(90)}
    seen = json.loads(ask(connect(), "GET", f"/seen?q={'x' * 30000}", headers=headers).read())
    assert len(seen["path"]) > 30000
    assert sum(name.startswith("X-Many-") for name, _ in seen["headers"]) == 90


def test_a_body_is_framed_as_it_was(connect):
    length = dict(json.loads(ask(connect(), "POST", "/seen", body=b"12345").read())["headers"])
    assert (length["Content-Length"], "Transfer-Encoding" in length) == ("5", False)
    chunked = dict(json.loads(ask(connect(), "POST", "/seen", body=iter([b"12", b"345"])).read())["headers"])
    assert (chunked["Transfer-Encoding"], "Content-Length" in chunked) == ("chunked", False)


def test_who_answers_before_it_has_heard_all_is_heard(connect, raw):
    head = f"POST /function/{NAME}/early HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 50000000\r\n\r\n"
    heard = raw(head.encode(), b"x" * 1000)
    assert heard.startswith(b"HTTP/1.1 413 ")
    assert heard.endswith(b"no, thank you")


def test_who_asks_whether_to_send_is_told_to(raw):
    head = f"POST /function/{NAME}/seen HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
    heard = raw((head + "Expect: 100-continue\r\n\r\n").encode(), b"ok")
    assert heard.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


def test_requests_that_come_at_once_on_a_connection_are_answered_in_turn(raw):
    one = f"GET /function/{NAME}/seen?k=%d HTTP/1.1\r\nHost: x\r\n%s\r\n"
    heard = raw((one % (1, "") + one % (2, "") + one % (3, "Connection: close\r\n")).encode())
    assert heard.count(b"HTTP/1.1 200 OK") == 3
    assert heard.index(b"seen?k=1") < heard.index(b"seen?k=2") < heard.index(b"seen?k=3")


def test_an_older_caller_gets_its_body_unchunked(raw):
    heard = raw(f"GET /function/{NAME}/big?mb=1 HTTP/1.0\r\n\r\n".encode())
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == bytes(2**20)


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (f"TRACE /function/{NAME}", "", 405),
        (f"PURGE /function/{NAME}", "", 405),
        ("GET /async-function/x", "", 405),
        (f"GET /function/{NAME}", "Upgrade: websocket\r\nConnection: Upgrade\r\n", 501),
        (f"GET /function//{NAME}", "", 301),
        (f"GET /function/{NAME}/../../system/functions", "", 301),
        ("GET /", "", 404),
        ("GET /function/", "", 404),
        (f"GET http://elsewhere/function/{NAME}", "", 200),
        ("GET /metrics", "", 404),
        (f"GET /function/{NAME}", "X: " + "y" * 200_000 + "\r\n", 431),
        (f"POST /function/{NAME}", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        (f"POST /function/{NAME}", "Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        (f"POST /function/{NAME}", "Transfer-Encoding: xchunked\r\n", 400),
        ("NOTHING", "", 400),
        ("GET /system/functions", "", 401),
        ("GET /healthz", "", 200),
    ],
)
def test_what_is_no_invocation_is_answered_as_what_it_is(raw, line, headers, status):
    close = "" if "Connection" in headers else "Connection: close\r\n"
    heard = raw(f"{line} HTTP/1.1\r\nHost: x\r\n{headers}{close}\r\n".encode())
    assert int(heard.split()[1]) == status


def test_a_path_that_is_cleaned_keeps_its_query(raw):
    heard = raw(f"GET /function/./{NAME}//a?x=1%2F HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert f"\r\nLocation: /function/{NAME}/a?x=1%2F\r\n".encode() in heard


def test_headers_of_one_connection_end_with_it(connect):
    headers = {
        "Connection": "X-Mine",
        "X-Mine": "1",
        "Keep-Alive": "9",
        "X-Start-Time": "forged",
        "Proxy-Authorization": "a",
    }
    seen = {name.lower() for name, _ in json.loads(ask(connect(), "GET", "/seen", headers=headers).read())["headers"]}
    assert not seen & {"x-mine", "keep-alive", "proxy-authorization", "connection"}


def test_administration_and_invocations_may_follow_each_other_on_a_connection(connect, platform):
    connection = connect()
    assert ask(connection, "GET", "/seen").read()
    connection.request("GET", "/healthz")
    assert connection.getresponse().read() == b""
    assert ask(connection, "GET", "/seen").read()


def test_a_caller_that_leaves_in_the_middle_of_a_stream_frees_its_slot(connect, platform):
    connection = connect()
    assert ask(connection, "GET", "/steps").read(3) == b"one"
    assert platform.in_flight(NAME) == 1
    connection.close()
    assert wait_until(lambda: platform.in_flight(NAME) == 0, timeout_s=10)


def test_a_thousand_callers_leave_nothing_behind(connect, platform):
    gateway = platform.service("local.gateway")
    for _ in range(3):
        ask(connect(), "GET", "/seen").read()

    def some(_):
        connection = connect()
        for _ in range(25):
            assert ask(connection, "POST", "/seen", body=b"x" * 1000).read()
        connection.close()

    some(0)
    files = gateway.num_fds()
    threads = [threading.Thread(target=some, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wait_until(lambda: gateway.num_fds() <= files + 4, timeout_s=30)
    assert isinstance(gateway, psutil.Process)
