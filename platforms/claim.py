"""One campaign at a time on a gateway: a note in the object store, which all who measure there share.

Made by a conditional write, renewed while the campaign lasts. Whoever was killed leaves one that is not renewed any
more: the next may take its place at once on the same machine, elsewhere after a minute.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import socket
import threading
from collections.abc import Iterator

import msgspec
import psutil

from fave.clock import NS_PER_S, iso, utc_ns
from fave.errors import PlatformError, StorageError
from fave.storage import Store

_FOLDER = "claims/"
_RENEWED_EVERY_S = 10.0
_FORGOTTEN_AFTER_S = 60.0


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """renewed_at_ns: 0 once it is over."""

    campaign: str
    owner: str
    pid: int
    since_ns: int
    renewed_at_ns: int

    def binds(self, other: Claim) -> bool:
        """Whether whoever comes later has to wait."""
        if self.owner == other.owner and (self.pid == other.pid or not psutil.pid_exists(self.pid)):
            return False
        return other.renewed_at_ns - self.renewed_at_ns < _FORGOTTEN_AFTER_S * NS_PER_S


@contextlib.contextmanager
def claimed(store: Store, gateway_url: str, campaign: str) -> Iterator[None]:
    """The gateway's functions are this campaign's.

    Raises
    ------
    PlatformError
        When they are another's, with whose and since when.
    """
    uri = store.uri(f"{_FOLDER}{hashlib.sha256(gateway_url.encode()).hexdigest()[:16]}.json")
    now_ns, owner = utc_ns(), f"{getpass.getuser()}@{socket.gethostname()}"
    mine = Claim(campaign=campaign, owner=owner, pid=os.getpid(), since_ns=now_ns, renewed_at_ns=now_ns)
    etag = _take(store, uri, mine)
    over = threading.Event()

    def note(at_ns: int) -> None:
        nonlocal etag
        # A store that is away for a moment is the next try's business; a claim that was taken over, nobody's.
        with contextlib.suppress(StorageError):
            now = msgspec.structs.replace(mine, renewed_at_ns=at_ns)
            etag = store.put(uri, msgspec.json.encode(now), if_match=etag)

    def renew() -> None:
        while not over.wait(_RENEWED_EVERY_S):
            note(utc_ns())

    thread = threading.Thread(target=renew, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        note(0)


def _take(store: Store, uri: str, mine: Claim) -> str:
    data = msgspec.json.encode(mine)
    try:
        return store.put(uri, data, create=True)
    except StorageError as error:
        if error.slug != "conflict":
            raise
    written, etag = store.get_versioned(uri)
    theirs = msgspec.json.decode(written, type=Claim)
    if theirs.binds(mine):
        raise _taken(theirs)
    try:
        return store.put(uri, data, if_match=etag)
    except StorageError as error:
        if error.slug == "conflict":
            raise _taken(theirs) from error
        raise


def _taken(theirs: Claim) -> PlatformError:
    whose = f"campaign {theirs.campaign} of {theirs.owner}, since {iso(theirs.since_ns)}"
    return PlatformError(
        f"the functions of this gateway are being measured by {whose}",
        hint=f"two at a time would measure each other; one that was killed is forgotten after {_FORGOTTEN_AFTER_S:g} s",
    )
