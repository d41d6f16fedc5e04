"""The function host: serves one handler with the conventions of OpenFaaS' of-watchdog and python3-http template.

`/_/health`, `/_/ready`, `/_/metrics`, `/_/cancel/{call id}`; `max_inflight` (429), `exec_timeout` (504), drain on
SIGTERM, measurement headers, one JSON line per invocation.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from fave.clock import utc_ns
from fave.environment import parse_seconds
from fave.wire import invocation as wire
from functions.host.logs import Log
from functions.host.metrics import Metrics
from functions.host.replica import Identity, peak_rss_mb
from functions.host.settings import Limits
from functions.host.work import Work

StartResponse = Callable[[str, list[tuple[str, str]]], object]
Handler = Callable[["Event", "Context"], dict[str, Any]]
Answer = tuple[int, bytes, dict[str, str]]

_REASONS = {
    200: "OK",
    202: "Accepted",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
EXIT_EXEC_TIMEOUT = 124
# How often the host looks whether the caller is still there.
_LOOK_INTERVAL_S = 0.25
# What Python code gets to notice that its children were killed and its time is over.
_YIELD_S = 1.0


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The request, as OpenFaaS' python3-http template gives it to a handler."""

    body: bytes
    headers: dict[str, str]
    method: str
    query: dict[str, str]
    path: str


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What the template calls context, and what FAVE's stages measure with. `deadline_s`: on the monotonic clock."""

    hostname: str
    replica: Identity
    invocation: wire.Invocation
    work: Work
    log: Log
    ready_at_ns: int
    start_peak_rss_mb: float
    received_at_ns: int
    started_at_ns: int
    invocations_before: int
    deadline_s: float


