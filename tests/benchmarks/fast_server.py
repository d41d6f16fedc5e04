"""A server that costs next to nothing: answers every request with the same bytes, and notes when each arrived.

`python -m tests.benchmarks.fast_server PORT`. `GET /arrivals` returns the times of the requests so far (monotonic,
nanoseconds, one a line) and forgets them. It knows HTTP/1.1 only as far as load generators speak it.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
import uvloop

_BODY = b'{"status":"ok"}'
_HEADERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Fave-Replica-Id: fast-1\r\n"
    b"X-Fave-Process-Started-At: 1\r\nX-Fave-Ready-At: 2\r\nX-Fave-Invocations-Before: 3\r\n"
    b"X-Fave-Received-At: 4\r\nX-Fave-Started-At: 5\r\nX-Fave-Finished-At: 6\r\nContent-Length: %d\r\n\r\n"
)
# To a generator it is a gateway with one function.
_FUNCTIONS = b'[{"name": "stage-object-detector"}]'
# To its web tab it is a Prometheus that knows the replicas of eleven.
_REPLICAS = msgspec.json.encode(
    {
        "status": "success",
        "data": {
            "resultType": "vector",
            "result": [
                {"metric": {"__name__": metric, "function_name": f"stage-{i}.openfaas-fn"}, "value": [1.0, "1"]}
                for metric in ("gateway_service_count", "gateway_service_ready_count")
                for i in range(11)
            ],
        },
    }
)
_REPLY = _HEADERS % len(_BODY) + _BODY
_arrived: list[int] = []


class Reply(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._answer(head)

    def _answer(self, head: bytes) -> None:
        if head.startswith(b"get /"):
            body = _FUNCTIONS
            if head.startswith(b"get /system/info"):
                body = b"{}"
            elif head.startswith(b"get /api/v1/query"):
                body = _REPLICAS
            elif head.startswith(b"get /arrivals"):
                body = "\n".join(map(str, _arrived)).encode()
                _arrived.clear()
            self._transport.write(_HEADERS % len(body) + body)  # type: ignore[attr-defined]
            return
        _arrived.append(time.monotonic_ns())
        self._transport.write(_REPLY)  # type: ignore[attr-defined]


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Reply, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
