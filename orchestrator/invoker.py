"""Calls one stage through the gateway and joins the caller's side of its row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from fave.clock import utc_ns
from fave.envelope import Envelope, Failure, Reply
from fave.errors import GatewayError
from fave.gateway_client import GatewayClient
from fave.invocation import Invocation, with_caller_side
from fave.records import StageRow
from orchestrator.workflow import Task


class Outcome(NamedTuple):
    task: Task
    outputs: tuple[str, ...]
    row: StageRow
    error: Failure | None


class Invoker:
    """For one request. Threads may share it."""

    def __init__(
        self,
        gateway: GatewayClient,
        *,
        request_id: str,
        parent_id: str,
        prefix: str,
        config: Mapping[str, dict[str, Any]],
    ) -> None:
        self._gateway = gateway
        self._request_id = request_id
        self._parent_id = parent_id
        self._prefix = prefix
        self._config = config

    def invoke(self, task: Task, *, timeout_s: float) -> Outcome:
        """Never raises for what the stage or the gateway does: a failure is an outcome, with its row."""
        folder = f"{task.stage}/{task.clip}/" if task.clip else f"{task.stage}/"
        envelope = Envelope(
            request_id=self._request_id,
            stage=task.stage,
            clip=task.clip,
            input_uris=task.inputs,
            output_uri=f"{self._prefix}{folder}",
            config=self._config.get(task.stage, {}),
        )
        body = msgspec.json.encode(envelope)
        call = Invocation(
            request_id=self._request_id, invocation_id=uuid4().hex, parent_id=self._parent_id, sent_at_ns=utc_ns()
        )
        headers = call.headers() | {"Content-Type": "application/json", "X-Timeout": f"{timeout_s:.3f}s"}
        try:
            response = self._gateway.invoke(task.stage, body, headers, timeout_s=timeout_s)
        except GatewayError as error:
            slug = "timeout" if error.status == 504 else "gateway"
            return self._failed(
                task, call, Failure(slug=slug, stage=task.stage, reason=error.message, retryable=True), {}
            )
        returned_at_ns = utc_ns()
        try:
            reply = msgspec.json.decode(response.content, type=Reply)
        except msgspec.MsgspecError:
            reason = f"gateway answered {response.status_code}: {response.text[:200].strip() or '(empty)'}"
            slug = "timeout" if response.status_code == 504 else "platform"
            failure = Failure(slug=slug, stage=task.stage, reason=reason, retryable=True)
            return self._failed(task, call, failure, response.headers)
        row = reply.telemetry or self._bare_row(task, call)
        with_caller_side(row, sent_at_ns=call.sent_at_ns, returned_at_ns=returned_at_ns, headers=response.headers)
        return Outcome(task, reply.outputs, row, reply.error)

    def _bare_row(self, task: Task, call: Invocation) -> StageRow:
        return StageRow(
            request_id=self._request_id,
            invocation_id=call.invocation_id,
            parent_id=self._parent_id,
            attempt=call.attempt,
            stage=task.stage,
            clip=task.clip,
        )

    def _failed(self, task: Task, call: Invocation, failure: Failure, headers: Mapping[str, str]) -> Outcome:
        row = self._bare_row(task, call)
        # After a time-out the stage may still finish and write its row; a refusal is final.
        row.status = "lost" if failure.slug == "timeout" else "failed"
        row.error = f"{failure.slug}: {failure.reason}"
        with_caller_side(row, sent_at_ns=call.sent_at_ns, returned_at_ns=utc_ns(), headers=headers)
        return Outcome(task, (), row, failure)
