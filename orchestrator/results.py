"""How a request ended: the last state, `final.json` with all rows and what they add up to, the answer."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from fave.clock import utc_ns
from fave.errors import StorageError
from fave.storage import Store
from fave.wire import keys
from fave.wire.critical_path import critical_path
from fave.wire.final import Final, Metrics
from fave.wire.records import StageFigures, StageRow, derive
from orchestrator.graph import EXPLANATION, MEDIA, RANKING, stages
from orchestrator.runner import TakenAwayError
from orchestrator.state import State, StateFile
from workloads.workflow import output_of

_TRIES = 3
_PAUSE_S = 0.3
_NOT_IN_ANSWER = ("schema", "updated_at_ns", "invocation", "rows")


def conclude(store: Store, file: StateFile, peak_rss_mb: float) -> tuple[int, dict[str, Any]]:
    """Save the last state, write `final.json`, answer.

    Raises
    ------
    TakenAwayError
        When the request was aborted or taken over in the last moment.
    StorageError
        When the store does not take them; a repeated call finds everything that the stages did.
    """
    state, own = file.state, file.state.invocation
    own.finished_at_ns = utc_ns()
    own.status, own.error = ("failed", f"{state.error.slug}: {state.error.reason}") if state.error else ("ok", "")
    own.peak_rss_mb = peak_rss_mb
    own.storage_write_s, own.output_bytes = file.write_s, file.written_bytes
    derive(own)
    own.compute_s = max(0.0, (own.service_s or 0.0) - own.storage_read_s - own.storage_write_s)
    _insist(file)
    return of(store, file)


def of(store: Store, file: StateFile) -> tuple[int, dict[str, Any]]:
    """Status and answer of a request that is over; `final.json` is made where its owner did not get to it."""
    state = file.state
    uri = store.uri(keys.final(state.request_id))
    try:
        final = msgspec.json.decode(store.get(uri), type=Final)
    except StorageError as error:
        if error.slug != "not-found":
            raise
        final = None
    # One of an earlier end, or of a state that its owner had more to say about.
    if final is None or final.updated_at_ns != state.updated_at_ns:
        final = _final(store, state)
        store.put(uri, msgspec.json.encode(final), content_type="application/json")
    answer = {name: value for name, value in msgspec.to_builtins(final).items() if name not in _NOT_IN_ANSWER}
    return _http_status(state), answer | {"final_uri": uri}


def _http_status(state: State) -> int:
    if state.error is None:
        return 200
    return 503 if state.error.retryable else 422


def _final(store: Store, state: State) -> Final:
    found: dict[str, Any] = {}
    if state.status == "COMPLETED":
        done = state.done()
        media, ranking, explanation = (
            msgspec.json.decode(store.get(output_of(stages().seen(source), done)))
            for source in (MEDIA, RANKING, EXPLANATION)
        )
        found = {"media": media, "ranking": ranking["clips"], "explanation": explanation}
        found |= {"like": ranking["like"], "alike": ranking["alike"]}
    return Final(
        schema=state.schema,
        request_id=state.request_id,
        updated_at_ns=state.updated_at_ns,
        status=state.status,
        video_uri=state.video_uri,
        query=state.query,
        profile=state.profile,
        metrics=metrics(state.invocation, state.rows),
        skipped=state.skipped,
        error=state.error,
        invocation=state.invocation,
        rows=state.rows,
        **found,
    )


def metrics(own: StageRow, rows: list[StageRow]) -> Metrics:
    """What the rows add up to. `own` is the orchestrator's; earlier orchestrator invocations are among `rows`."""
    everything = [own, *rows]
    path = critical_path(rows)
    return Metrics(
        duration_s=own.service_s,
        invocations=len(everything),
        retries=sum(row.attempt > 1 for row in rows),
        cold=any(row.cold for row in everything),
        cold_invocations=sum(bool(row.cold) for row in everything),
        cold_wait_s=round(sum(row.cold_wait_s or 0.0 for row in everything), 6),
        cost_gb_s=round(sum(row.cost_gb_s for row in everything), 6),
        critical_path=[f"{row.stage}/{row.clip}" if row.clip else row.stage for row in path],
        critical_path_s=round(sum(row.returned_at_ns - row.sent_at_ns for row in path) / 1e9, 6),
        critical_path_cold_wait_s=round(sum(row.cold_wait_s or 0.0 for row in path), 6),
        stages=_by_stage(everything),
    )


def _by_stage(rows: list[StageRow]) -> dict[str, StageFigures]:
    """For callers that watch many requests, as the load generator does; the rows themselves stay in the store."""
    figures: dict[str, StageFigures] = {}
    for row in rows:
        each = figures.setdefault(row.stage, StageFigures())
        each.invocations += 1
        each.cold += bool(row.cold)
        each.failures += row.status != "ok"
        if row.cold:
            each.init_s.append(round((row.ready_at_ns - row.process_started_at_ns) / 1e9, 6))
        returned_at_ns = row.returned_at_ns or row.finished_at_ns
        if returned_at_ns and row.sent_at_ns:
            each.duration_s.append(round((returned_at_ns - row.sent_at_ns) / 1e9, 6))
    return figures


def _insist(file: StateFile) -> None:
    """The last save is the one that must not be lost."""
    for attempt in range(_TRIES):
        try:
            file.save()
        except StorageError as error:
            if error.slug == "conflict":
                raise TakenAwayError from error
            if attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE_S)
        else:
            return
