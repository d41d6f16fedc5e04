"""Runs the graph for one request: invokes what is runnable, at most N at a time, and keeps the state."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from fave.envelope import Failure
from orchestrator.invoker import Outcome
from orchestrator.state import State, StateFile, TaskState
from orchestrator.workflow import PIPELINE, Task, complete, runnable

Invoke = Callable[..., Outcome]


def run(file: StateFile, invoke: Invoke, *, max_concurrent: int, deadline_s: float) -> None:
    """Drive `file.state` to COMPLETED or FAILED. `deadline_s` is on the monotonic clock.

    After a failure nothing new is started; what is under way is waited for, so that its rows are kept.
    """
    state = file.state
    state.status = "RUNNING"
    pending: set[Future[Outcome]] = set()
    with ThreadPoolExecutor(max_concurrent, thread_name_prefix="invoke") as threads:
        while True:
            remaining_s = deadline_s - time.monotonic()
            if state.error is None and remaining_s <= 0:
                state.error = Failure(slug="timeout", stage="orchestrator", reason="the request's deadline passed")
            if state.error is None:
                # No more than can run at once: what waits for a place could not be called back.
                for task in _next(state)[: max_concurrent - len(pending)]:
                    state.tasks[task.name] = TaskState(status="RUNNING")
                    pending.add(threads.submit(invoke, task, timeout_s=remaining_s))
            if not pending:
                break
            # Saved while the stages work, so that the store's latency is not on the request's path.
            file.save()
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                _record(state, future.result())
    if state.error is None and not complete(PIPELINE, _outputs(state)):
        state.error = Failure(
            slug="incomplete", stage="orchestrator", reason="no task is left, and the graph is not done"
        )
    state.status = "FAILED" if state.error else "COMPLETED"
    file.save()


def _outputs(state: State) -> dict[str, tuple[str, ...]]:
    return {name: task.outputs for name, task in state.tasks.items() if task.status == "COMPLETED"}


def _next(state: State) -> list[Task]:
    return runnable(PIPELINE, state.video_uri, _outputs(state), frozenset(state.tasks))


def _record(state: State, outcome: Outcome) -> None:
    state.tasks[outcome.task.name] = TaskState(
        status="FAILED" if outcome.error else "COMPLETED", outputs=outcome.outputs, error=outcome.error
    )
    state.rows.append(outcome.row)
    if outcome.error and state.error is None:
        state.error = outcome.error
