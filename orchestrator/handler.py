"""orchestrator, the director function: `{video_uri, query}` → ranked clips, by way of the stages.

POST /                                    run a request; called again: its result, or what is left of its work
GET  /{request_id}                        how far it is
POST /{request_id}/abort                  end it, and the work below
POST /{request_id}/resume                 go on with a failed or aborted one
POST /{request_id}/replay/{stage}[/{clip}]  one stage again from its stored order
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import msgspec

from fave.calling import Caller
from fave.clock import utc_ns
from fave.environment import address, max_input_bytes
from fave.errors import StageError, StorageError
from fave.storage import Head, Store
from fave.wire.envelope import PipelineRequest, check_request_id, decode_body, failure_of, http_status_of
from fave.wire.records import StageRow, derive
from orchestrator import results
from orchestrator.control import abort, progress, replay
from orchestrator.graph import ORCHESTRATOR, graph, stages
from orchestrator.invoker import Invoker
from orchestrator.options import options_of
from orchestrator.resume import take_up, written_by_stages
from orchestrator.runner import TakenAwayError, run
from orchestrator.state import OVER, State, StateFile, load

_JSON = {"Content-Type": "application/json"}
# Kept from the request's time to write down how it ended, before the host gives up on it.
_CONCLUSION_S = 2.0
_FOLLOW_INTERVAL_S = 0.25
_MAX_QUERY = 1000
# Now: who was deployed without one shall not become ready.
_graph = graph()
_store = Store.from_environment()
# For state and final record: an answer within a lease, or an error that a beat can live with.
_quick = Store.from_environment(quick=True)
_gateway = Caller(address("GATEWAY_URL", "http://gateway.openfaas:8080"), pool_size=64)


def handle(event: Any, context: Any) -> dict[str, Any]:
    try:
        return _answer(*_route(event, context))
    except (StageError, StorageError) as error:
        failure = failure_of(error, ORCHESTRATOR)
        return _answer(http_status_of(failure.slug), {"status": "FAILED", "error": failure})


def _route(event: Any, context: Any) -> tuple[int, dict[str, Any]]:
    parts = [part for part in event.path.split("/") if part]
    if not parts:
        return _run(_accept(event, context), event, context)
    request_id, *action = parts
    check_request_id(request_id)
    match action:
        case []:
            return 200, progress(_store, load(_quick, request_id).state)
        case ["abort"]:
            return 200, progress(_store, abort(_quick, request_id))
        case ["resume"]:
            return _go_on(load(_quick, request_id), event, context, by_order=True)
        case ["replay", stage, *clip] if len(clip) <= 1:
            name = "/".join([stage, *clip])
            return replay(_store, _gateway, request_id, name, deadline_s=context.deadline_s)
    raise StageError("bad-request", f"nothing here at {event.path!r}")


# A request.


def _accept(event: Any, context: Any) -> PipelineRequest:
    request: PipelineRequest = decode_body(event.body, PipelineRequest)
    request_id = check_request_id(request.request_id or context.invocation.request_id or str(uuid4()))
    if not request.query.strip() or len(request.query) > _MAX_QUERY:
        raise StageError("bad-request", f"query of {len(request.query)} characters; need 1 to {_MAX_QUERY}")
    unknown = sorted(request.config.keys() - {ORCHESTRATOR, *stages().stages})
    if unknown:
        raise StageError("bad-request", f"config: no stage is called {', '.join(unknown)}")
    _store.check_readable(request.video_uri)
    options_of(request.config.get(ORCHESTRATOR, {}))
    profile = request.profile or os.environ.get("CONFIG_PROFILE", "")
    return msgspec.structs.replace(request, request_id=request_id, profile=profile)


def _run(request: PipelineRequest, event: Any, context: Any) -> tuple[int, dict[str, Any]]:
    """Make the request, or join it where it is there already."""
    try:
        video = _checked(request.video_uri)
    except (StageError, StorageError):
        # A request that is over needs no video any more.
        there = _found(request)
        if there is None:
            raise
        return _go_on(there, event, context)
    state = State(
        request_id=request.request_id,
        owner=uuid4().hex,
        video_uri=request.video_uri,
        video_etag=video.etag,
        query=request.query,
        profile=request.profile,
        config=request.config,
        invocation=_own_row(request.request_id, event, context),
    )
    state.lease_until_ns = utc_ns() + int(options_of(request.config.get(ORCHESTRATOR, {})).lease_s * 1e9)
    file = StateFile(_quick, state)
    if file.create():
        return _direct(file, event, context, {})
    there = _found(request)
    if there is None:
        raise StageError("storage", "the state was there, and is gone", retryable=True)
    return _go_on(there, event, context)


def _checked(video_uri: str) -> Head:
    """The video's version and size, which is within the limit."""
    video = _store.head(video_uri)
    if video.size_bytes > max_input_bytes():
        raise StageError("too-large", f"{video_uri}: {video.size_bytes} bytes, the limit is {max_input_bytes()}")
    return video


