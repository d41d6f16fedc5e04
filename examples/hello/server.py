"""An HTTP server from Python's standard library, which takes half a second to start: `python3 server.py PORT`."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        answer = json.dumps({"greeting": f"hello, {asked['name']}"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


# Stands for what a real one loads.
time.sleep(0.5)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hello).serve_forever()
