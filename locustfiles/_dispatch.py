"""Open-loop dispatch: one greenlet per arrival, started when the schedule says so, whatever the system does."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

import gevent
import geventhttpclient
from gevent.pool import Pool
from geventhttpclient.url import URL

from fave.clock import utc_ns
from fave.invocation import Invocation, measurement_headers
from fave.records import ArrivalRow
from locustfiles._recording import Recorder

# So that the first arrival, often at 0, is not late because of what happens between "now" and its greenlet.
_LEAD_S = 0.2
Fire = Callable[..., Any]


class Target(NamedTuple):
    """Where arrivals go, and as what: `body_for` makes the body for a request id `{id_prefix}-k000000`."""

    url: str
    function: str
    body_for: Callable[[str], bytes]
    id_prefix: str


class Dispatcher:
    """Sends one process's share of a schedule to one function.

    An arrival above `max_in_flight` is dropped and counted, never delayed: a delayed arrival would hide the very
    slowness that is to be measured.
    """

    def __init__(
        self,
        *,
        target: Target,
        max_in_flight: int,
        timeout_s: float,
        recorder: Recorder,
        fire: Fire,
        context: Mapping[str, str],
    ) -> None:
        self._target = target
        self._path = f"/function/{target.function}"
        self._timeout_s = timeout_s
        self._recorder = recorder
        self._fire = fire
        self._context = dict(context)
        self._client = geventhttpclient.HTTPClient.from_url(
            URL(target.url), concurrency=max_in_flight, connection_timeout=5.0, network_timeout=timeout_s
        )
        self._pool = Pool(max_in_flight)
        self._pending: dict[int, ArrivalRow] = {}
        self.started_at_ns = 0
        self.last_lag_s = 0.0

    @property
    def in_flight(self) -> int:
        return len(self._pool)

    def run(self, share: Sequence[tuple[int, int]]) -> None:
        """Send all of `share` (k, at_us) and wait for the last reply. On an interrupt the rest is recorded unsent."""
        start_s = time.monotonic() + _LEAD_S
        self.started_at_ns = utc_ns() + int(_LEAD_S * 1e9)
        self._pending = {k: self._row(k, at_us) for k, at_us in share}
        try:
            for k, at_us in share:
                # From the run's start: summed sleeps drift.
                delay_s = start_s + at_us / 1e6 - time.monotonic()
                gevent.sleep(max(0.0, delay_s))
                self._arrive(self._pending[k])
            self._pool.join()
        finally:
            self._pool.kill()
            for row in self._pending.values():
                row.status = "lost" if row.sent_at_ns else "unsent"
                self._recorder.record(row)
            self._client.close()

    def _row(self, k: int, at_us: int) -> ArrivalRow:
        return ArrivalRow(
            k=k,
            request_id=f"{self._target.id_prefix}-k{k:06d}",
            invocation_id=uuid4().hex,
            scheduled_at_ns=self.started_at_ns + at_us * 1000,
        )

    def _arrive(self, row: ArrivalRow) -> None:
        row.fired_at_ns = utc_ns()
        self.last_lag_s = (row.fired_at_ns - row.scheduled_at_ns) / 1e9
        if self._pool.full():
            row.status, row.error = "dropped", "in-flight cap reached"
            self._finish(row)
        else:
            self._pool.spawn(self._send, row)

    def _send(self, row: ArrivalRow) -> None:
        body = self._target.body_for(row.request_id)
        row.sent_at_ns = utc_ns()
        call = Invocation(request_id=row.request_id, invocation_id=row.invocation_id, sent_at_ns=row.sent_at_ns)
        headers = call.headers() | {"Content-Type": "application/json"}
        try:
            response = self._client.post(self._path, body=body, headers=headers)
            row.first_byte_at_ns = utc_ns()
            content = bytes(response.read())
            row.http_status = response.status_code
            row.reply_headers = measurement_headers(dict(response.items()))
            row.bytes = len(content)
            if row.http_status != 200:
                row.status, row.error = "failed", f"{row.http_status}: {content[:200].decode(errors='replace')}"
        except (TimeoutError, socket.timeout, gevent.Timeout):  # noqa: UP041 - gevent's differs from the built-in
            row.status, row.error = "timeout", f"no reply within {self._timeout_s:g} s"
        except (OSError, geventhttpclient.response.HTTPParseError) as error:
            row.status, row.error = "failed", f"{type(error).__name__}: {error}"
        row.done_at_ns = utc_ns()
        self._finish(row)

    def _finish(self, row: ArrivalRow) -> None:
        del self._pending[row.k]
        self._recorder.record(row)
        # In Locust's own statistics, response time is latency from the schedule.
        latency_ms = (row.done_at_ns - row.scheduled_at_ns) / 1e6 if row.done_at_ns else None
        self._fire(
            request_type="POST",
            name=self._target.function,
            response_time=latency_ms,
            response_length=row.bytes,
            exception=None if row.status == "ok" else RuntimeError(f"{row.status}: {row.error[:100]}"),
            context={**self._context, "request_id": row.request_id},
        )
