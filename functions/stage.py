"""What every stage shares: envelope in, claims checked out of the object store, outputs in, row and reply out."""

from __future__ import annotations

import errno
import functools
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Protocol, TypeVar

import msgspec

from fave.clock import utc_ns
from fave.configuration import configured
from fave.environment import loads_models_lazily, max_input_bytes
from fave.errors import StageError, StorageError
from fave.storage import Store, parse_uri
from fave.wire import keys
from fave.wire.envelope import (
    Envelope,
    Failure,
    Reply,
    StageMetadata,
    check_clip,
    check_request_id,
    decode_body,
    failure_of,
    http_status_of,
)
from fave.wire.records import StageRow, derive
from functions.host.work import Work

if TYPE_CHECKING:
    from functions.host.server import Context, Event

T = TypeVar("T", bound=msgspec.Struct)
M = TypeVar("M")
JSON = "application/json"
# Embeddings of 3,840 frames that all show something else are 21 MB, for which stage-search needs 149 of its 256 MB.
_MAX_JSON_BYTES = 32 * 2**20


class Model(Generic[M]):
    """What a stage must load before it can work: when the replica starts, or by `FAVE_LAZY=1` at the first use.

    Lazy loading makes a replica ready sooner and its first invocation slower; `init_s` of that row says by how much.
    """

    def __init__(self, load: Callable[[], M]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._loaded: list[M] = []
        if not loads_models_lazily():
            self._loaded.append(load())

    def get(self, job: Job) -> M:
        with self._lock:
            if not self._loaded:
                began_s = time.monotonic()
                self._loaded.append(self._load())
                job.init_s += time.monotonic() - began_s
        return self._loaded[0]


class Objects(Protocol):
    """What a stage needs of the object store (`fave.storage`)."""

    def check_readable(self, uri: str) -> None: ...
    def get(self, uri: str, *, etag: str = "", max_bytes: int = 0) -> bytes: ...
    def download(self, uri: str, path: Path, *, etag: str = "", max_bytes: int = 0) -> int: ...
    def put(self, uri: str, data: bytes | BinaryIO, *, content_type: str) -> str: ...


class Job:
    """One invocation's work: its envelope, its inputs and outputs with their time and size, a folder of its own."""

    def __init__(self, envelope: Envelope, store: Objects, work: Work) -> None:
        self.envelope = envelope
        self.folder = Path()  # while the work is done, a folder of its own
        self.outputs: list[str] = []
        self.etags: dict[str, str] = {}
        self.read_s = self.write_s = self.init_s = self.compute_s = 0.0
        self.input_bytes = self.output_bytes = 0
        self.store = store
        self._work = work

    def step(self, envelope: Envelope, store: Objects, work: Callable[[Job], None]) -> tuple[str, ...]:
        """Do another stage's work as part of this one, in whose row its time and its bytes count; returns its outputs.

        store: where that stage finds its inputs.
        """
        part = Job(envelope, store, self._work)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            part.folder = Path(folder)
            try:
                work(part)
            finally:
                for name in ("read_s", "write_s", "init_s", "input_bytes", "output_bytes"):
                    setattr(self, name, getattr(self, name) + getattr(part, name))
        self.etags |= part.etags
        return tuple(part.outputs)

    def config(self, cls: type[T]) -> T:
        """The configuration: `cls`' defaults, the environment, the envelope."""
        return configured(cls, self.envelope.config)

    def read(self, uri: str, max_bytes: int = 0) -> bytes:
        """An input as a whole in memory; `max_bytes` is for stages that know how large their kind of input may be."""
        data = self._timed_read(uri, self.store.get, max_bytes)
        self.input_bytes += len(data)
        return data

    def fetch(self, uri: str) -> Path:
        """An input as a file of its own in the job's folder; never as a whole in memory."""
        path = self.folder / f"in-{len(list(self.folder.iterdir()))}{Path(uri).suffix[:8]}"
        self.input_bytes += self._timed_read(
            uri, lambda address, **version: self.store.download(address, path, **version)
        )
        return path

    def _timed_read(self, uri: str, read: Callable[..., M], max_bytes: int = 0) -> M:
        self._work.check()
        self.store.check_readable(uri)
        most = max_input_bytes()
        began_s = time.monotonic()
        try:
            return read(uri, etag=self.envelope.etags.get(uri, ""), max_bytes=min(max_bytes or most, most))
        finally:
            self.read_s += time.monotonic() - began_s

    def write(self, name: str, data: bytes, content_type: str) -> str:
        return self._put(name, data, len(data), content_type)

    def upload(self, path: Path, content_type: str) -> str:
        """A file of the job's folder as an output of the same name; never as a whole in memory."""
        with path.open("rb") as file:
            return self._put(path.name, file, path.stat().st_size, content_type)

    def _put(self, name: str, data: bytes | BinaryIO, size_bytes: int, content_type: str) -> str:
        self._work.check()
        began_s = time.monotonic()
        uri = self.envelope.output_uri + name
        self.etags[uri] = self.store.put(uri, data, content_type=content_type)
        self.write_s += time.monotonic() - began_s
        self.output_bytes += size_bytes
        self.outputs.append(uri)
        return uri

    def write_json(self, name: str, value: object) -> str:
        return self.write(name, msgspec.json.encode(value), JSON)

    def decode_all(self, suffix: str, cls: type[M]) -> list[M]:
        """Every input that ends in `suffix`, strictly as `cls`."""
        return [self.decode(uri, cls) for uri in self.inputs_named(suffix)]

    def decode(self, uri: str, cls: type[M]) -> M:
        try:
            return msgspec.json.decode(self.read(uri, _MAX_JSON_BYTES), type=cls)
        except msgspec.MsgspecError as error:
            raise StageError("corrupt", f"{uri}: {error}") from error

    def versions(self) -> dict[str, str]:
        """Of the outputs, by address."""
        return {uri: self.etags[uri] for uri in self.outputs}

    def inputs_named(self, suffix: str) -> list[str]:
        """The input addresses that end in `suffix`, in the caller's order; at least one, or the envelope is wrong."""
        found = [uri for uri in self.envelope.inputs if uri.endswith(suffix)]
        if not found:
            raise StageError("bad-request", f"no input ends in {suffix!r}")
        return found


def run(stage: str, event: Event, context: Context, work: Callable[[Job], None]) -> dict[str, Any]:
    """Do `work` for the envelope in `event`; the reply and the row are made here, also when it fails."""
    try:
        envelope = decode_body(event.body, Envelope)
        check_request_id(envelope.request_id)
        check_clip(envelope.clip)
        _check_output(envelope, _store().bucket)
    except (StageError, StorageError) as error:
        return _refusal(stage, error)
    job = Job(envelope, _store(), context.work)
    failure = _attempt(stage, job, context, work)
    row = _row(stage, job, context, failure)
    reply = Reply(
        request_id=envelope.request_id,
        stage=stage,
        status="failed" if failure else "ok",
        outputs=() if failure else tuple(job.outputs),
        etags={} if failure else job.versions(),
        metadata_uri=_keep_metadata(job, row, context, failed=failure is not None),
        telemetry=row,
        error=failure,
    )
    return _answer(http_status_of(failure.slug) if failure else 200, reply)


def _keep_metadata(job: Job, row: StageRow, context: Context, *, failed: bool) -> str:
    """Row, outputs and order beside the outputs; its address, or empty when the store does not take it.

    Work that is done is not thrown away for that: the reply carries the same row.
    """
    uri = f"{job.envelope.output_uri}metadata.{row.attempt}.json"
    metadata = StageMetadata(
        **msgspec.structs.asdict(row),
        outputs=() if failed else tuple(job.outputs),
        etags={} if failed else job.versions(),
        envelope=job.envelope,
    )
    try:
        _store(quick=True).put(uri, msgspec.json.encode(metadata), content_type=JSON)
    except StorageError as error:
        context.log.write(level="error", request_id=row.request_id, message=f"metadata not kept: {error.message}")
        return ""
    return uri


def _attempt(stage: str, job: Job, context: Context, work: Callable[[Job], None]) -> Failure | None:
    try:
        with tempfile.TemporaryDirectory(prefix=f"{stage}-") as folder:
            job.folder = Path(folder)
            began_s = time.monotonic()
            try:
                work(job)
            finally:
                job.compute_s = max(0.0, time.monotonic() - began_s - job.read_s - job.write_s - job.init_s)
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a stage raises has a row and a reason
        failure = _failure_of(error, stage)
        defect = failure.slug == "internal"
        context.log.write(
            level="error" if defect else "warning",
            request_id=job.envelope.request_id,
            invocation_id=context.invocation.invocation_id,
            slug=failure.slug,
            reason=failure.reason,
            **({"traceback": traceback.format_exc()} if defect else {}),
        )
        return failure
    return None


def _failure_of(error: Exception, stage: str) -> Failure:
    if isinstance(error, StageError | StorageError):
        return failure_of(error, stage)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(slug="no-space", stage=stage, reason="no space left on the replica's disk", retryable=True)
    return Failure(slug="internal", stage=stage, reason=f"{type(error).__name__}: {error}", retryable=True)


def _row(stage: str, job: Job, context: Context, failure: Failure | None) -> StageRow:
    worked_at_ns = utc_ns()
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
            worked_at_ns=worked_at_ns,
            finished_at_ns=worked_at_ns,
            process_started_at_ns=context.replica.process_started_at_ns,
            ready_at_ns=context.ready_at_ns,
            routable_at_ns=call.routable_at_ns,
            invocations_before=context.invocations_before,
            storage_read_s=job.read_s,
            storage_write_s=job.write_s,
            compute_s=job.compute_s,
            init_s=job.init_s,
            input_bytes=job.input_bytes,
            output_bytes=job.output_bytes,
            memory_limit_mb=context.replica.memory_limit_mb,
            peak_rss_mb=context.work.peak_rss_mb(),
            start_peak_rss_mb=context.start_peak_rss_mb,
            status="failed" if failure else "ok",
            error=f"{failure.slug}: {failure.reason}" if failure else "",
        )
    )


def _check_output(envelope: Envelope, bucket: str) -> None:
    prefix = keys.of_request(envelope.request_id)
    address = parse_uri(envelope.output_uri)
    if address.bucket != bucket or not address.key.startswith(prefix) or not address.key.endswith("/"):
        wanted = f"s3://{bucket}/{prefix}"
        raise StageError("forbidden", f"output_uri {envelope.output_uri!r} must lie under {wanted} and end in '/'")


def _refusal(stage: str, error: StageError | StorageError) -> dict[str, Any]:
    failure = failure_of(error, stage)
    return _answer(http_status_of(failure.slug), Reply(request_id="", stage=stage, status="failed", error=failure))


def _answer(status: int, reply: Reply) -> dict[str, Any]:
    return {"statusCode": status, "body": msgspec.json.encode(reply), "headers": {"Content-Type": JSON}}


@functools.cache
def _store(*, quick: bool = False) -> Store:
    """One client per replica and purpose: connections are pooled."""
    return Store.from_environment(quick=quick)


def warm_up() -> None:
    """Make the store's clients while the handler is imported: part of the start, not of the first use."""
    _store()
    _store(quick=True)
