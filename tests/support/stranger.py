"""A server that knows nothing of FAVE, as a program: what HTTP allows and most functions do not do.

    python tests/support/stranger.py PORT

`/seen`: what it received. `/steps`: two pieces, the second one once somebody asked `/go`. `/big?mb=`: so much, chunked.
`/zipped`: compressed, asked or not. `/early`: an answer before the body is read. `/upgrade`: what nobody asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ZIPPED = gzip.compress(b"squeezed " * 100, mtime=0)
_go = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_any(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/early":
            self._whole(b"no, thank you", 413)
            self.close_connection = True
            return
        size, digest = 0, hashlib.sha256()
        for piece in self._body():
            size += len(piece)
            digest.update(piece)
        if path.path == "/go":
            _go.set()
            self._whole(b"")
        elif path.path == "/steps":
            _go.clear()
            self._chunks(b"one" if step == 1 else b"two" if _go.wait(30) else b"late" for step in (1, 2))
        elif path.path == "/big":
            mb = int(parse_qs(path.query)["mb"][0])
            self._chunks(bytes(2**20) for _ in range(mb))
        elif path.path == "/zipped":
            self._whole(ZIPPED, headers={"Content-Encoding": "gzip"})
        elif path.path == "/closing":
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"until the end")
            self.close_connection = True
        else:
            seen = {
                "method": self.command,
                "path": self.path,
                "headers": self.headers.items(),
                "size": size,
                "sha256": digest.hexdigest(),
            }
            self._whole(json.dumps(seen).encode())

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            piece = self.rfile.read(min(left, 2**20))
            left -= len(piece)
            yield piece

    def _whole(self, content: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Set-Cookie", "a=1")
        self.send_header("Set-Cookie", "b=2")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _chunks(self, pieces) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = do_OPTIONS = do_any  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
