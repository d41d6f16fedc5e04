"""Open-loop dispatch: one greenlet per arrival, started when the schedule says so, whatever the system does."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import gevent
import geventhttpclient
from gevent.pool import Pool
from geventhttpclient.url import URL

from fave.clock import utc_ns
from fave.environment import ca_file
from fave.traffic.arrivals import Share
from fave.wire.invocation import Invocation, measurement_headers
from fave.wire.records import ArrivalRow
from generator.recording import Recorder
from workloads.asking import Asking, Sent

Fire = Callable[..., Any]
_RETRIED = frozenset((429, 502, 503))
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 10.0
_LONGEST_RETRY_AFTER_S = 60.0
_CONNECT_S = 5.0


class Tags:
    """Which phase and regime a scheduled time belongs to. Changes are told in order of time."""

    def __init__(self, tags: list[tuple[int, str, str]]) -> None:
        """`tags`: (from this microsecond of the run, phase, regime), the first from 0."""
        self._tags = tags

    def at(self, at_us: int) -> tuple[str, str]:
        for from_us, phase, regime in reversed(self._tags):
            if at_us >= from_us:
                return phase, regime
        return "", ""

    def change(self, from_us: int, regime: str) -> None:
        """A switch by hand: the phase goes on, the regime changes for what is scheduled from now on."""
        phase, _ = self.at(from_us)
        later = [tag for tag in self._tags if tag[0] > from_us]
        self._tags[:] = [tag for tag in self._tags if tag[0] <= from_us]
        self._tags += [(from_us, phase, regime), *later]


class Calls(NamedTuple):
    """How arrivals are sent: to which gateway, asking what, named how, how patiently, how often again."""

    gateway_url: str
    asking: Asking
    id_prefix: str
    timeout_s: float
    retries: int


class Sender:
    """Sends single arrivals and records them, one row per attempt."""

    def __init__(self, calls: Calls, *, connections: int, recorder: Recorder, fire: Fire) -> None:
        self._calls = calls
        self._recorder = recorder
        self._fire = fire
        self._client = geventhttpclient.HTTPClient.from_url(
            URL(calls.gateway_url),
            concurrency=connections,
            connection_timeout=_CONNECT_S,
            network_timeout=calls.timeout_s,
            ssl_options={"ca_certs": ca} if (ca := ca_file()) else None,
        )
        self.in_flight: dict[int, ArrivalRow] = {}
        self.started_at_ns = 0

    def row(self, k: int, at_us: int, phase: str = "", regime: str = "") -> ArrivalRow:
        return self._row(k, 1, self.started_at_ns + at_us * 1000, phase, regime)

    def _row(self, k: int, attempt: int, scheduled_at_ns: int, phase: str, regime: str) -> ArrivalRow:
        request_id = f"{self._calls.id_prefix}-k{k:06d}"
        return ArrivalRow(
            k=k,
            request_id=request_id,
            invocation_id=f"{request_id}.{attempt}",
            attempt=attempt,
            phase=phase,
            regime=regime,
            scheduled_at_ns=scheduled_at_ns,
        )

    def send(self, row: ArrivalRow) -> None:
        """All attempts of one arrival."""
        sent = self._calls.asking.for_arrival(row.k, row.request_id)
        row.function = sent.function
        while row.k in self.in_flight:
            content, pause_s = self._attempt(row, sent)
            if row.status == "ok" or row.attempt > self._calls.retries or pause_s is None:
                self.finish(row, content)
                return
            self._recorder.record(row, self.started_at_ns, content, final=False)
            row = self._row(row.k, row.attempt + 1, row.scheduled_at_ns, row.phase, row.regime)
            row.function = sent.function
            row.fired_at_ns = utc_ns()
            self.in_flight[row.k] = row
            gevent.sleep(pause_s)

    def _attempt(self, row: ArrivalRow, sent: Sent) -> tuple[bytes, float | None]:
        """The reply, and after how long it may be tried again; None: not at all."""
        content, pause_s = b"", None
        row.sent_at_ns = utc_ns()
        call = Invocation(
            request_id=row.request_id, invocation_id=row.invocation_id, attempt=row.attempt, sent_at_ns=row.sent_at_ns
        )
        try:
            address = f"/function/{sent.function}{sent.path}"
            response = self._client.request(sent.method, address, body=sent.body, headers=call.headers() | sent.headers)
            row.first_byte_at_ns = utc_ns()
            content = bytes(response.read())
            row.http_status = response.status_code
            headers = dict(response.items())
            row.reply_headers = measurement_headers(headers)
            row.bytes = len(content)
            wrong = self._calls.asking.wrong(sent.request, row.http_status, content)
            if wrong:
                row.status, row.error = "failed", wrong
                if row.http_status in _RETRIED:
                    pause_s = _pause_s(row.attempt, headers)
        except (TimeoutError, socket.timeout, gevent.Timeout):  # noqa: UP041 - gevent's differs from the built-in
            waited_s = (utc_ns() - row.sent_at_ns) / 1e9
            connecting = waited_s < 0.9 * self._calls.timeout_s
            what = f"no connection within {_CONNECT_S:g} s" if connecting else f"no reply within {waited_s:.3g} s"
            row.status, row.error = "timeout", what
        except ConnectionRefusedError as error:
            row.status, row.error = "failed", f"{type(error).__name__}: {error}"
            pause_s = _pause_s(row.attempt, {})
        except (OSError, ValueError, geventhttpclient.response.HTTPParseError) as error:
            # It may have reached the function: sending it again could do the work twice.
            row.status, row.error = "failed", f"{type(error).__name__}: {error}"
        row.done_at_ns = utc_ns()
        return content, pause_s

    def drop(self, row: ArrivalRow) -> None:
        row.status, row.error = "dropped", "in-flight cap reached"
        self.finish(row, b"")

    def finish(self, row: ArrivalRow, content: bytes) -> None:
        if row.status != "dropped" and self.in_flight.pop(row.k, None) is None:
            # Given up meanwhile: it has its last row.
            return
        self._recorder.record(row, self.started_at_ns, content)
        # In Locust's own statistics, response time is latency from the schedule.
        latency_ms = (row.done_at_ns - row.scheduled_at_ns) / 1e6 if row.done_at_ns else None
        self._fire(
            request_type="POST",
            name=row.function,
            response_time=latency_ms,
            response_length=row.bytes,
            exception=None if row.status == "ok" else RuntimeError(f"{row.status}: {row.error[:100]}"),
            context={"request_id": row.request_id, "phase": row.phase, "regime": row.regime},
        )

    def give_up(self) -> None:
        """What is in flight will never be heard of."""
        for row in list(self.in_flight.values()):
            row.status = "lost" if row.sent_at_ns or row.attempt > 1 else "unsent"
            self._recorder.record(row, self.started_at_ns)
        self.in_flight.clear()
        self._client.close()


class Dispatcher:
    """Sends one process's share of a schedule.

    An arrival above `max_in_flight` is dropped and counted, never delayed: a delayed arrival would hide the very
    slowness that is to be measured.
    """

    def __init__(self, sender: Sender, recorder: Recorder, *, max_in_flight: int, tags: Tags) -> None:
        self._sender = sender
        self._recorder = recorder
        self._tags = tags
        self._pool = Pool(max_in_flight)
        self._begun = 0

    def run(self, share: Share, start_s: float) -> None:
        """Send all of `share` from `start_s` (monotonic clock), wait for the last reply."""
        for index, at_us in enumerate(share.at_us):
            # From the run's start: summed sleeps drift.
            gevent.sleep(max(0.0, start_s + at_us / 1e6 - time.monotonic()))
            self._begun = index + 1
            self._arrive(share.k_of(index), at_us)
        self._recorder.measure_cpu()
        self._pool.join()

    def close(self, share: Share) -> None:
        """Record what is left of it: in flight as lost, the rest as unsent."""
        self._pool.kill()
        self._sender.give_up()
        for index in range(self._begun, len(share.at_us)):
            at_us = share.at_us[index]
            row = self._sender.row(share.k_of(index), at_us, *self._tags.at(at_us))
            row.status = "unsent"
            self._recorder.record(row, self._sender.started_at_ns)

    def _arrive(self, k: int, at_us: int) -> None:
        row = self._sender.row(k, at_us, *self._tags.at(at_us))
        row.fired_at_ns = utc_ns()
        if self._pool.full():
            self._sender.drop(row)
        else:
            self._sender.in_flight[k] = row
            self._pool.spawn(self._sender.send, row)


def _pause_s(attempt: int, headers: Mapping[str, str]) -> float:
    """Exponential, half of it random; at least what a `Retry-After` asks for, up to a minute."""
    asked = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    full_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** (attempt - 1))
    asked_s = min(float(asked), _LONGEST_RETRY_AFTER_S) if asked.isdigit() else 0.0
    return max(asked_s, full_s * random.uniform(0.5, 1.0))
