"""What one Locust process does of a run: it sends its share of the arrivals when the coordinator says so.

The coordinator (`coordinator`) may sit in the same process or in Locust's master; both talk in custom messages.

    coordinator                     process
    fave_prepare {slot, slots} ───▶ makes its share of the schedule
                               ◀─── fave_ready {total, sha256}   or   fave_refused {error, exit_code}
    fave_go {t0_ns}            ───▶ sends
    fave_regime {at_ns}        ───▶ tags what is scheduled from then on
                               ◀─── fave_live, every second
    fave_stop                  ───▶ records what is left as lost or unsent
                               ◀─── fave_done {what the verdict needs}
"""

from __future__ import annotations

from locust.runners import Runner

import itertools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event

from fave.clock import utc_ns
from fave.endpoints import find
from fave.errors import EXIT_CONFIG, ConfigError, FaveError
from fave.settings import Duration
from fave.traffic.arrivals import Share, take_share
from generator.dispatch import Calls, Dispatcher, Sender, Tags
from generator.options import RunOptions
from generator.recording import Recorder

LIVE_EVERY_S = 1.0
_UNBOUNDED = 100_000
_log = logging.getLogger("fave")
MISTAKES = (FaveError, ValueError, msgspec.ValidationError)


class GeneratorProcess:
    """One per Locust process that has users. Its messages name the run they belong to; others are ignored."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._run = ""
        self._slot = 0
        self._share: Share | None = None
        self._numbers = itertools.count()
        self._turns: Iterator[int] = iter(())
        self._slots = 1
        self._dispatch: gevent.Greenlet | None = None
        self._live: gevent.Greenlet | None = None
        # None while a run is prepared or on; the greenlet that ended it, or is about to, afterwards.
        self._ending: gevent.Greenlet | None = gevent.spawn(lambda: None)
        self.sending = Event()
        for name, handler in (
            ("fave_prepare", self._prepare),
            ("fave_go", self._go),
            ("fave_regime", self._tag),
            ("fave_stop", self._stopped),
        ):
            self._runner.register_message(name, handler, concurrent=True)

    @property
    def _runner(self) -> Runner:
        runner: Runner = self._environment.runner
        return runner

    def _tell(self, kind: str, **data: Any) -> None:
        self._runner.send_message(f"fave_{kind}", {"run": self._run, "slot": self._slot, **data})

    def _prepare(self, environment: Any, msg: Any, **_: Any) -> None:
        """Make ready: options, schedule, files, connections."""
        data = msg.data
        self.stop()
        self._run, self._slot = data["run"], data["slot"]
        try:
            self._make_ready(data, msgspec.convert(data["options"], RunOptions))
        except Exception as error:  # noqa: BLE001 - a user class is anybody's code; the coordinator must hear of it
            text, code = in_words(error)
            self._tell("refused", error=text, exit_code=code)
            return
        self.sending.clear()
        self._ending = None
        share = self._share
        self._tell("ready", total=share.total if share else 0, sha256=share.sha256 if share else "")

    def _make_ready(self, data: dict[str, Any], options: RunOptions) -> None:
        user_class = user_class_named(self._environment, data["user_class"])
        endpoints = find()
        asking = user_class.asking(options, endpoints.bucket)
        arrivals = user_class.arrivals(options)
        self._turns = user_class.turns(options) or iter(())
        slots: int = data["slots"]
        self._slots = slots
        self._numbers = itertools.count()
        # In a thread: reading a long trace must not keep this process from answering its master.
        threads = gevent.get_hub().threadpool
        self._share = None if arrivals is None else threads.apply(take_share, (arrivals, self._slot, slots))
        out = Path(options.out) if options.out else None
        refuse_rows_of_another_run(out, f"arrivals-{self._slot}.jsonl")
        self._recorder = Recorder(out, self._slot, directed=options.directed)
        cap = options.max_in_flight // slots + (self._slot < options.max_in_flight % slots)
        calls = Calls(
            gateway_url=endpoints.gateway_url,
            asking=asking,
            id_prefix=options.id_prefix or f"adhoc-{self._run}",
            timeout_s=Duration.parse(options.request_timeout),
            retries=options.retries,
        )
        self._tags = Tags([tuple(tag) for tag in data["tags"]])
        fire = self._environment.events.request.fire
        # Users who wait are never more than there are: the cap is for those who do not.
        connections = cap if self._share is not None else _UNBOUNDED
        self._sender = Sender(calls, connections=connections, recorder=self._recorder, fire=fire)
        self._sender.started_at_ns = utc_ns()
        self._dispatcher = Dispatcher(self._sender, self._recorder, max_in_flight=cap, tags=self._tags)

    def _go(self, environment: Any, msg: Any, **_: Any) -> None:
        if msg.data["run"] != self._run:
            return
        self._sender.started_at_ns = msg.data["t0_ns"]
        start_s = time.monotonic() + (msg.data["t0_ns"] - utc_ns()) / 1e9
        self._recorder.started()
        self._live = gevent.spawn(self._report, watched=msg.data["watched"])
        if self._share is not None:
            self._dispatch = gevent.spawn(self._send_share, self._share, start_s)
        self.sending.set()

    def _send_share(self, share: Share, start_s: float) -> None:
        try:
            self._dispatcher.run(share, start_s)
        finally:
            self._finish()

    def _tag(self, environment: Any, msg: Any, **_: Any) -> None:
        if msg.data["run"] == self._run and self.sending.is_set():
            self._tags.change((msg.data["at_ns"] - self._sender.started_at_ns) // 1000, msg.data["regime"])

    def _stopped(self, environment: Any, msg: Any, **_: Any) -> None:
        if msg.data["run"] == self._run:
            self.stop()

    def stop(self) -> None:
        """End the run here, if one is on; every arrival of the share has a row afterwards."""
        if self._dispatch is not None:
            self._dispatch.kill()
        # Also where it was killed before it began, or was prepared and never started.
        self._finish()

    def send_next(self) -> None:
        """One request of a closed-loop user, now: its reply decides when the user sends the next one."""
        self.sending.wait()
        self._send_now(self._slot + next(self._numbers) * self._slots)

    def send_turn(self) -> bool:
        """The next scheduled request of a user who waits for replies, late if need be; False: there is none."""
        self.sending.wait()
        due_us = next(self._turns, None)
        if due_us is None:
            self.stop()
            return False
        gevent.sleep(max(0.0, (self._sender.started_at_ns + due_us * 1000 - utc_ns()) / 1e9))
        self._send_now(next(self._numbers))
        return True

    def _send_now(self, k: int) -> None:
        at_us = (utc_ns() - self._sender.started_at_ns) // 1000
        row = self._sender.row(k, at_us, *self._tags.at(at_us))
        row.fired_at_ns = row.scheduled_at_ns
        self._sender.in_flight[k] = row
        self._sender.send(row)

    def _report(self, *, watched: bool) -> None:
        while True:
            gevent.sleep(LIVE_EVERY_S)
            self._recorder.flush()
            if watched:
                self._tell_live()

    def _tell_live(self) -> None:
        self._tell("live", in_flight=len(self._sender.in_flight), **self._recorder.since_last())

    def _finish(self) -> None:
        """Once, in a greenlet of its own: several may ask, and one that is killed must not take the end along."""
        if self._ending is None:
            self._ending = gevent.spawn(self._wind_up)
        self._ending.join()

    def _wind_up(self) -> None:
        if self._live is not None:
            self._live.kill()
        if self._share is not None:
            self._dispatcher.close(self._share)
        else:
            self._sender.give_up()
        self._recorder.close()
        self._tell_live()
        recorder = self._recorder
        self._tell(
            "done",
            counts=recorder.counts,
            due_us=recorder.due_us.tobytes(),
            sent_us=recorder.sent_us.tobytes(),
            latency_us=recorder.latency_us.tobytes(),
            cpu_share=recorder.cpu_share,
            trouble=recorder.trouble,
        )
        self._dispatch = self._live = None
        self.sending.clear()


def in_words(error: Exception) -> tuple[str, int]:
    """What a person is told of it, and the exit code; a defect's traceback goes into the log."""
    if isinstance(error, OSError):
        return str(error), 1
    if isinstance(error, MISTAKES):
        return str(error), getattr(error, "exit_code", EXIT_CONFIG)
    _log.error("a defect, not a mistake", exc_info=error)
    return f"{type(error).__name__}: {error}", 1


def refuse_rows_of_another_run(out: Path | None, pattern: str) -> None:
    """Rows are appended: two runs in one folder would be taken for one.

    Raises
    ------
    ConfigError
        When the folder has some.
    """
    if out is not None and any(out.glob(pattern)):
        raise ConfigError(f"--out {out}: has rows of another run", hint="give each run a folder of its own")


def user_class_named(environment: Any, name: str) -> Any:
    """The user class of that name; a worker has its own import of it.

    Raises
    ------
    ConfigError
        When this process's locustfiles have no such class.
    """
    known = {cls.__name__: cls for cls in environment.user_classes} | (environment.available_user_classes or {})
    if name not in known:
        raise ConfigError(f"this process has no user class {name} (it has {', '.join(known)})")
    return known[name]
