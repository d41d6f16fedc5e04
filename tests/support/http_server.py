"""Small real HTTP servers for what FAVE talks to: callback receivers, language models, failing object stores."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit


class Heard(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def serving(answer: Callable[[Heard], Answer]) -> Iterator[str]:
    """The address of a server that answers every request by `answer`, each in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            heard = Heard(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            status, headers, content = answer(heard)
            try:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if not any(name.lower() == "content-length" for name in headers):
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_any  # noqa: N815 - the standard library asks for these

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is part of these tests."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def flaky_proxy(target: str, *, fails: Callable[[int, Heard], bool], delay_s: float = 0.0) -> Iterator[str]:
    """In front of an object store: answers 503 where `fails(number, request)` says so, else passes on, with a delay."""
    netloc = urlsplit(target).netloc
    lock = threading.Lock()
    count = 0

    def answer(heard: Heard) -> Answer:
        nonlocal count
        with lock:
            count += 1
            number = count
        time.sleep(delay_s)
        if fails(number, heard):
            return 503, {"Content-Type": "application/xml"}, b"<Error><Code>ServiceUnavailable</Code></Error>"
        connection = http.client.HTTPConnection(netloc, timeout=60)
        # The Host header is part of the signature: it goes on as it came.
        connection.request(heard.method, heard.path, heard.body or None, heard.headers)
        reply = connection.getresponse()
        content = reply.read()
        kept = {k: v for k, v in reply.getheaders() if k.lower() not in ("connection", "transfer-encoding", "date")}
        connection.close()
        return reply.status, kept, content

    with serving(answer) as url:
        yield url
