"""Runs the graph for one request: invokes what is runnable, at most N at a time, and keeps the state."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from fave.calling import Cancellation
from fave.clock import NS_PER_S, utc_ns
from fave.errors import StorageError
from fave.wire.envelope import Envelope, Failure
from orchestrator.graph import ORCHESTRATOR
from orchestrator.invoker import Answered
from orchestrator.options import Config
from orchestrator.state import State, StateFile, TaskState
from workloads.graph import Graph
from workloads.workflow import Task, clips_of, complete, runnable

# A living owner is heard several times per lease.
_BEATS_PER_LEASE = 4

Prepare = Callable[[Task, dict[str, str]], Envelope]
Invoke = Callable[..., Answered]


class TakenAwayError(Exception):
    """The state has another owner now, or was aborted: nothing more may be written in this one's name."""


def run(
    graph: Graph,
    file: StateFile,
    prepare: Prepare,
    invoke: Invoke,
    *,
    options: Config,
    deadline_s: float,
    cancellation: Cancellation,
    attempts: dict[str, int] | None = None,
) -> None:
    """Drive `file.state` to COMPLETED or FAILED. `deadline_s` is on the monotonic clock.

    After a failure nothing new is started; what is under way is waited for, so that its rows are kept.
    attempts: by task, how many were made before (a resumed request).

    Raises
    ------
    TakenAwayError
        After what was under way has been cancelled and has ended.
    """
    state = file.state
    state.status = "RUNNING"
    made = dict(attempts or {})
    pending: set[Future[Answered]] = set()
    with ThreadPoolExecutor(options.max_concurrent_invocations, thread_name_prefix="invoke") as threads:
        while True:
            if state.error is None and time.monotonic() >= deadline_s:
                state.error = _failure("timeout", "the request's time has passed", retryable=True)
            if state.error is None:
                # No more than can run at once: what waits for a place could not be called back.
                for task in _next(graph, state)[: options.max_concurrent_invocations - len(pending)]:
                    attempt = made.get(task.name, 0) + 1
                    state.tasks[task.name] = TaskState(status="RUNNING", attempt=attempt)
                    envelope = prepare(task, state.etags())
                    begun = functools.partial(setattr, state.tasks[task.name], "attempt")
                    pending.add(
                        threads.submit(
                            invoke, task, envelope, attempt=attempt, deadline_s=deadline_s, begins_attempt=begun
                        )
                    )
            if not pending:
                break
            # Saved while the stages work, so that the store's latency is not on the request's path.
            if not _beat(file, options):
                cancellation.cancel()
                for future in wait(pending).done:
                    _record(state, future.result(), options)
                raise TakenAwayError
            finished, pending = wait(pending, timeout=options.lease_s / _BEATS_PER_LEASE, return_when=FIRST_COMPLETED)
            for future in finished:
                _record(state, future.result(), options)
    if state.error is None and not complete(graph, state.done(), frozenset(state.skipped)):
        state.error = _how_it_got_stuck(graph, state)
    state.status = "FAILED" if state.error else "COMPLETED"


def _beat(file: StateFile, options: Config) -> bool:
    """Save, and with it say that the owner lives; False when the state is somebody else's by now.

    A store that does not answer is no reason to stop: the next beat tries again.
    """
    # Stamped before a write that may itself take long.
    lease_s = options.lease_s + 2 * file.last_write_s
    file.state.lease_until_ns = utc_ns() + int(lease_s * NS_PER_S)
    try:
        file.save()
    except StorageError as error:
        return error.slug != "conflict"
    return True


def _next(graph: Graph, state: State) -> list[Task]:
    skipped = frozenset(state.skipped)
    return runnable(graph, state.video_uri, state.done(), frozenset(state.tasks), skipped)


def _record(state: State, outcome: Answered, options: Config) -> None:
    state.tasks[outcome.task.name] = TaskState(
        status="FAILED" if outcome.error else "COMPLETED",
        attempt=outcome.attempt,
        outputs=outcome.outputs,
        etags=outcome.etags,
        error=outcome.error,
    )
    state.rows += outcome.rows
    if outcome.error is None:
        return
    if outcome.task.clip and options.on_clip_failure == "skip" and outcome.error.slug != "aborted":
        state.skipped[outcome.task.clip] = outcome.error
    elif state.error is None:
        state.error = outcome.error


def _how_it_got_stuck(graph: Graph, state: State) -> Failure:
    if state.skipped and not clips_of(graph, state.done(), frozenset(state.skipped)):
        first = next(iter(state.skipped.values()))
        reason = f"every clip failed, the first one with {first.slug}: {first.reason}"
        return _failure("no-clip-left", reason, retryable=all(each.retryable for each in state.skipped.values()))
    return _failure("incomplete", "no task is left, and the graph is not done")


def _failure(slug: str, reason: str, *, retryable: bool = False) -> Failure:
    return Failure(slug=slug, stage=ORCHESTRATOR, reason=reason, retryable=retryable)
