"""One run, seen from the process that directs it: Locust's master, or the only process there is.

It checks what is asked for, brings the regime about, gives each process its slot, starts them at one moment, switches
regimes when the timeline or a person says so, and judges the load as it was sent.
"""

from __future__ import annotations

from locust.runners import STATE_MISSING, MasterRunner

import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event

from fave.campaign import record
from fave.campaign.record import Generated, LoadVerdict, Phase, Process
from fave.clock import utc_ns
from fave.endpoints import find
from fave.errors import EXIT_CONFIG, EXIT_INVALID_RUN, ConfigError, FaveError, PlatformError
from fave.settings import to_plain
from generator.options import AS_DEPLOYED, RunOptions
from generator.process import in_words, refuse_rows_of_another_run
from generator.switching import Regimes
from generator.verdict import describe, verdict_on
from platforms import session

# So that the first arrival, often at 0, is not late because of what happens between "now" and its greenlet.
_LEAD_S = 0.3
_READY_TIMEOUT_S = 120.0
_DONE_TIMEOUT_S = 10.0
_POLL_S = 0.2
_log = logging.getLogger("fave")


class Slot(msgspec.Struct, kw_only=True):
    """One generator process of a run. `done`: what it said at its end; None for one that was lost."""

    slot: int
    node: str
    total: int | None = None
    sha256: str = ""
    refused: str = ""
    exit_code: int = EXIT_CONFIG
    lost: bool = False
    done: dict[str, Any] | None = None

    def share_of(self, total: int, slots: int) -> int:
        return len(range(self.slot, total, slots))


