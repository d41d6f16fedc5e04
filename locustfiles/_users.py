"""The open-loop Locust user: one dispatcher per process, however many users are asked for."""

from __future__ import annotations

from locust import User, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

import time
from pathlib import Path
from typing import Any, ClassVar

import gevent
import msgspec

from fave.arrivals import Traffic, generate, read_csv, share
from fave.endpoints import find
from fave.errors import EXIT_CONFIG, ConfigError, FaveError
from fave.settings import Duration
from locustfiles import (
    _options,  # noqa: F401 - registers FAVE's arguments
    _webtab,
)
from locustfiles._dispatch import Dispatcher, Target
from locustfiles._recording import Recorder
from locustfiles._targets import body_maker

_running: list[User] = []
_MISTAKES = (FaveError, ValueError, msgspec.ValidationError)


class OpenLoopUser(User):
    """Arrivals at the times of a seeded schedule, independent of replies.

    Subclasses say what traffic they make in `traffic`; `--schedule` replaces it by a file. Arguments: see `_options`.
    """

    abstract = True
    model: ClassVar[dict[str, Any]] = {"model": "poisson"}

    @classmethod
    def traffic(cls, options: Any) -> Traffic:
        return Traffic(requests=options.requests, duration=Duration.parse(options.duration), **cls.model)

    @task
    def send_schedule(self) -> None:
        if _running:
            # Open loop: more users do not mean more load. The schedule does.
            raise StopUser
        _running.append(self)
        try:
            _check_options(self.environment, self.environment.parsed_options)
            self._send_schedule()
        except _MISTAKES as error:
            _webtab.complain(str(error))
        finally:
            _running.remove(self)
        runner = self.environment.runner
        if runner is not None:
            # Not from this greenlet: it is one of those that end.
            gevent.spawn(runner.quit if self.environment.web_ui is None else runner.stop)
        raise StopUser

    def _send_schedule(self) -> None:
        options = self.environment.parsed_options
        assert options is not None
        schedule = read_csv(Path(options.schedule)) if options.schedule else self._generate(options)
        endpoints = find()
        function, body_for = body_maker(
            target=options.target,
            bucket=endpoints.bucket,
            inputs=options.inputs,
            query=options.query,
            regime=options.regime,
            config=options.settings,
        )
        recorder = Recorder(Path(options.out) if options.out else None, slot=0)
        dispatcher = Dispatcher(
            target=Target(endpoints.gateway_url, function, body_for, options.id_prefix or f"adhoc-{int(time.time())}"),
            max_in_flight=options.max_in_flight,
            timeout_s=Duration.parse(options.request_timeout),
            recorder=recorder,
            fire=self.environment.events.request.fire,
            context={"regime": options.regime},
        )
        _webtab.watch(dispatcher, recorder)
        try:
            dispatcher.run(share(schedule, slot=0, slots=1))
        finally:
            recorder.close(scheduled=len(schedule), started_at_ns=dispatcher.started_at_ns)

    def _generate(self, options: Any) -> tuple[int, ...]:
        return generate(self.traffic(options), options.seed)


@events.init.add_listener
def _refuse_headless(environment: Any, **_: Any) -> None:
    """Refuse what cannot work before anything is sent, with one clear message and an exit code."""
    if environment.web_ui is not None:
        return
    try:
        _check_options(environment, environment.parsed_options)
    except _MISTAKES as error:
        print(f"error: {error}", flush=True)  # noqa: T201 - Locust's log level may hide a log line
        # The only way to end Locust here: it logs and ignores an Exception of a listener.
        raise SystemExit(getattr(error, "exit_code", EXIT_CONFIG)) from None


def _check_options(environment: Any, options: Any) -> None:
    if isinstance(environment.runner, MasterRunner | WorkerRunner):
        raise ConfigError(
            "several Locust processes would each send the whole schedule",
            hint="run one process (without --processes, --master, --worker); it sends some hundred arrivals a second",
        )
    if options.max_in_flight < 1:
        raise ConfigError(f"--max-in-flight {options.max_in_flight}: must be at least 1")
    Duration.parse(options.request_timeout)
    if options.schedule:
        read_csv(Path(options.schedule))
    else:
        for user_class in environment.user_classes:
            user_class.traffic(options)
    find()
    body_maker(
        target=options.target,
        bucket="",
        inputs=options.inputs,
        query=options.query,
        regime=options.regime,
        config=options.settings,
    )
