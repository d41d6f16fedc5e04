"""orchestrator, the director function: `{video_uri, query}` → ranked clips, by way of the stages."""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

import msgspec

from fave.clock import utc_ns
from fave.envelope import Failure, PipelineRequest, check_request_id, decode_body
from fave.errors import StageError, StorageError
from fave.gateway_client import GatewayClient
from fave.records import StageRow, derive
from fave.storage import Store, parse_uri
from orchestrator.invoker import Invoker
from orchestrator.runner import run
from orchestrator.state import State, StateFile

NAME = "orchestrator"
_JSON = {"Content-Type": "application/json"}
_STATUS = {"bad-request": 400, "forbidden": 403, "payload-too-large": 413, "conflict": 409}
# Kept from the request's time to write down how it ended, before the host gives up on it.
_CONCLUSION_S = 2.0
_store = Store.from_environment()
_gateway = GatewayClient(os.environ.get("GATEWAY_URL", "http://gateway.openfaas:8080"), pool_size=64)


def handle(event: Any, context: Any) -> dict[str, Any]:
    try:
        request = _accept(event, context)
        file = StateFile(_store, _new_state(request, context))
        if not file.create():
            raise StageError("conflict", f"request id {request.request_id!r} was used before")
    except (StageError, StorageError) as error:
        reason = error.reason if isinstance(error, StageError) else error.message
        failure = Failure(slug=error.slug, stage=NAME, reason=reason, retryable=error.slug == "storage")
        return _answer(_STATUS.get(error.slug, 422), {"status": "FAILED", "error": failure})
    invoker = Invoker(
        _gateway,
        request_id=request.request_id,
        parent_id=context.invocation.invocation_id,
        prefix=_store.uri(f"requests/{request.request_id}/"),
        config=_config(request),
    )
    concurrent = int(os.environ.get("MAX_CONCURRENT_INVOCATIONS", "8"))
    run(file, invoker.invoke, max_concurrent=concurrent, deadline_s=context.deadline_s - _CONCLUSION_S)
    return _conclude(file)


def _accept(event: Any, context: Any) -> PipelineRequest:
    request: PipelineRequest = decode_body(event.body, PipelineRequest)
    request_id = check_request_id(request.request_id or context.invocation.request_id or str(uuid4()))
    if parse_uri(request.video_uri).bucket != _store.bucket:
        raise StageError("forbidden", f"{request.video_uri}: only bucket {_store.bucket} may be read")
    profile = request.profile or os.environ.get("CONFIG_PROFILE", "")
    return msgspec.structs.replace(request, request_id=request_id, profile=profile)


def _config(request: PipelineRequest) -> dict[str, dict[str, Any]]:
    search = {**request.config.get("stage-search", {}), "query": request.query}
    return {**request.config, "stage-search": search}


def _new_state(request: PipelineRequest, context: Any) -> State:
    own = StageRow(
        request_id=request.request_id,
        invocation_id=context.invocation.invocation_id,
        attempt=context.invocation.attempt,
        stage=NAME,
        replica_id=context.replica.replica_id,
        sent_at_ns=context.invocation.sent_at_ns,
        received_at_ns=context.received_at_ns,
        started_at_ns=context.started_at_ns,
        process_started_at_ns=context.replica.process_started_at_ns,
        ready_at_ns=context.ready_at_ns,
        invocations_before=context.invocations_before,
        memory_limit_mb=context.replica.memory_limit_mb,
    )
    return State(
        request_id=request.request_id,
        video_uri=request.video_uri,
        query=request.query,
        profile=request.profile,
        invocation=derive(own),
    )


def _conclude(file: StateFile) -> dict[str, Any]:
    """Write final.json beside state.json and answer; the answer carries no rows, the object does."""
    state = file.state
    state.invocation.finished_at_ns = utc_ns()
    state.invocation.status = "failed" if state.error else "ok"
    derive(state.invocation)
    metrics = {
        "duration_s": state.invocation.service_s,
        "invocations": len(state.rows) + 1,
        "cold_invocations": sum(bool(row.cold) for row in [state.invocation, *state.rows]),
        "cold_wait_s": round(sum(row.cold_wait_s or 0.0 for row in [state.invocation, *state.rows]), 6),
        "cost_gb_s": round(sum(row.cost_gb_s for row in [state.invocation, *state.rows]), 6),
    }
    answer: dict[str, Any] = {
        "request_id": state.request_id,
        "status": state.status,
        "metrics": metrics,
        "error": state.error,
    }
    if state.error is None:
        ranking = next(uri for uri in state.tasks["stage-search"].outputs if uri.endswith("ranking.json"))
        answer["ranking"] = msgspec.json.decode(_store.get(ranking))["clips"]
    final_uri = _store.uri(f"requests/{state.request_id}/metadata/final.json")
    final = {"schema": state.schema, **answer, "invocation": state.invocation, "rows": state.rows}
    _store.put(final_uri, msgspec.json.encode(final), content_type="application/json")
    failed = 503 if state.error and state.error.retryable else 422
    return _answer(failed if state.error else 200, answer | {"final_uri": final_uri})


def _answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "body": msgspec.json.encode(body), "headers": _JSON}
