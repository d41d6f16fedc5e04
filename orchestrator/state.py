"""`state.json`: what happened to a request so far. Changed by compare-and-swap only."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fave.clock import utc_ns
from fave.envelope import Failure
from fave.errors import StorageError
from fave.records import StageRow
from fave.storage import Store

SCHEMA = 1
Status = Literal["INIT", "RUNNING", "COMPLETED", "FAILED"]


class TaskState(msgspec.Struct, kw_only=True, omit_defaults=True):
    status: Literal["RUNNING", "COMPLETED", "FAILED"]
    outputs: tuple[str, ...] = ()
    error: Failure | None = None


class State(msgspec.Struct, kw_only=True):
    """`invocation` is the orchestrator's own row, as far as it knows it itself."""

    schema: int = SCHEMA
    request_id: str
    status: Status = "INIT"
    video_uri: str
    query: str
    profile: str
    created_at_ns: int = msgspec.field(default_factory=utc_ns)
    updated_at_ns: int = 0
    invocation: StageRow
    tasks: dict[str, TaskState] = {}
    rows: list[StageRow] = []
    error: Failure | None = None


class StateFile:
    """The one writer's handle on a request's state: every save names the version it replaces."""

    def __init__(self, store: Store, state: State) -> None:
        self._store = store
        self.state = state
        self.uri = store.uri(f"requests/{state.request_id}/metadata/state.json")
        self._etag = ""

    def create(self) -> bool:
        """False when the request id is already there: somebody else's, or an earlier try."""
        try:
            self._etag = self._put(create=True)
        except StorageError as error:
            if error.slug == "conflict":
                return False
            raise
        return True

    def save(self) -> None:
        """Raises StorageError `conflict` when another writer changed the object in between."""
        self._etag = self._put(if_match=self._etag)

    def _put(self, **condition: Any) -> str:
        self.state.updated_at_ns = utc_ns()
        data = msgspec.json.encode(self.state)
        try:
            return self._store.put(self.uri, data, content_type="application/json", **condition)
        except StorageError as error:
            if error.slug != "conflict":
                raise
            # A write whose reply was lost is tried again by the client and meets itself.
            found, etag = self._store.get_versioned(self.uri)
            if found == data:
                return etag
            raise
