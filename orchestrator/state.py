"""`state.json`: what happened to a request so far. Changed by compare-and-swap only.

INIT ──▶ RUNNING ──▶ COMPLETED
            │  ├───▶ FAILED ───▶ RUNNING   (called again: where the failure is retryable, or by `resume`)
            │  └───▶ ABORTED ──▶ RUNNING   (by `resume`)
            └─ the owner falls silent for its lease: another call becomes the owner
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

from fave.clock import utc_ns
from fave.errors import StorageError
from fave.storage import Store
from fave.wire import keys
from fave.wire.envelope import Failure
from fave.wire.records import StageRow

SCHEMA = 1
Status = Literal["INIT", "RUNNING", "COMPLETED", "FAILED", "ABORTED"]
OVER = frozenset(("COMPLETED", "FAILED", "ABORTED"))


class TaskState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A stage, or a stage of one clip. `attempt`: the last one that was begun."""

    status: Literal["RUNNING", "COMPLETED", "FAILED"]
    attempt: int = 1
    outputs: tuple[str, ...] = ()
    etags: dict[str, str] = {}
    error: Failure | None = None


class State(msgspec.Struct, kw_only=True):
    """`invocation` is the owner's own row, as far as it knows it itself; earlier owners' are among `rows`.

    skipped: why, by clip, for clips that are left out. lease_until_ns: when the owner counts as dead (UTC).
    """

    schema: int = SCHEMA
    request_id: str
    status: Status = "INIT"
    owner: str = ""
    lease_until_ns: int = 0
    video_uri: str
    video_etag: str = ""
    query: str
    profile: str
    config: dict[str, dict[str, Any]] = {}
    created_at_ns: int = msgspec.field(default_factory=utc_ns)
    updated_at_ns: int = 0
    invocation: StageRow
    tasks: dict[str, TaskState] = {}
    skipped: dict[str, Failure] = {}
    rows: list[StageRow] = []
    error: Failure | None = None

    def done(self) -> dict[str, tuple[str, ...]]:
        return {name: task.outputs for name, task in self.tasks.items() if task.status == "COMPLETED"}

    def etags(self) -> dict[str, str]:
        """The version of every address that this request has to do with."""
        known = {self.video_uri: self.video_etag} if self.video_etag else {}
        for task in self.tasks.values():
            known |= task.etags
        return known

    @property
    def abandoned(self) -> bool:
        """Its owner has been silent for the whole lease."""
        return self.status not in OVER and utc_ns() >= self.lease_until_ns

    @property
    def worth_repeating(self) -> bool:
        """It failed, and what made it fail may have passed."""
        return self.status == "FAILED" and self.error is not None and self.error.retryable


class StateFile:
    """One writer's handle on a request's state: every save names the version it replaces."""

    def __init__(self, store: Store, state: State, etag: str = "") -> None:
        self._store = store
        self.state = state
        self.uri = uri_of(store, state.request_id)
        # Of a request's owner: a write of its own may come back to it as somebody else's.
        self.owned = False
        self.write_s = 0.0
        self.last_write_s = 0.0
        self.written_bytes = 0
        self._etag = etag

    def create(self) -> bool:
        """False when the request id is already there: somebody else's, or an earlier try."""
        try:
            self._etag = self._put(create=True)
        except StorageError as error:
            if error.slug == "conflict":
                return False
            raise
        self.owned = True
        return True

    def save(self) -> None:
        """Raises StorageError `conflict` when another writer changed the object in between."""
        self._etag = self._put(if_match=self._etag)

    def supersede(self, other: StateFile) -> None:
        """The next save replaces the version that `other` has."""
        self._etag = other._etag

    def _put(self, **condition: Any) -> str:
        self.state.updated_at_ns = utc_ns()
        data = msgspec.json.encode(self.state)
        began_s = time.monotonic()
        try:
            return self._store.put(self.uri, data, content_type="application/json", **condition)
        except StorageError as error:
            if error.slug != "conflict":
                raise
            return self._after_conflict(error, data)
        finally:
            self.last_write_s = time.monotonic() - began_s
            self.write_s += self.last_write_s
            self.written_bytes += len(data)

    def _after_conflict(self, error: StorageError, data: bytes) -> str:
        """A write whose reply was lost meets itself: in the client's next try, or in the owner's next save."""
        found, etag = self._store.get_versioned(self.uri)
        if found == data:
            return etag
        try:
            theirs = msgspec.json.decode(found, type=State)
        except msgspec.MsgspecError:
            raise error from None
        if not self.owned or theirs.owner != self.state.owner or theirs.status in OVER:
            raise error
        return self._store.put(self.uri, data, content_type="application/json", if_match=etag)


def uri_of(store: Store, request_id: str) -> str:
    return store.uri(keys.state(request_id))


def load(store: Store, request_id: str) -> StateFile:
    """Raises StorageError `not-found` for a request that nobody made."""
    data, etag = store.get_versioned(uri_of(store, request_id))
    return StateFile(store, msgspec.json.decode(data, type=State), etag)
