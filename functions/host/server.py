"""The function host: serves one handler with the conventions of OpenFaaS' of-watchdog and python3-http template.

`/_/health` and `/_/ready`, `max_inflight` (429), `exec_timeout` (504), drain on SIGTERM, measurement headers.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from fave import invocation as wire
from fave.clock import iso, utc_ns
from fave.settings import Duration
from functions.host.replica import Identity

StartResponse = Callable[[str, list[tuple[str, str]]], object]
Handler = Callable[["Event", "Context"], dict[str, Any]]

_REASONS = {
    200: "OK",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
EXIT_EXEC_TIMEOUT = 124


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The request, as OpenFaaS' python3-http template gives it to a handler."""

    body: bytes
    headers: dict[str, str]
    method: str
    query: dict[str, str]
    path: str


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the template calls context, and what FAVE's stages measure with."""

    hostname: str
    replica: Identity
    invocation: wire.Invocation
    ready_at_ns: int
    received_at_ns: int
    started_at_ns: int
    invocations_before: int
    deadline_s: float


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    max_in_flight: int = 1
    exec_timeout_s: float = 300.0
    write_timeout_s: float = 300.0

    @classmethod
    def from_environment(cls) -> Limits:
        get = os.environ.get
        return cls(
            max_in_flight=int(get("max_inflight") or 1),
            exec_timeout_s=_seconds(get("exec_timeout", ""), 300.0),
            write_timeout_s=_seconds(get("write_timeout", ""), 300.0),
        )


