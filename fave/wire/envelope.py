"""What callers and stages say to each other: JSON under 100 KB; bulky data stays in the object store."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fave.errors import StageError, StorageError
from fave.wire.records import StageRow

SCHEMA = 1
MAX_BODY_BYTES = 100_000
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIP = re.compile(r"[A-Za-z0-9_-]{0,64}")
# What a function answers when it cannot do its work; any other slug is about the medium: 422.
_HTTP_STATUS = {
    "bad-request": 400,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "running": 409,
    "payload-too-large": 413,
    "too-large": 413,
    "internal": 500,
    "storage": 503,
    "timeout": 504,
}


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    slug: str
    stage: str
    reason: str
    retryable: bool = False


def failure_of(error: StageError | StorageError, stage: str) -> Failure:
    """The error in the form in which functions tell each other."""
    if isinstance(error, StageError):
        return Failure(slug=error.slug, stage=stage, reason=error.reason, retryable=error.retryable)
    return Failure(slug=error.slug, stage=stage, reason=error.message, retryable=error.slug == "storage")


def http_status_of(slug: str) -> int:
    return _HTTP_STATUS.get(slug, 422)


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A caller's order to a stage. `input_uris` and `output_uri` are `s3://`; `output_uri` ends in `/`.

    etags: by address, the version of an input that the order is about; another version is refused (`changed`).
    """

    schema: int = SCHEMA
    request_id: str
    stage: str
    output_uri: str
    input_uri: str = ""
    input_uris: tuple[str, ...] = ()
    etags: dict[str, str] = {}
    clip: str = ""
    config: dict[str, Any] = {}

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input_uri, *self.input_uris) if self.input_uri else self.input_uris


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A stage's answer: where its outputs are, and its row as the replica knows it."""

    schema: int = SCHEMA
    request_id: str
    stage: str
    status: str = "ok"
    outputs: tuple[str, ...] = ()
    etags: dict[str, str] = {}
    metadata_uri: str = ""
    telemetry: StageRow | None = None
    error: Failure | None = None


class StageMetadata(StageRow, kw_only=True):
    """`metadata.{attempt}.json`: row, outputs and order, so that the stage can be resumed or replayed."""

    outputs: tuple[str, ...] = ()
    etags: dict[str, str] = {}
    envelope: Envelope | None = None


class PipelineRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An order to the orchestrator. `profile` names the regime for the record; it changes no behaviour.

    config: settings by function name, `orchestrator` included.
    """

    schema: int = SCHEMA
    video_uri: str
    query: str
    request_id: str = ""
    profile: str = ""
    config: dict[str, dict[str, Any]] = {}


def check_request_id(request_id: str) -> str:
    """The id, if it may become part of a key.

    Raises
    ------
    StageError
        `bad-request`, when it does not match `[A-Za-z0-9._-]{1,64}` or contains `..`.
    """
    if not _ID.fullmatch(request_id) or ".." in request_id:
        raise StageError("bad-request", f"request id {request_id!r} must match {_ID.pattern} and not contain '..'")
    return request_id


def check_clip(clip: str) -> str:
    """The clip's name, if it may become part of a key or of a file's name; empty for a stage that is not per clip.

    Raises
    ------
    StageError
        `bad-request`.
    """
    if not _CLIP.fullmatch(clip):
        raise StageError("bad-request", f"clip {clip!r} must match {_CLIP.pattern}")
    return clip


def decode_body(body: bytes, cls: type[Any]) -> Any:
    """A strictly read body.

    Raises
    ------
    StageError
        `payload-too-large` over 100 KB, `bad-request` for anything that is not a `cls` of schema 1.
    """
    if len(body) > MAX_BODY_BYTES:
        raise StageError("payload-too-large", f"body of {len(body)} bytes; at most {MAX_BODY_BYTES} travel by HTTP")
    try:
        value = msgspec.json.decode(body, type=cls)
    except msgspec.MsgspecError as error:
        raise StageError("bad-request", f"body is not a {cls.__name__}: {error}") from error
    if value.schema != SCHEMA:
        raise StageError("bad-request", f"schema {value.schema} is not known here (this is schema {SCHEMA})")
    return value
