"""The open-loop Locust user: arrivals at the times of a seeded schedule, however many users or processes there are."""

from __future__ import annotations

import locust.stats
from locust import User, events, task
from locust.runners import LocalRunner, WorkerRunner

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gevent

from fave.errors import EXIT_CONFIG, ConfigError
from fave.traffic.arrivals import Traffic, read_csv, stream
from generator.coordinator import Coordinator, the_user_class
from generator.live import Live
from generator.options import RunOptions
from generator.process import MISTAKES, GeneratorProcess
from generator.webtab import install
from workloads.asking import Asking

_FOR_EVER_S = 1e9
_processes: dict[int, GeneratorProcess] = {}
_coordinators: dict[int, Coordinator] = {}


class FaveUser(User):
    """What every FAVE user has: a target, and the process that sends for it. Subclass one of the two below."""

    abstract = True
    open_loop: ClassVar[bool] = False
    single_process: ClassVar[bool] = False

    @classmethod
    def asking(cls, options: RunOptions, bucket: str) -> Asking:
        """What arrivals ask: the target's requests of the workload."""
        return options.asking(bucket)

    @classmethod
    def arrivals(cls, options: RunOptions) -> Iterator[int] | None:
        """The schedule in ascending microseconds from the start; None for users that wait for replies."""
        raise NotImplementedError

    @classmethod
    def turns(cls, options: RunOptions) -> Iterator[int] | None:
        """For closed-loop users who have a schedule to keep up with: when each request is due, in microseconds."""
        return None

    @classmethod
    def check(cls, options: RunOptions) -> None:
        """Refuse what cannot work, before anything is sent.

        Raises
        ------
        ConfigError
            With what is wrong.
        """
        cls.asking(options, bucket="")

    @property
    def process(self) -> GeneratorProcess:
        return _processes[id(self.environment)]


class OpenLoopUser(FaveUser):
    """Arrivals that do not wait for replies. A subclass says in `load`, or in `traffic`, which.

    `--schedule` (a file) and `--timeline` (phases) take the place of the class's own traffic.
    """

    abstract = True
    open_loop = True
    load: ClassVar[str] = "steady"

    @classmethod
    def traffic(cls, options: RunOptions) -> Traffic:
        """The model: by default the class's named load with the run's rate and duration."""
        return options.traffic(cls.load)

    @classmethod
    def arrivals(cls, options: RunOptions) -> Iterator[int]:
        if options.schedule:
            return read_csv(Path(options.schedule))
        timeline = options.phases()
        return timeline.arrivals(options.seed) if timeline else stream(cls.traffic(options), options.seed)

    @classmethod
    def check(cls, options: RunOptions) -> None:
        super().check(options)
        if options.timeline and (options.schedule or options.cv or options.modulation or options.trace):
            raise ConfigError("--timeline has its own loads: not with --schedule, --cv, --modulation, --trace")
        # The first arrival shows whether there is a schedule; mistakes further down are found before the start.
        next(cls.arrivals(options), None)

    @task
    def wait_for_the_end(self) -> None:
        # Open loop: the process sends, once, what the schedule says. More users do not mean more load.
        gevent.sleep(_FOR_EVER_S)


class ClosedLoopUser(FaveUser):
    """Users who wait for each reply, and then for `wait_time`: for people who want users and think time.

    What leaves, and when, depends on the system; a slow reply delays all that follows, and hides how long they would
    have waited (`make distortion`).
    """

    abstract = True

    @classmethod
    def arrivals(cls, options: RunOptions) -> None:
        return None

    @classmethod
    def check(cls, options: RunOptions) -> None:
        super().check(options)
        if options.timeline or options.schedule:
            raise ConfigError(f"{cls.__name__} has no schedule: --timeline and --schedule are for open-loop users")
        unused = ("rate", "duration", "seed", "cv", "modulation")
        given = [name for name in unused if getattr(options, name) != getattr(RunOptions(), name)]
        if given:
            hint = "closed-loop users are as many as -u says, and send for as long as -t says"
            raise ConfigError(f"{cls.__name__} has no {', '.join(f'--{name}' for name in given)}", hint=hint)

    def send(self) -> None:
        """One request. Override this and not the task: Locust would run both."""
        self.process.send_next()

    @task
    def _send_again(self) -> None:
        self.send()


def _whole_milliseconds(response_time: float) -> int:
    return round(response_time)


# Locust rounds to two digits before it makes percentiles. Ours are exact to the millisecond that it shows.
locust.stats.bucket_response_time = _whole_milliseconds


@events.init.add_listener
def _set_up(environment: Any, **_: Any) -> None:
    runner, web_ui = environment.runner, environment.web_ui
    if runner is None:
        return
    if isinstance(runner, WorkerRunner):
        process = _processes[id(environment)] = GeneratorProcess(environment)
        environment.events.test_stopping.add_listener(lambda **_: process.stop())
        # Before Locust tells the master that this worker leaves: what it did must be told first.
        environment.events.quitting.add_listener(lambda **_: process.stop())
        return
    _refuse_headless(environment)
    live = Live(on_page=web_ui is not None)
    coordinator = _coordinators[id(environment)] = Coordinator(environment, live)
    environment.events.test_start.add_listener(coordinator.on_test_start)
    environment.events.spawning_complete.add_listener(coordinator.on_spawning_complete)
    environment.events.test_stopping.add_listener(coordinator.on_stopping)
    if isinstance(runner, LocalRunner):
        _processes[id(environment)] = GeneratorProcess(environment)
    if web_ui:
        install(environment, live, coordinator)


@events.quitting.add_listener
def _before_the_exit_code(environment: Any, **_: Any) -> None:
    """Locust decides on its exit code next, and stops the run only after that."""
    if coordinator := _coordinators.get(id(environment)):
        coordinator.on_stopping()


def _refuse_headless(environment: Any) -> None:
    """Refuse what cannot work before anything is sent, with one clear message and an exit code."""
    if environment.web_ui is not None:
        return
    try:
        options = RunOptions.of(environment.parsed_options)
        options.check()
        the_user_class(environment).check(options)
    except MISTAKES as error:
        print(f"error: {error}", flush=True)  # noqa: T201 - Locust's log level may hide a log line
        # The only way to end Locust here: it logs and ignores an Exception of a listener.
        raise SystemExit(getattr(error, "exit_code", EXIT_CONFIG)) from None