def _found(request: PipelineRequest) -> StateFile | None:
    """The request of this id, if there is one.

    Raises
    ------
    StageError
        `conflict`, when the id stands for something else.
    """
    try:
        there = load(_quick, request.request_id)
    except StorageError as error:
        if error.slug == "not-found":
            return None
        raise
    asked = (there.state.video_uri, there.state.query, there.state.config)
    if asked != (request.video_uri, request.query, request.config):
        raise StageError("conflict", f"request id {request.request_id!r} was used for another request")
    return there


def _go_on(
    file: StateFile, event: Any, context: Any, *, by_order: bool = False, waited: bool = False
) -> tuple[int, dict[str, Any]]:
    """A request that is there: its result when it is over, its work when nobody does it, else wait for who does.

    by_order: also what failed for good or was aborted is tried again. waited: the caller has seen it being worked on;
    however that ends is this caller's answer too, else twenty callers would repeat one failure twenty times.
    """
    while True:
        state = file.state
        begins_anew = not waited and (state.worth_repeating or (by_order and state.status in ("FAILED", "ABORTED")))
        if state.abandoned or begins_anew:
            attempts = _take_over(file, event, context)
            if attempts is not None:
                return _direct(file, event, context, attempts)
        elif state.status in OVER:
            return results.of(_store, file)
        elif time.monotonic() >= context.deadline_s - _CONCLUSION_S:
            raise StageError("running", f"{state.request_id} is still being worked on", retryable=True)
        waited = True
        time.sleep(_FOLLOW_INTERVAL_S)
        file = load(_quick, state.request_id)


def _take_over(file: StateFile, event: Any, context: Any) -> dict[str, int] | None:
    """Attempts by task when `file` is ours now, None when another call was faster."""
    state = file.state
    attempts = take_up(state, written_by_stages(_store, state.request_id), _own_row(state.request_id, event, context))
    state.owner, state.status = uuid4().hex, "RUNNING"
    state.lease_until_ns = utc_ns() + int(options_of(state.config.get(ORCHESTRATOR, {})).lease_s * 1e9)
    file.owned = True
    try:
        file.save()
    except StorageError as error:
        if error.slug != "conflict":
            raise
        return None
    return attempts


def _direct(file: StateFile, event: Any, context: Any, attempts: dict[str, int]) -> tuple[int, dict[str, Any]]:
    """Be the owner of a request until it is over."""
    state = file.state
    options = options_of(state.config.get(ORCHESTRATOR, {}))
    invoker = Invoker(
        _gateway,
        _store,
        request_id=state.request_id,
        owner=state.owner,
        parent_id=state.invocation.invocation_id,
        options=options,
        config=_configured(state.config, state.query),
        parts=stages().parts,
    )
    try:
        run(
            _graph,
            file,
            invoker.envelope,
            invoker.invoke,
            options=options,
            deadline_s=context.deadline_s - _CONCLUSION_S,
            cancellation=invoker.cancellation,
            attempts=attempts,
        )
        return results.conclude(_store, file, context.work.peak_rss_mb())
    except TakenAwayError:
        return _give_way(file, event, context)


def _configured(config: Mapping[str, dict[str, Any]], query: str) -> dict[str, dict[str, Any]]:
    """By called function; of one that runs several stages, by stage below it."""
    found: dict[str, dict[str, Any]] = {}
    for node in stages().nodes:
        mine = config.get(node.function, {}) | ({"query": query} if node.asks else {})
        function = stages().part_of(node.function)
        if mine and function == node.function:
            found[function] = mine
        elif mine:
            found.setdefault(function, {})[node.function] = mine
    return found


def _give_way(file: StateFile, event: Any, context: Any) -> tuple[int, dict[str, Any]]:
    """Aborted: write down what there is. Taken over: wait for the new owner's result."""
    now = load(_quick, file.state.request_id)
    if now.state.status != "ABORTED":
        return _go_on(now, event, context, waited=True)
    file.supersede(now)
    file.state.status, file.state.error = "ABORTED", now.state.error
    try:
        return results.conclude(_store, file, context.work.peak_rss_mb())
    except TakenAwayError:
        return _go_on(load(_quick, file.state.request_id), event, context, waited=True)


def _own_row(request_id: str, event: Any, context: Any) -> StageRow:
    return derive(
        StageRow(
            request_id=request_id,
            invocation_id=context.invocation.invocation_id,
            attempt=context.invocation.attempt,
            stage=ORCHESTRATOR,
            replica_id=context.replica.replica_id,
            sent_at_ns=context.invocation.sent_at_ns,
            received_at_ns=context.received_at_ns,
            started_at_ns=context.started_at_ns,
            process_started_at_ns=context.replica.process_started_at_ns,
            ready_at_ns=context.ready_at_ns,
            routable_at_ns=context.invocation.routable_at_ns,
            invocations_before=context.invocations_before,
            memory_limit_mb=context.replica.memory_limit_mb,
            start_peak_rss_mb=context.start_peak_rss_mb,
            input_bytes=len(event.body),
        )
    )


def _answer(status: int, body: dict[str, Any]) -> dict[str, Any]:
    return {"statusCode": status, "body": msgspec.json.encode(body), "headers": _JSON}
