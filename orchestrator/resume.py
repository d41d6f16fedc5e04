"""What a request's earlier owner left behind, put together from its state and from what the stages wrote."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from fave.storage import Store
from fave.wire import keys
from fave.wire.envelope import StageMetadata
from fave.wire.records import StageRow
from orchestrator.graph import ORCHESTRATOR
from orchestrator.invoker import invocation_id, row_of
from orchestrator.state import OVER, State, TaskState


class Kept(NamedTuple):
    task: str
    metadata: StageMetadata


def written_by_stages(store: Store, request_id: str) -> list[Kept]:
    """Every attempt that a stage wrote down, in the store's order."""
    found = []
    for key in store.keys(keys.of_request(request_id)):
        whose = keys.written(key)
        if whose:
            found.append(Kept(whose.task, msgspec.json.decode(store.get(store.uri(key)), type=StageMetadata)))
    return found


def take_up(state: State, kept: Iterable[Kept], own: StageRow) -> dict[str, int]:
    """Make `state` the state of a new owner; returns how many attempts each task has had. Pure.

    Finished work counts, whether the earlier owner got to know of it or not; everything else is open again. An
    attempt of which nothing is known any more has a row with status `lost`. No row is there twice.
    """
    previous = state.invocation
    if state.status not in OVER:
        previous.status, previous.error = "lost", "the orchestrator did not get to the end of this request"
    rows = {_key(row): row for row in [previous, *state.rows]}
    attempts = {name: task.attempt for name, task in state.tasks.items()}
    finished = {name: task for name, task in state.tasks.items() if task.status == "COMPLETED"}
    for name, metadata in kept:
        attempts[name] = max(attempts.get(name, 0), metadata.attempt)
        if metadata.status == "ok":
            known = finished.get(name)
            if known is None or known.attempt < metadata.attempt:
                # The newest is what lies in the store, be it a replay's.
                finished[name] = TaskState(
                    status="COMPLETED", attempt=metadata.attempt, outputs=metadata.outputs, etags=metadata.etags
                )
            if known is not None:
                continue  # a replay, or what a lost owner had begun and somebody else has done: counted once
        row = row_of(metadata)
        written = rows.get(_key(row))
        # The stage knows how its work ended: its caller may have left before (aborted, timed out, cut off). Where
        # both say the same, the caller's row is kept, which has the caller's stamps too.
        if written is None or written.status != row.status:
            rows[_key(row)] = row
    for name, task in state.tasks.items():
        row = _lost(state, name, task)
        if task.status == "RUNNING" and name not in finished:
            rows.setdefault(_key(row), row)
    state.invocation = own
    state.rows = list(rows.values())
    state.tasks = finished
    state.skipped = {}
    state.error = None
    return attempts


def _key(row: StageRow) -> str:
    """What makes a row the row of one attempt; callers may reuse their own ids."""
    return f"{row.stage} {row.started_at_ns}" if row.stage == ORCHESTRATOR else row.invocation_id


def _lost(state: State, name: str, task: TaskState) -> StageRow:
    stage, _, clip = name.partition("/")
    return StageRow(
        request_id=state.request_id,
        invocation_id=invocation_id(state.owner, name, task.attempt),
        parent_id=state.invocation.invocation_id,
        attempt=task.attempt,
        stage=stage,
        clip=clip,
        status="lost",
        error="its caller ended before it was answered",
    )