class Host:
    """A WSGI application around one handler."""

    def __init__(self, identity: Identity, limits: Limits, log: Log) -> None:
        self.identity = identity
        self.limits = limits
        self.log = log
        self.metrics = Metrics(identity)
        self.ready_at_ns = 0
        self.start_peak_rss_mb = 0.0
        self._draining = threading.Event()
        # An invocation did not end in time: nothing new, so that the others' end is this replica's.
        self._overrun = threading.Event()
        lock = threading.RLock()
        self._lock = threading.Condition(lock)
        # The first that waits is the first to be told.
        self._slot_free = threading.Condition(lock)
        self._in_flight = 0
        self._waiting = 0
        self._invocations = 0
        self._works: dict[str, Work] = {}
        self._handler: Handler
        self._workers = ThreadPoolExecutor(limits.max_in_flight, thread_name_prefix="handler")

    def serve_with(self, handler: Handler) -> None:
        """Ready: from now on, and for who waits already."""
        self._handler = handler
        with self._lock:
            self.ready_at_ns = utc_ns()
            self._slot_free.notify(self.limits.max_in_flight)
        self.start_peak_rss_mb = round(peak_rss_mb(), 1)
        self.metrics.ready_after_s = (self.ready_at_ns - self.identity.process_started_at_ns) / 1e9

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/_/"):
            return self._own(path, start_response)
        if self._overrun.is_set():
            return _answer(start_response, 503, b"this replica is ending", {wire.ENDING: "1"})
        received_at_ns = utc_ns()
        before = self._admit()
        if before is None:
            limit = self.limits.max_in_flight
            return _answer(
                start_response, 429, f"Concurrent request limit exceeded. Max concurrent requests: {limit}".encode()
            )
        try:
            status, body, headers = self._serve(environ, before, received_at_ns)
        finally:
            with self._lock:
                self._in_flight -= 1
                self._slot_free.notify()
                self._lock.notify_all()
        return _answer(start_response, status, body, headers)

    def _own(self, path: str, start_response: StartResponse) -> Iterable[bytes]:
        """The host's own addresses, which are answered while every handler thread is busy."""
        if path == "/_/health":
            return _answer(start_response, 200, b"OK")
        if path == "/_/ready":
            full = self.limits.unready_when_full and self._in_flight >= self.limits.max_in_flight
            ready = self.ready_at_ns and not full and not self._draining.is_set()
            return _answer(start_response, 200 if ready else 503, b"", {wire.REPLICA_ID: self.identity.replica_id})
        if path == "/_/metrics":
            self.metrics.in_flight, self.metrics.waiting = self._in_flight, self._waiting
            return _answer(start_response, 200, self.metrics.exposition())
        work = self._works.get(path.removeprefix("/_/cancel/"))
        if work is None:
            return _answer(start_response, 404, b"nothing here by that name")
        work.cancel("aborted")
        return _answer(start_response, 202, b"")

    def _admit(self) -> int | None:
        """The number of invocations before this one, when it has a slot; None when it cannot have one in time.

        Where no platform queues (OpenFaaS releases all that waited for a start to whichever replica is there), calls
        wait here. Before the handler is loaded they wait anyway, as many as it could take at once.
        """
        with self._lock:
            places = self.limits.queue if self.ready_at_ns else max(self.limits.queue, self.limits.max_in_flight)
            if self._waiting or not self._has_slot():
                if self._waiting >= places:
                    return None
                self._waiting += 1
                try:
                    if not self._slot_free.wait_for(self._has_slot, self.limits.queue_wait_s):
                        return None
                finally:
                    self._waiting -= 1
            self._in_flight += 1
            self._invocations += 1
            return self._invocations - 1

    def _has_slot(self) -> bool:
        return self.ready_at_ns > 0 and self._in_flight < self.limits.max_in_flight

    def _serve(self, environ: dict[str, Any], before: int, received_at_ns: int) -> Answer:
        event = _event(environ)
        timeout_s = self._timeout_s(event.headers)
        context = Context(
            hostname=self.identity.replica_id,
            replica=self.identity,
            invocation=wire.Invocation.from_headers(event.headers),
            work=Work(),
            log=self.log,
            ready_at_ns=self.ready_at_ns,
            start_peak_rss_mb=self.start_peak_rss_mb,
            received_at_ns=received_at_ns,
            started_at_ns=utc_ns(),
            invocations_before=before,
            deadline_s=time.monotonic() + timeout_s,
        )
        call_id = event.headers.get("x-call-id", "") or context.invocation.invocation_id
        self._works[call_id] = context.work
        try:
            future = self._workers.submit(self._call, event, context)
            status, body, headers = self._await(future, context, environ.get("waitress.client_disconnected"))
        finally:
            self._works.pop(call_id, None)
        finished_at_ns = utc_ns()
        service_s = (finished_at_ns - context.started_at_ns) / 1e9
        self._record(context, status, service_s)
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

    def _await(self, future: Future[Answer], context: Context, gone: Callable[[], bool] | None) -> Answer:
        """The handler's answer; 504 when its time passes. A caller that has gone ends the work as well."""
        while not future.done():
            left_s = context.deadline_s - time.monotonic()
            if left_s <= 0:
                return self._overdue(future, context)
            if gone is not None and gone():
                context.work.cancel("aborted")
            try:
                return future.result(min(left_s, _LOOK_INTERVAL_S))
            except TimeoutError:
                continue
        return future.result()

    def _overdue(self, future: Future[Answer], context: Context) -> Answer:
        """Kill the work's children; where its Python code does not end, the replica does, after its neighbours."""
        context.work.cancel("timeout")
        try:
            _, body, headers = future.result(_YIELD_S)
        except TimeoutError:
            request_id = context.invocation.request_id
            self.log.write(
                level="error", request_id=request_id, message="exec_timeout passed and the work goes on: replica ends"
            )
            self._overrun.set()
            self._end_soon(EXIT_EXEC_TIMEOUT)
            return 504, b"", {wire.ENDING: "1"}
        return 504, body, headers

    def _timeout_s(self, headers: dict[str, str]) -> float:
        """A caller's X-Timeout may only lower the limit; one that cannot be read does not."""
        with contextlib.suppress(ValueError):
            return min(self.limits.exec_timeout_s, parse_seconds(headers.get(wire.TIMEOUT.lower(), "")))
        return self.limits.exec_timeout_s

    def _call(self, event: Event, context: Context) -> Answer:
        try:
            with context.work.begun(alone=self._in_flight == 1):
                reply = self._handler(event, context)
            body = reply.get("body", b"")
            if not isinstance(body, str | bytes):
                body = msgspec.json.encode(body)
            content = body.encode() if isinstance(body, str) else body
            return int(reply.get("statusCode", 200)), content, dict(reply.get("headers", {}))
        except Exception as error:  # noqa: BLE001 - the boundary: whatever a handler raises is logged and answered
            request_id = context.invocation.request_id
            self.log.write(level="error", request_id=request_id, traceback=traceback.format_exc())
            reason = f"{type(error).__name__}: {error}"
            failure = {"slug": "internal", "stage": self.identity.function, "reason": reason, "retryable": True}
            answer = {"request_id": request_id, "stage": self.identity.function, "status": "failed", "error": failure}
            return 500, msgspec.json.encode(answer), {"Content-Type": "application/json"}

    def _record(self, context: Context, status: int, service_s: float) -> None:
        """The invocation in the log and in the metrics."""
        call = context.invocation
        cold = (call.routable_at_ns or self.ready_at_ns) > call.sent_at_ns if call.sent_at_ns else None
        limit_mb = self.identity.memory_limit_mb
        self.metrics.finished(code=status, service_s=service_s, cold=bool(cold), cost_gb_s=service_s * limit_mb / 1024)
        self.log.write(
            level="info" if status < 500 else "error",
            request_id=call.request_id,
            invocation_id=call.invocation_id,
            attempt=call.attempt,
            cold=cold,
            status=status,
            duration_ms=round(service_s * 1000, 3),
            memory_limit_mb=limit_mb,
            peak_rss_mb=context.work.peak_rss_mb(),
        )

    # The end.

    def drain_on_sigterm(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self._end_soon(0, serve_s=self.limits.healthcheck_interval_s))

    def _end_soon(self, code: int, *, serve_s: float = 0.0) -> None:
        """Not ready any more; exit when what is in flight has been answered, or after write_timeout.

        serve_s: before that, go on taking what a load balancer sends that has not noticed yet.
        """
        self._draining.set()

        def end() -> None:
            time.sleep(serve_s)
            with self._lock:
                self._lock.wait_for(lambda: self._in_flight + self._waiting == 0, self.limits.write_timeout_s)
            # The last reply may still be in a socket's buffer.
            time.sleep(0.05 if self._invocations else 0)
            self.log.close()
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
