"""What can be done with a request from outside: look, abort, replay one stage."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import msgspec

from fave.clock import utc_ns
from fave.envelope import Failure, Reply, StageMetadata
from fave.errors import GatewayError, StageError, StorageError
from fave.gateway_client import GatewayClient
from fave.invocation import Invocation
from fave.storage import Store
from orchestrator.resume import written_by_stages
from orchestrator.state import OVER, State, load
from orchestrator.workflow import task_named

_TRIES = 20


def progress(store: Store, state: State) -> dict[str, Any]:
    uri = store.uri(f"requests/{state.request_id}/metadata/final.json")
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
        file.state.error = Failure(slug="aborted", stage="orchestrator", reason="the request was aborted")
        try:
            file.save()
        except StorageError as error:
            if error.slug != "conflict":
                raise
            continue  # its owner was faster: look again
        return file.state
    raise StageError("conflict", f"{request_id} changes too fast to be aborted", retryable=True)


def replay(
    store: Store, gateway: GatewayClient, request_id: str, name: str, *, deadline_s: float
) -> tuple[int, dict[str, Any]]:
    """One stage again, with the order and the inputs of its last attempt; request and counts stay as they are.

    Returns the stage's own reply with `same_outputs`: whether every output came out as the request has it.
    """
    state = load(store, request_id).state
    if state.status not in OVER:
        raise StageError("running", f"{request_id} is still being worked on", retryable=True)
    try:
        task = task_named(name)
    except KeyError as error:
        raise StageError("bad-request", f"{name!r} is no stage of the pipeline") from error
    last = _last_attempt(store, request_id, task.name)
    if last is None or last.envelope is None:
        raise StageError("not-found", f"{request_id} has no stored order for {name}")
    timeout_s = max(1.0, deadline_s - time.monotonic() - 1)
    call = Invocation(
        request_id=request_id,
        invocation_id=f"replay-{uuid4().hex}",
        attempt=last.attempt + 1,
        sent_at_ns=utc_ns(),
    )
    headers = call.headers() | {"Content-Type": "application/json", "X-Timeout": f"{timeout_s:.3f}s"}
    try:
        response = gateway.invoke(task.stage, msgspec.json.encode(last.envelope), headers, timeout_s=timeout_s)
        reply = msgspec.json.decode(response.content, type=Reply)
    except (GatewayError, msgspec.MsgspecError) as error:
        raise StageError("platform", f"{name} gave no answer: {error}", retryable=True) from error
    known = state.tasks[task.name].etags if task.name in state.tasks else {}
    return response.status_code, {"reply": reply, "same_outputs": bool(reply.etags) and reply.etags == known}


def _last_attempt(store: Store, request_id: str, task: str) -> StageMetadata | None:
    kept = [each.metadata for each in written_by_stages(store, request_id) if each.task == task]
    return max(kept, key=lambda metadata: metadata.attempt, default=None)