class Host:
    """A WSGI application around one handler."""

    def __init__(self, handler: Handler, identity: Identity, limits: Limits) -> None:
        self.handler = handler
        self.identity = identity
        self.limits = limits
        self.ready_at_ns = 0
        self._draining = threading.Event()
        self._lock = threading.Condition()
        self._in_flight = 0
        self._invocations = 0
        self._workers = ThreadPoolExecutor(limits.max_in_flight, thread_name_prefix="handler")

    def mark_ready(self) -> None:
        self.ready_at_ns = utc_ns()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/_/health":
            return _answer(start_response, 200, b"OK")
        if path == "/_/ready":
            ready = self.ready_at_ns and not self._draining.is_set()
            return _answer(start_response, 200 if ready else 503, b"", {wire.REPLICA_ID: self.identity.replica_id})
        before = self._admit()
        if before is None:
            limit = self.limits.max_in_flight
            return _answer(
                start_response, 429, f"Concurrent request limit exceeded. Max concurrent requests: {limit}".encode()
            )
        try:
            status, body, headers = self._serve(environ, before)
        finally:
            with self._lock:
                self._in_flight -= 1
                self._lock.notify_all()
        return _answer(start_response, status, body, headers)

    def _admit(self) -> int | None:
        """The number of invocations before this one; None when the replica is full."""
        with self._lock:
            if self._in_flight >= self.limits.max_in_flight:
                return None
            self._in_flight += 1
            self._invocations += 1
            return self._invocations - 1

    def _serve(self, environ: dict[str, Any], before: int) -> tuple[int, bytes, dict[str, str]]:
        received_at_ns = utc_ns()
        event = _event(environ)
        timeout_s = self._timeout_s(event.headers)
        context = Context(
            hostname=self.identity.replica_id,
            replica=self.identity,
            invocation=wire.Invocation.from_headers(event.headers),
            ready_at_ns=self.ready_at_ns,
            received_at_ns=received_at_ns,
            started_at_ns=utc_ns(),
            invocations_before=before,
            deadline_s=time.monotonic() + timeout_s,
        )
        future = self._workers.submit(self._call, event, context)
        try:
            status, body, headers = future.result(timeout_s)
        except TimeoutError:
            self._retire(timeout_s)
            status, body, headers = 504, b"", {wire.ENDING: "1"}
        finished_at_ns = utc_ns()
        service_s = (finished_at_ns - context.started_at_ns) / 1e9
        self._log(context, status, service_s)
        measured = {
            wire.REPLICA_ID: self.identity.replica_id,
            "X-Fave-Process-Started-At": self.identity.process_started_at_ns,
            "X-Fave-Ready-At": self.ready_at_ns,
            "X-Fave-Invocations-Before": before,
            "X-Fave-Received-At": received_at_ns,
            "X-Fave-Started-At": context.started_at_ns,
            "X-Fave-Finished-At": finished_at_ns,
            wire.DURATION: f"{service_s:.6f}",
        }
        return status, body, headers | {name: str(value) for name, value in measured.items()}

    def _timeout_s(self, headers: dict[str, str]) -> float:
        """A caller's X-Timeout may only lower the limit."""
        return min(
            self.limits.exec_timeout_s, _seconds(headers.get(wire.TIMEOUT.lower(), ""), self.limits.exec_timeout_s)
        )

    def _call(self, event: Event, context: Context) -> tuple[int, bytes, dict[str, str]]:
        try:
            reply = self.handler(event, context)
            body = reply.get("body", b"")
            if not isinstance(body, str | bytes):
                body = msgspec.json.encode(body)
            content = body.encode() if isinstance(body, str) else body
            return int(reply.get("statusCode", 200)), content, dict(reply.get("headers", {}))
        except Exception as error:  # noqa: BLE001 - the boundary: whatever a handler raises is logged and answered
            _write_log(
                {"level": "error", "request_id": context.invocation.request_id, "traceback": traceback.format_exc()}
            )
            reason = f"{type(error).__name__}: {error}"
            failure = {"slug": "internal", "stage": self.identity.function, "reason": reason, "retryable": True}
            answer = {"request_id": "", "stage": self.identity.function, "status": "failed", "error": failure}
            return 500, msgspec.json.encode(answer), {"Content-Type": "application/json"}

    def _log(self, context: Context, status: int, service_s: float) -> None:
        sent_at_ns = context.invocation.sent_at_ns
        _write_log(
            {
                "level": "info" if status < 500 else "error",
                "function": self.identity.function,
                "request_id": context.invocation.request_id,
                "invocation_id": context.invocation.invocation_id,
                "replica_id": self.identity.replica_id,
                "cold": self.ready_at_ns > sent_at_ns if sent_at_ns else None,
                "status": status,
                "duration_ms": round(service_s * 1000, 3),
                "memory_limit_mb": self.identity.memory_limit_mb,
            }
        )

    # The end.

    def _retire(self, timeout_s: float) -> None:
        """Python code cannot be stopped from outside: the process ends once its neighbours are done."""
        _write_log({"level": "error", "message": f"exec_timeout of {timeout_s:g} s passed; this replica ends"})
        self._end_soon(EXIT_EXEC_TIMEOUT)

    def drain_on_sigterm(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self._end_soon(0))

    def _end_soon(self, code: int) -> None:
        """Not ready any more; exit when what is in flight has been answered, or after write_timeout."""
        self._draining.set()

        def end() -> None:
            with self._lock:
                self._lock.wait_for(lambda: self._in_flight == 0, self.limits.write_timeout_s)
            # The last reply may still be in a socket's buffer.
            time.sleep(0.05 if self._invocations else 0)
            sys.stdout.flush()
            os._exit(code)

        threading.Thread(target=end, daemon=True).start()


def _event(environ: dict[str, Any]) -> Event:
    headers = {k[5:].replace("_", "-").lower(): v for k, v in environ.items() if k.startswith("HTTP_")}
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    return Event(
        body=environ["wsgi.input"].read(),
        headers=headers,
        method=environ["REQUEST_METHOD"],
        query=dict(parse_qsl(environ.get("QUERY_STRING", ""))),
        path=environ["PATH_INFO"],
    )


def _answer(
    start_response: StartResponse, status: int, body: bytes, headers: dict[str, str] | None = None
) -> list[bytes]:
    listed = {"Content-Type": "text/plain"} | (headers or {}) | {"Content-Length": str(len(body))}
    start_response(f"{status} {_REASONS.get(status, 'Status')}", list(listed.items()))
    return [body]


def _seconds(text: str, default: float) -> float:
    try:
        return float(text) if text.replace(".", "", 1).isdigit() else float(Duration.parse(text))
    except ValueError:
        return default


def _write_log(entry: dict[str, object]) -> None:
    # One write per line: lines of several threads must not mix.
    sys.stdout.write(json.dumps({"timestamp": iso(utc_ns()), **entry}) + "\n")
    sys.stdout.flush()