class Coordinator:
    """Directs one run at a time. `watch` is told of everything that a person may look at."""

    def __init__(self, environment: Any, watch: Any) -> None:
        self._environment = environment
        self._watch = watch
        self._run = ""
        self._slots: list[Slot] = []
        self._greenlet: gevent.Greenlet | None = None
        self._timeline: gevent.Greenlet | None = None
        self._spawned = Event()
        self._options: RunOptions | None = None
        self._t0_ns = 0
        self._open_loop = True
        self._recognised = ""
        self._going = False
        self.regimes = Regimes(watch)
        runner = environment.runner
        for name, handler in (("ready", self._on_ready), ("refused", self._on_refused), ("done", self._on_done)):
            runner.register_message(f"fave_{name}", handler)
        runner.register_message("fave_live", self._on_live)

    @property
    def running(self) -> bool:
        return self._greenlet is not None

    # What Locust tells.

    def on_test_start(self, **_: Any) -> None:
        if not self.running:
            self._spawned.clear()
            self._greenlet = gevent.spawn(self._direct)

    def on_spawning_complete(self, **_: Any) -> None:
        if self.running and self._spawned.is_set() and self._options != self._asked():
            self._watch.problem("an edit of FAVE's parameters takes effect with the next run; switch regimes below")
        self._spawned.set()

    def on_stopping(self, **_: Any) -> None:
        """A person or a signal ends the run before its time; also comes after its own end, and then does nothing."""
        greenlet, self._greenlet = self._greenlet, None
        if greenlet is None:
            return
        greenlet.kill()
        if not self._run:
            self._watch.failed("stopped before the first arrival")
            self._environment.process_exit_code = EXIT_INVALID_RUN
            return
        self._send("stop")
        with contextlib.suppress(gevent.Timeout), gevent.Timeout(_DONE_TIMEOUT_S):
            while any(slot.done is None and not slot.lost for slot in self._slots):
                self._notice_lost()
                gevent.sleep(_POLL_S / 4)
        self._conclude(stopped_early=True)
        if isinstance(self._environment.runner, MasterRunner) and self._environment.web_ui is None:
            # Locust only stops when its last worker is lost, and would then wait for another one.
            self._end(None)

    def _asked(self) -> RunOptions | None:
        with contextlib.suppress(ConfigError):
            return RunOptions.of(self._environment.parsed_options)
        return None

    # What the processes tell.

    def _slot_of(self, msg: Any) -> Slot | None:
        if msg.data["run"] != self._run:
            return None
        return self._slots[msg.data["slot"]]

    def _on_live(self, environment: Any, msg: Any, **_: Any) -> None:
        if self._slot_of(msg):
            self._watch.on_live(msg.data)

    def _on_ready(self, environment: Any, msg: Any, **_: Any) -> None:
        if slot := self._slot_of(msg):
            slot.total, slot.sha256 = msg.data["total"], msg.data["sha256"]

    def _on_refused(self, environment: Any, msg: Any, **_: Any) -> None:
        if slot := self._slot_of(msg):
            slot.refused, slot.exit_code = msg.data["error"], msg.data["exit_code"]

    def _on_done(self, environment: Any, msg: Any, **_: Any) -> None:
        if slot := self._slot_of(msg):
            slot.done = msg.data

    # The run.

    def _direct(self) -> None:
        try:
            self._prepare()
            self._start()
            self._wait_until_done()
            code = self._conclude(stopped_early=False)
        except Exception as error:  # noqa: BLE001 - a user class is anybody's code, and this the last who can say so
            text, code = in_words(error)
            self._watch.failed(text)
            self._send("stop")
            self._run = ""
        self._greenlet, self._going = None, False
        self._end(code)

    def _prepare(self) -> None:
        self._run, self._t0_ns, self._going = "", 0, False
        options = self._options = RunOptions.of(self._environment.parsed_options)
        user_class = the_user_class(self._environment)
        self._watch.begin(user_class.__name__)
        options.check()
        user_class.check(options)
        nodes = self._nodes()
        if options.max_in_flight < len(nodes):
            raise ConfigError(
                f"--max-in-flight {options.max_in_flight}: at least one for each of {len(nodes)} processes"
            )
        if len(nodes) > 1 and user_class.single_process:
            raise ConfigError(f"{user_class.__name__} is one user in one process, not {len(nodes)}")
        if options.out:
            refuse_rows_of_another_run(Path(options.out), "arrivals-*.jsonl")
        self._open_loop = user_class.open_loop
        self._recognised = options.recognised()
        timeline = options.phases()
        first = timeline.phases[0].regime if timeline else options.regime
        self.regimes.begin(options.work, options.functions)
        if first != AS_DEPLOYED and not options.regime_stands:
            self._watch.status(f"applying regime {first} ...")
            self.regimes.bring_about(first)
        else:
            _insist_on(tuple(options.functions))
        tags = [(0, "", "" if options.regime == AS_DEPLOYED else options.regime)]
        if timeline:
            named = enumerate(zip(timeline.phases, timeline.starts_us, strict=True), start=1)
            tags = [(start_us, f"{i} {phase.regime}/{phase.load}", phase.regime) for i, (phase, start_us) in named]
        self._assign(options, user_class.__name__, tags)

    def _assign(self, options: RunOptions, user_class: str, tags: list[tuple[int, str, str]]) -> None:
        """Slots by the master, in the order of the workers' names: a worker's own index grows when it reconnects."""
        nodes = self._nodes()
        self._tags = tags
        self._run = f"{time.time_ns() // 1_000_000:x}"
        self._slots = [Slot(slot=i, node=node) for i, node in enumerate(nodes)]
        self._watch.status(f"making the schedule{f' from the {self._recognised}' if self._recognised else ''} ...")
        for slot in self._slots:
            data = {"slot": slot.slot, "slots": len(nodes), "user_class": user_class, "tags": tags}
            self._send("prepare", slot.node, options=msgspec.to_builtins(options), **data)
        self._wait(lambda: all(s.total is not None or s.refused for s in self._slots), "make the schedule")
        for slot in self._slots:
            if slot.refused:
                error = FaveError(slot.refused)
                error.exit_code = slot.exit_code
                raise error
        if len({(slot.total, slot.sha256) for slot in self._slots}) > 1:
            raise ConfigError(
                "the processes made different schedules", hint="do all have the same FAVE, locustfile and trace?"
            )
        if self._open_loop and not self._slots[0].total:
            raise ConfigError(
                "the schedule has no arrivals", hint="by chance, at so low a rate: send for longer, or change the seed"
            )

    def _nodes(self) -> list[str]:
        runner = self._environment.runner
        if not isinstance(runner, MasterRunner):
            return ["local"]
        clients = runner.clients
        return sorted(client.id for client in (*clients.ready, *clients.spawning, *clients.running))

    def _start(self) -> None:
        # A worker clears its statistics when it is told to spawn users: not under our feet.
        self._wait(self._all_spawn, "begin")
        self._t0_ns = utc_ns() + int(_LEAD_S * 1e9)
        if self._options and self._options.out:
            record.write(Path(self._options.out), "started.json", record.Started(self._t0_ns))
        self._send("go", t0_ns=self._t0_ns, watched=self._environment.web_ui is not None)
        self._going = True
        self._watch.go(self._t0_ns, self._tags)
        self._timeline = gevent.spawn(self._follow_timeline)

    def _all_spawn(self) -> bool:
        runner = self._environment.runner
        if not isinstance(runner, MasterRunner):
            return True
        begun = {client.id for client in (*runner.clients.spawning, *runner.clients.running)}
        return all(slot.node in begun or slot.node not in runner.clients for slot in self._slots)

    def _follow_timeline(self) -> None:
        for start_us, phase, regime in self._tags[1:]:
            gevent.sleep(max(0.0, (self._t0_ns - utc_ns()) / 1e9 + start_us / 1e6))
            # What it cannot do stands in the record; the load goes on.
            self.regimes.switch(regime, by="timeline", phase=phase)

    def switch_by_hand(self, regime: str) -> None:
        """Exchange the regime now, during a run or between runs; blocks until replica counts show it.

        Raises
        ------
        FaveError
            When there is no such regime, or the platform cannot do it.
        """
        if self.running and not self._going:
            raise ConfigError("the run is being prepared", hint="wait until arrivals are sent")
        if not self.regimes.functions:
            options = RunOptions.of(self._environment.parsed_options)
            self.regimes.begin(options.work, options.functions)
        self.regimes.switch_or_raise(regime, by="hand", begun=self._tag)

    def _tag(self, at_ns: int, regime: str) -> None:
        if self._going:
            self._send("regime", at_ns=at_ns, regime=regime)
            self._watch.switched(at_ns, regime)

    def _wait_until_done(self) -> None:
        while any(slot.done is None and not slot.lost for slot in self._slots):
            self._notice_lost()
            gevent.sleep(_POLL_S)

    def _notice_lost(self) -> None:
        runner = self._environment.runner
        if not isinstance(runner, MasterRunner):
            return
        for slot in self._slots:
            client = runner.clients.get(slot.node)
            if slot.done is None and not slot.lost and (client is None or client.state == STATE_MISSING):
                slot.lost = True
                self._watch.problem(f"worker {slot.node} is lost: all its arrivals count as unsent")

    def _conclude(self, *, stopped_early: bool) -> int:
        """Judge, write `generator.json`, say it. Returns the exit code."""
        if self._timeline is not None:
            self._timeline.kill()
        self._going = False
        self._watch.status("")
        outcome = verdict_on(
            [slot.done for slot in self._slots if slot.done is not None],
            scheduled=(self._slots[0].total or 0) if self._open_loop else None,
            stopped_early=stopped_early,
            failures=self.regimes.failures(),
        )
        options, self._run = self._options, ""
        assert options is not None
        if options.out:
            record.write(Path(options.out), "generator.json", self._record(outcome))
        self._watch.end(outcome)
        _say(describe(outcome))
        code = 0 if outcome.believed else EXIT_INVALID_RUN
        self._environment.process_exit_code = code or self._environment.process_exit_code
        return code

    def _record(self, outcome: LoadVerdict) -> Generated:
        first = self._slots[0]
        # Where files lie on this machine is nobody else's business.
        options = msgspec.structs.replace(self._options, out="", schedule="") if self._options else None
        return Generated(
            started_at_ns=self._t0_ns or utc_ns(),
            scheduled=first.total,
            schedule_sha256=first.sha256,
            read_as=self._recognised,
            options=to_plain(options),
            phases=[Phase(from_us=at, phase=phase, regime=regime) for at, phase, regime in self._tags],
            regime_switches=self.regimes.record(),
            processes=[
                Process(
                    slot=slot.slot,
                    node=slot.node,
                    lost=slot.lost,
                    scheduled=slot.share_of(first.total or 0, len(self._slots)),
                    cpu_share=slot.done["cpu_share"] if slot.done else None,
                    counts=slot.done["counts"] if slot.done else None,
                )
                for slot in self._slots
            ],
            cpu_share=max((s.done["cpu_share"] for s in self._slots if s.done), default=None),
            outcome=outcome,
        )

    def _end(self, code: int | None) -> None:
        runner = self._environment.runner
        if self._environment.web_ui is None:
            if code:
                self._environment.process_exit_code = code
            # Not from this greenlet: it is one of those that end.
            gevent.spawn(runner.quit)
        else:
            gevent.spawn(self._stop_locust)

    def _stop_locust(self) -> None:
        """Locust says that it runs when it has spawned its users, also when it was stopped before."""
        self._spawned.wait(_DONE_TIMEOUT_S)
        self._environment.runner.stop()

    def _wait(self, holds: Any, what: str) -> None:
        deadline_s = time.monotonic() + _READY_TIMEOUT_S
        while not holds():
            if time.monotonic() > deadline_s:
                raise PlatformError(f"the Locust processes did not {what} within {_READY_TIMEOUT_S:g} s")
            gevent.sleep(_POLL_S / 10)

    def _send(self, kind: str, node: str = "", **data: Any) -> None:
        client_id = node if isinstance(self._environment.runner, MasterRunner) and node else None
        self._environment.runner.send_message(f"fave_{kind}", {"run": self._run, **data}, client_id)


def the_user_class(environment: Any) -> Any:
    """The one user class of a run.

    Raises
    ------
    ConfigError
        When several are chosen: each would be a run of its own.
    """
    classes = list(environment.user_classes)
    if len(classes) != 1:
        names = ", ".join(cls.__name__ for cls in classes) or "none"
        raise ConfigError(
            f"one user class at a time, not {names}", hint="choose one in the class picker, or one -f file"
        )
    if not hasattr(classes[0], "open_loop"):
        raise ConfigError(
            f"{classes[0].__name__} is none of FAVE's user classes", hint="docs/load.md says how to write one"
        )
    return classes[0]


def _insist_on(functions: tuple[str, ...]) -> None:
    endpoints = find()
    deployed = session.at(endpoints).counts()
    missing = [function for function in functions if function not in deployed]
    if missing:
        hint = "give --regime NAME, which deploys them, or: python -m regimes apply cold"
        raise PlatformError(f"not deployed at {endpoints.gateway_url}: {', '.join(missing)}", hint=hint)


def _say(text: str) -> None:
    # Not a log line: Locust's log level may hide those.
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
