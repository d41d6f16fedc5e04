"""What every stage shares: envelope in, claims checked out of the object store, outputs in, row and reply out."""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fave.clock import utc_ns
from fave.envelope import Envelope, Failure, Reply, check_request_id, decode_body
from fave.errors import StageError, StorageError
from fave.records import StageRow, derive
from fave.storage import Store, parse_uri
from functions import media
from functions.host.replica import peak_rss_mb, reset_peak_rss

if TYPE_CHECKING:
    from functions.host.server import Context, Event

T = TypeVar("T", bound=msgspec.Struct)
JSON = "application/json"
_STATUS = {"bad-request": 400, "forbidden": 403, "not-found": 404, "payload-too-large": 413, "internal": 500}


class Job:
    """One invocation's work: its envelope, its inputs and outputs with their time and size, a folder of its own."""

    def __init__(self, envelope: Envelope, store: Store, folder: Path) -> None:
        self.envelope = envelope
        self.folder = folder
        self.outputs: list[str] = []
        self.read_s = self.write_s = 0.0
        self.input_bytes = self.output_bytes = 0
        self._store = store

    def config(self, cls: type[T]) -> T:
        """The envelope's config, strictly as `cls`."""
        try:
            return msgspec.convert(self.envelope.config, cls)
        except msgspec.ValidationError as error:
            raise StageError("bad-request", f"config: {error}") from error

    def read(self, uri: str) -> bytes:
        began_s = time.monotonic()
        if parse_uri(uri).bucket != self._store.bucket:
            raise StorageError(f"{uri}: only bucket {self._store.bucket} may be read", slug="forbidden")
        data = self._store.get(uri)
        self.read_s += time.monotonic() - began_s
        self.input_bytes += len(data)
        return data

    def read_to_file(self, uri: str) -> Path:
        path = self.folder / f"in-{len(list(self.folder.iterdir()))}-{uri.rpartition('/')[2]}"
        path.write_bytes(self.read(uri))
        return path

    def write(self, name: str, data: bytes, content_type: str) -> str:
        began_s = time.monotonic()
        uri = self.envelope.output_uri + name
        self._store.put(uri, data, content_type=content_type)
        self.write_s += time.monotonic() - began_s
        self.output_bytes += len(data)
        self.outputs.append(uri)
        return uri

    def write_json(self, name: str, value: object) -> str:
        return self.write(name, msgspec.json.encode(value), JSON)

    def inputs_named(self, suffix: str) -> list[str]:
        """The input addresses that end in `suffix`; at least one, or the envelope is wrong."""
        found = [uri for uri in self.envelope.inputs if uri.endswith(suffix)]
        if not found:
            raise StageError("bad-request", f"no input ends in {suffix!r}")
        return found


def run(stage: str, event: Event, context: Context, work: Callable[[Job], None]) -> dict[str, Any]:
    """Do `work` for the envelope in `event`; the reply and the row are made here, also when it fails."""
    try:
        envelope = decode_body(event.body, Envelope)
        check_request_id(envelope.request_id)
        _check_output(envelope, _store().bucket)
    except (StageError, StorageError) as error:
        return _refusal(stage, error)
    reset_peak_rss()
    media.forget_peak()
    store = _store()
    with tempfile.TemporaryDirectory(prefix=f"{stage}-") as folder:
        job = Job(envelope, store, Path(folder))
        failure = _attempt(stage, job, work)
    row = _row(stage, job, context, failure)
    metadata_uri = f"{envelope.output_uri}metadata.{row.attempt}.json"
    store.put(metadata_uri, msgspec.json.encode(row), content_type=JSON)
    reply = Reply(
        request_id=envelope.request_id,
        stage=stage,
        status="failed" if failure else "ok",
        outputs=tuple(job.outputs),
        metadata_uri=metadata_uri,
        telemetry=row,
        error=failure,
    )
    return _answer(_STATUS.get(failure.slug, 422) if failure else 200, reply)


def _attempt(stage: str, job: Job, work: Callable[[Job], None]) -> Failure | None:
    try:
        work(job)
    except StageError as error:
        return Failure(slug=error.slug, stage=stage, reason=error.reason, retryable=error.retryable)
    except StorageError as error:
        return Failure(slug=error.slug, stage=stage, reason=error.message, retryable=error.slug == "storage")
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a stage raises has a row and a reason
        traceback.print_exc()
        return Failure(slug="internal", stage=stage, reason=f"{type(error).__name__}: {error}", retryable=True)
    return None


def _row(stage: str, job: Job, context: Context, failure: Failure | None) -> StageRow:
    finished_at_ns = utc_ns()
    service_s = (finished_at_ns - context.started_at_ns) / 1e9
    call = context.invocation
    return derive(
        StageRow(
            request_id=job.envelope.request_id,
            invocation_id=call.invocation_id,
            parent_id=call.parent_id,
            attempt=call.attempt,
            stage=stage,
            clip=job.envelope.clip,
            replica_id=context.replica.replica_id,
            sent_at_ns=call.sent_at_ns,
            received_at_ns=context.received_at_ns,
            started_at_ns=context.started_at_ns,
            finished_at_ns=finished_at_ns,
            process_started_at_ns=context.replica.process_started_at_ns,
            ready_at_ns=context.ready_at_ns,
            invocations_before=context.invocations_before,
            storage_read_s=job.read_s,
            storage_write_s=job.write_s,
            compute_s=max(0.0, service_s - job.read_s - job.write_s),
            input_bytes=job.input_bytes,
            output_bytes=job.output_bytes,
            memory_limit_mb=context.replica.memory_limit_mb,
            peak_rss_mb=round(peak_rss_mb() + media.peak_mb(), 1),
            status="failed" if failure else "ok",
            error=f"{failure.slug}: {failure.reason}" if failure else "",
        )
    )


def _check_output(envelope: Envelope, bucket: str) -> None:
    prefix = f"requests/{envelope.request_id}/"
    address = parse_uri(envelope.output_uri)
    if address.bucket != bucket or not address.key.startswith(prefix) or not address.key.endswith("/"):
        wanted = f"s3://{bucket}/{prefix}"
        raise StageError("forbidden", f"output_uri {envelope.output_uri!r} must lie under {wanted} and end in '/'")


def _refusal(stage: str, error: StageError | StorageError) -> dict[str, Any]:
    reason = error.reason if isinstance(error, StageError) else error.message
    failure = Failure(slug=error.slug, stage=stage, reason=reason)
    return _answer(_STATUS.get(error.slug, 422), Reply(request_id="", stage=stage, status="failed", error=failure))


def _answer(status: int, reply: Reply) -> dict[str, Any]:
    return {"statusCode": status, "body": msgspec.json.encode(reply), "headers": {"Content-Type": JSON}}


_shared: list[Store] = []


def _store() -> Store:
    """One client per replica, made with the first module that asks: connections are pooled."""
    if not _shared:
        _shared.append(Store.from_environment())
    return _shared[0]


def warm_up() -> None:
    """Make the store's client while the handler is imported, so that it is part of the start, not of the first use."""
    _store()
