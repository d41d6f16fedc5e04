"""What can be done with a request from outside: look, abort, replay one stage."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from fave.calling import Caller
from fave.errors import StageError, StorageError
from fave.storage import Store
from fave.wire import keys
from fave.wire.envelope import Failure, StageMetadata, http_status_of
from orchestrator.graph import ORCHESTRATOR, graph
from orchestrator.invoker import Invoker
from orchestrator.options import options_of
from orchestrator.resume import written_by_stages
from orchestrator.state import OVER, State, load
from workloads.workflow import task_named

_TRIES = 20
# Kept from the call's time to answer it.
_ANSWER_S = 1.0


def progress(store: Store, state: State) -> dict[str, Any]:
    uri = store.uri(keys.final(state.request_id))
    return {
        "request_id": state.request_id,
        "status": state.status,
        "tasks": {name: task.status for name, task in state.tasks.items()},
        "skipped": state.skipped,
        "error": state.error,
        # The owner of an aborted request writes it a moment after.
        "final_uri": uri if state.status in OVER and store.exists(uri) else "",
    }


def abort(store: Store, request_id: str) -> State:
    """ABORTED, unless it is over already. The owner notices at its next beat, and ends what is under way."""
    for _ in range(_TRIES):
        file = load(store, request_id)
        if file.state.status in OVER:
            return file.state
        file.state.status = "ABORTED"
        file.state.error = Failure(slug="aborted", stage=ORCHESTRATOR, reason="the request was aborted")
        try:
            file.save()
        except StorageError as error:
            if error.slug != "conflict":
                raise
            continue  # its owner was faster: look again
        return file.state
    raise StageError("conflict", f"{request_id} changes too fast to be aborted", retryable=True)


def replay(
    store: Store, gateway: Caller, request_id: str, name: str, *, deadline_s: float
) -> tuple[int, dict[str, Any]]:
    """One stage again, with the order and the inputs of its last attempt; request and counts stay as they are.

    Returns its last row with `same_outputs`: whether every output came out as the request has it.
    """
    state = load(store, request_id).state
    if state.status not in OVER:
        raise StageError("running", f"{request_id} is still being worked on", retryable=True)
    try:
        task = task_named(graph(), name)
    except KeyError as error:
        raise StageError("bad-request", f"{name!r} is no stage of the pipeline") from error
    last = _last_attempt(store, request_id, task.name)
    if last is None or last.envelope is None:
        raise StageError("not-found", f"{request_id} has no stored order for {name}")
    options = options_of(state.config.get(ORCHESTRATOR, {}))
    invoker = Invoker(
        gateway, store, request_id=request_id, owner=f"replay-{uuid4().hex}", parent_id="", options=options, config={}
    )
    outcome = invoker.invoke(task, last.envelope, attempt=last.attempt + 1, deadline_s=deadline_s - _ANSWER_S)
    known = state.tasks[task.name].etags if task.name in state.tasks else {}
    same = bool(outcome.etags) and outcome.etags == known
    answer = {"row": outcome.rows[-1], "outputs": outcome.outputs, "error": outcome.error, "same_outputs": same}
    return http_status_of(outcome.error.slug) if outcome.error else 200, answer


def _last_attempt(store: Store, request_id: str, task: str) -> StageMetadata | None:
    kept = [each.metadata for each in written_by_stages(store, request_id) if each.task == task]
    return max(kept, key=lambda metadata: metadata.attempt, default=None)
