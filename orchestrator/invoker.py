"""Calls one stage through the gateway, again where that may help, and joins the caller's side of its rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from fave.calling import Caller, Cancellation
from fave.clock import utc_ns
from fave.errors import GatewayError, StorageError
from fave.storage import Store
from fave.wire import keys
from fave.wire.envelope import Envelope, Failure, Reply, StageMetadata
from fave.wire.invocation import Invocation, with_caller_side
from fave.wire.records import StageRow
from orchestrator.options import Config
from orchestrator.retry import Budget, delay_s
from workloads.workflow import Task

# The host answers a timeout itself, with its stamps: wait for that, not just for the time.
_HOST_MARGIN_S = 1.5
# After these the stage may have done its work all the same.
_UNKNOWN_END = frozenset(("gateway", "timeout"))
_SLUG_OF_STATUS = {429: "busy", 504: "timeout"}


class Answered(NamedTuple):
    """rows: one per attempt. attempt: the last one."""

    task: Task
    attempt: int
    outputs: tuple[str, ...]
    etags: dict[str, str]
    rows: tuple[StageRow, ...]
    error: Failure | None


class _Answer(NamedTuple):
    row: StageRow
    outputs: tuple[str, ...]
    etags: dict[str, str]
    error: Failure | None
    retry_after_s: float


class Invoker:
    """For one request. Threads share it."""

    def __init__(
        self,
        gateway: Caller,
        store: Store,
        *,
        request_id: str,
        owner: str,
        parent_id: str,
        options: Config,
        config: Mapping[str, dict[str, Any]],
        parts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.cancellation = Cancellation()
        self._gateway = gateway
        self._store = store
        self._request_id = request_id
        self._owner = owner
        self._parent_id = parent_id
        self._options = options
        self._config = config
        self._parts = parts or {}
        self._budget = Budget(options.retry_budget)

    def envelope(self, task: Task, etags: Mapping[str, str]) -> Envelope:
        return Envelope(
            request_id=self._request_id,
            stage=task.stage,
            clip=task.clip,
            input_uris=task.inputs,
            output_uri=self._store.uri(keys.outputs(self._request_id, task.name)),
            etags={uri: etags[uri] for uri in task.inputs if uri in etags},
            config=self._config.get(task.stage, {}),
        )

    def invoke(
        self,
        task: Task,
        envelope: Envelope,
        *,
        attempt: int,
        deadline_s: float,
        begins_attempt: Callable[[int], None] = lambda _: None,
    ) -> Answered:
        """Never raises for what the stage or the gateway does: a failure is an outcome, with its rows.

        attempt: the number of the first one. deadline_s: of the whole request, on the monotonic clock. begins_attempt:
        told the number of every attempt, for the state.
        """
        rows: list[StageRow] = []
        first = attempt
        while True:
            begins_attempt(attempt)
            timeout_s = min(self._timeout_s(task.stage), deadline_s - time.monotonic())
            answer = self._attempt(task, envelope, attempt, max(0.001, timeout_s))
            if answer.error and answer.error.slug in _UNKNOWN_END and not self.cancellation.cancelled.is_set():
                answer = self._looked_up(task, attempt, answer)
            rows.append(answer.row)
            error = answer.error
            number = attempt - first + 1
            most, after_s = self._options.max_attempts, answer.retry_after_s
            wait_s = delay_s(error, number, max_attempts=most, after_s=after_s) if error else None
            hopeless = wait_s is None or time.monotonic() + wait_s >= deadline_s
            if hopeless or not self._budget.take() or self.cancellation.cancelled.wait(wait_s):
                return Answered(task, attempt, answer.outputs, answer.etags, tuple(rows), error)
            attempt += 1

    def _timeout_s(self, function: str) -> float:
        """One that runs several stages has the time of all of them."""
        return sum(self._options.timeout_s(stage) for stage in self._parts.get(function, (function,)))

    def _attempt(self, task: Task, envelope: Envelope, attempt: int, timeout_s: float) -> _Answer:
        body = msgspec.json.encode(envelope)
        call = Invocation(
            request_id=self._request_id,
            invocation_id=invocation_id(self._owner, task.name, attempt),
            parent_id=self._parent_id,
            attempt=attempt,
            sent_at_ns=utc_ns(),
        )
        headers = call.headers() | {"Content-Type": "application/json", "X-Timeout": f"{timeout_s:.3f}s"}
        try:
            response = self._gateway.invoke(
                task.stage,
                body,
                headers,
                timeout_s=timeout_s + _HOST_MARGIN_S,
                cancellation=self.cancellation,
            )
        except GatewayError as error:
            return self._refused(task, call, self._failure_of(error, task.stage), {})
        returned_at_ns = utc_ns()
        try:
            reply = msgspec.json.decode(response.content, type=Reply)
        except msgspec.MsgspecError:
            slug = _SLUG_OF_STATUS.get(response.status_code, "platform")
            reason = f"gateway answered {response.status_code}: {response.text[:200].strip() or '(empty)'}"
            failure = Failure(slug=slug, stage=task.stage, reason=reason, retryable=True)
            return self._refused(task, call, failure, response.headers)
        row = reply.telemetry or self._bare_row(task, call)
        if reply.error is not None and reply.telemetry is None:
            row.status, row.error = "failed", f"{reply.error.slug}: {reply.error.reason}"
        with_caller_side(row, sent_at_ns=call.sent_at_ns, returned_at_ns=returned_at_ns, headers=response.headers)
        return _Answer(row, reply.outputs, reply.etags, reply.error, 0.0)

    def _failure_of(self, error: GatewayError, stage: str) -> Failure:
        if self.cancellation.cancelled.is_set():
            return Failure(slug="aborted", stage=stage, reason="the request was aborted")
        slug = "timeout" if error.status == 504 else "gateway" if error.sent else "connect"
        return Failure(slug=slug, stage=stage, reason=error.message, retryable=True)

    def _refused(self, task: Task, call: Invocation, failure: Failure, headers: Mapping[str, str]) -> _Answer:
        row = self._bare_row(task, call)
        # After a timeout the stage may still finish and write its row; a refusal is final.
        row.status = "lost" if failure.slug in _UNKNOWN_END else "failed"
        row.error = f"{failure.slug}: {failure.reason}"
        with_caller_side(row, sent_at_ns=call.sent_at_ns, returned_at_ns=utc_ns(), headers=headers)
        asked_s = headers.get("Retry-After", "")
        return _Answer(row, (), {}, failure, float(asked_s) if asked_s.isdigit() else 0.0)

    def _looked_up(self, task: Task, attempt: int, answer: _Answer) -> _Answer:
        """The answer that was lost on its way, from the store, where the stage keeps it."""
        key = keys.metadata(self._request_id, task.name, attempt)
        try:
            kept = msgspec.json.decode(self._store.get(self._store.uri(key)), type=StageMetadata)
        except (StorageError, msgspec.MsgspecError):
            return answer
        if kept.status != "ok" or kept.invocation_id != answer.row.invocation_id:
            return answer
        row = row_of(kept)
        with_caller_side(row, sent_at_ns=answer.row.sent_at_ns, returned_at_ns=answer.row.returned_at_ns, headers={})
        return _Answer(row, kept.outputs, kept.etags, None, 0.0)

    def _bare_row(self, task: Task, call: Invocation) -> StageRow:
        return StageRow(
            request_id=self._request_id,
            invocation_id=call.invocation_id,
            parent_id=self._parent_id,
            attempt=call.attempt,
            stage=task.stage,
            clip=task.clip,
        )


def invocation_id(owner: str, task: str, attempt: int) -> str:
    """Made of what the state knows, so that who takes a request over can name what was under way."""
    return f"{owner}.{task.replace('/', '.')}.{attempt}"


def row_of(metadata: StageMetadata) -> StageRow:
    """The row alone, without outputs and order."""
    return StageRow(**{name: getattr(metadata, name) for name in StageRow.__struct_fields__})
