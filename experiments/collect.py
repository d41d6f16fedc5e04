"""After a cell has drained: what the generator saw and what the functions wrote, joined into rows."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec

from experiments.evidence import graded, held, routed
from fave.errors import StorageError
from fave.storage import Store
from fave.wire import keys
from fave.wire.invocation import with_caller_side
from fave.wire.records import ArrivalRow, RequestRow, StageRow, derive, routable
from platforms.model import Seen
from workloads.model import Workload

# Of an invocation of which only the caller tells, by how its request ended.
_STATUS = {"ok": "ok", "failed": "failed"}


class TaskStatus(msgspec.Struct, frozen=True):
    status: str


class Document(msgspec.Struct, frozen=True):
    """The part of `final.json` and `state.json` that carries rows; `tasks` by `stage` or `stage/clip`, state only."""

    invocation: StageRow
    rows: list[StageRow]
    status: str
    tasks: dict[str, TaskStatus] = {}

    @property
    def over(self) -> bool:
        return self.status in ("COMPLETED", "FAILED", "ABORTED")


class Final(msgspec.Struct, frozen=True, kw_only=True):
    """The last word of the store on an attempt: `final.json` or `state.json`, of a single stage its metadata."""

    request_id: str
    attempt: int
    document: msgspec.Raw


class Rows(NamedTuple):
    """finals: kept, because the store expires what it holds."""

    requests: list[RequestRow]
    stages: list[StageRow]
    finals: list[Final]


class Sources(NamedTuple):
    """What rows are made from, beside what the generator saw. initial_ready: replicas of each function at the start."""

    store: Store
    workload: Workload
    seen: Seen
    initial_ready: Mapping[str, int]


def collect(sources: Sources, arrivals: list[ArrivalRow], *, regime: str, load: str) -> Rows:
    """One request row per arrival, one stage row per attempt."""
    sent = [arrival for arrival in arrivals if arrival.sent_at_ns]
    with ThreadPoolExecutor(8) as threads:
        pairs = list(zip(sent, threads.map(lambda a: _rows_of(sources, a), sent), strict=True))
        found = {(arrival.k, arrival.attempt): rows for arrival, (rows, _) in pairs}
    by_arrival = []
    for attempts in _by_arrival(arrivals):
        rows = [row for each in attempts for row in found.get((each.k, each.attempt), [])]
        # The orchestrator keeps the rows of all attempts: those of an earlier one are found again by a later.
        rows = list({row.invocation_id or f"{row.stage}/{row.clip}": row for row in rows}.values())
        by_arrival.append((attempts, rows))
    stages = [row for _, rows in by_arrival for row in rows]
    _grade(stages, sources)
    requests = [_request_row(attempts, rows, regime=regime, load=load) for attempts, rows in by_arrival]
    finals = [
        Final(request_id=arrival.request_id, attempt=arrival.attempt, document=_one_line(document))
        for arrival, (_, document) in pairs
        if document
    ]
    return Rows(requests, stages, finals)


def _grade(rows: list[StageRow], sources: Sources) -> None:
    """Each label by the best that is known of its replica."""
    seen, functions = sources.seen, sources.workload.functions
    for row in rows:
        if row.replica_id in seen.routable_at_ns:
            routable(row, seen.routable_at_ns[row.replica_id], "platform")
    if not seen.gateway_queues:
        routed(rows, seen.pods_routable_at_ns)
    places = {name: each.max_in_flight for name, each in functions.items()}
    graded(rows, seen.rows, sources.initial_ready, places)
    if not seen.gateway_queues:
        held(rows)


def _one_line(document: bytes) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.format(document, indent=-1))


def _by_arrival(arrivals: list[ArrivalRow]) -> list[list[ArrivalRow]]:
    """The attempts of each arrival in order, arrivals in order of k."""
    found: dict[int, list[ArrivalRow]] = {}
    for arrival in sorted(arrivals, key=lambda a: (a.k, a.attempt)):
        found.setdefault(arrival.k, []).append(arrival)
    return list(found.values())


def _rows_of(sources: Sources, arrival: ArrivalRow) -> tuple[list[StageRow], bytes]:
    """The called function's own row, completed by the caller's side, the rows of what it called; what they are from.

    A function that FAVE's host does not serve writes none: its row is what came with the reply.
    """
    store, workload, function = sources.store, sources.workload, arrival.function
    request_id = arrival.request_id
    own: StageRow | None
    others: list[StageRow] = []
    written = b""
    if workload.directs(function):
        written = read_first(store, [keys.final(request_id), keys.state(request_id)])
        document = msgspec.json.decode(written, type=Document) if written else None
        own = document.invocation if document else None
        if own is not None and own.attempt > arrival.attempt:
            # The orchestrator's row of a later attempt: this one's was never kept.
            own = None
        others = _rows_below(store, request_id, document, workload)
    else:
        if workload.functions[function].hosted:
            written = read_first(store, [keys.metadata(request_id, function, arrival.attempt)])
        own = msgspec.json.decode(written, type=StageRow) if written else None
    if own is None:
        own = StageRow(
            request_id=arrival.request_id, invocation_id=arrival.invocation_id, attempt=arrival.attempt, stage=function
        )
        own.memory_limit_mb = workload.functions[function].memory_limit_mb
        own.status = _STATUS.get(arrival.status, "lost")
    own.invocation_id = own.invocation_id or arrival.invocation_id
    if arrival.status != "ok":
        own.status = "failed" if own.status == "ok" else own.status
        own.error = own.error or arrival.error
    with_caller_side(
        own, sent_at_ns=arrival.sent_at_ns, returned_at_ns=arrival.done_at_ns, headers=arrival.reply_headers
    )
    return [own, *others], written


def _rows_below(store: Store, request_id: str, document: Document | None, workload: Workload) -> list[StageRow]:
    """The rows that the orchestrator kept; where it is silent, those that the stages wrote beside their outputs.

    A label that is missing because something was slow would bias the very thing that is measured.
    """
    rows = list(document.rows) if document else []
    over = document is not None and document.over
    if over and all(row.cold is not None for row in rows):
        return rows
    by_id = {row.invocation_id: row for row in rows}
    for key in store.keys(keys.of_request(request_id)):
        whose = keys.written(key)
        if whose and whose.function in workload.functions:
            written: StageRow = read_document(store, [key], StageRow)
            kept = by_id.get(written.invocation_id)
            if kept is None:
                by_id[written.invocation_id] = written
            elif kept.cold is None:
                written.sent_at_ns, written.returned_at_ns = kept.sent_at_ns, kept.returned_at_ns
                by_id[written.invocation_id] = derive(written)
    there = {(row.stage, row.clip) for row in by_id.values()}
    for name in document.tasks if document else ():
        stage, _, clip = name.partition("/")
        if (stage, clip) not in there:
            by_id[name] = StageRow(request_id=request_id, invocation_id="", stage=stage, clip=clip, status="lost")
    return list(by_id.values())


def read_document(store: Store, keys: list[str], cls: type[Any]) -> Any:
    """The first of `keys` that is there, None where none is."""
    found = read_first(store, keys)
    return msgspec.json.decode(found, type=cls) if found else None


def read_first(store: Store, keys: list[str]) -> bytes:
    """The first of `keys` that is there, empty where none is."""
    for key in keys:
        try:
            return store.get(store.uri(key))
        except StorageError as error:
            if error.slug != "not-found":
                raise
    return b""


def _request_row(attempts: list[ArrivalRow], rows: list[StageRow], *, regime: str, load: str) -> RequestRow:
    """Sent when the first attempt was, ended as the last one did."""
    first, arrival = attempts[0], attempts[-1]
    known = [row.cold for row in rows if row.cold is not None]
    # Cold once any attempt was; not known to be warm as long as a stamp is missing.
    cold = True if any(known) else (False if known and len(known) == len(rows) else None)
    done, sent = arrival.done_at_ns, first.sent_at_ns
    return RequestRow(
        k=arrival.k,
        request_id=arrival.request_id,
        regime=arrival.regime or regime,
        load=load,
        phase=arrival.phase,
        attempts=len(attempts),
        scheduled_at_ns=first.scheduled_at_ns,
        fired_at_ns=first.fired_at_ns,
        sent_at_ns=sent,
        first_byte_at_ns=arrival.first_byte_at_ns,
        done_at_ns=done,
        latency_s=(done - arrival.scheduled_at_ns) / 1e9 if done else None,
        response_time_s=(done - sent) / 1e9 if done and sent else None,
        schedule_lag_s=(sent - arrival.scheduled_at_ns) / 1e9 if sent else None,
        status=arrival.status,
        error=arrival.error,
        dropped=arrival.status == "dropped",
        cold=cold,
        cold_wait_s=max((row.cold_wait_s for row in rows if row.cold_wait_s is not None), default=None),
        invocations=len(rows),
        cold_invocations=sum(known),
        cost_gb_s=sum(row.cost_gb_s for row in rows),
        bytes=arrival.bytes,
    )
