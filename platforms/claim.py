"""One campaign at a time on a gateway: a note in the object store, which all who measure there share.

Made by a conditional write, renewed while the campaign lasts. Whoever was killed leaves one that is not renewed any
more: the next may take its place at once on the same machine, elsewhere after a minute. It says which of FAVE's
functions were there before, so that whoever comes next, be it `regimes restore`, can leave the gateway as it was found.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import socket
import threading
from collections.abc import Collection, Iterator

import msgspec

from fave.clock import NS_PER_S, iso, utc_ns
from fave.errors import PlatformError, StorageError
from fave.processes import lives
from fave.storage import Store

_FOLDER = "claims/"
_RENEWED_EVERY_S = 10.0
_FORGOTTEN_AFTER_S = 60.0


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """renewed_at_ns: 0 once it is over. found: FAVE's functions that were there before."""

    campaign: str
    owner: str
    pid: int
    since_ns: int
    renewed_at_ns: int
    found: list[str] = []

    def binds(self, other: Claim) -> bool:
        """Whether whoever comes later has to wait."""
        if self.owner == other.owner and (self.pid == other.pid or not lives(self.pid)):
            return False
        return other.renewed_at_ns - self.renewed_at_ns < _FORGOTTEN_AFTER_S * NS_PER_S


@contextlib.contextmanager
def claimed(store: Store, gateway_url: str, campaign: str, there: Collection[str] = ()) -> Iterator[set[str]]:
    """The gateway's functions are this campaign's. Yields those of FAVE's that are to be there afterwards, too.

    there: FAVE's functions that are there now; some may have been left by a campaign that was killed.

    Raises
    ------
    PlatformError
        When they are another's, with whose and since when.
    """
    uri = _uri(store, gateway_url)
    mine, etag = _take(store, uri, _claim(campaign, there))
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
        yield set(mine.found)
    finally:
        over.set()
        thread.join()
        note(0)


def abandoned(store: Store, gateway_url: str) -> Claim | None:
    """What a campaign left that was killed; None where none was.

    Raises
    ------
    PlatformError
        When it goes on.
    """
    try:
        theirs = msgspec.json.decode(store.get(_uri(store, gateway_url)), type=Claim)
    except StorageError as error:
        if error.slug == "not-found":
            return None
        raise
    if theirs.binds(_claim("")):
        raise _taken(theirs)
    return theirs if theirs.renewed_at_ns else None


def _uri(store: Store, gateway_url: str) -> str:
    return store.uri(f"{_FOLDER}{hashlib.sha256(gateway_url.encode()).hexdigest()[:16]}.json")


def _claim(campaign: str, there: Collection[str] = ()) -> Claim:
    now_ns, owner = utc_ns(), f"{_user()}@{socket.gethostname()}"
    return Claim(
        campaign=campaign, owner=owner, pid=os.getpid(), since_ns=now_ns, renewed_at_ns=now_ns, found=sorted(there)
    )


def _user() -> str:
    """In a container an account may have a number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _take(store: Store, uri: str, mine: Claim) -> tuple[Claim, str]:
    """The claim as it was made: what a killed campaign had found is what is found."""
    try:
        return mine, store.put(uri, msgspec.json.encode(mine), create=True)
    except StorageError as error:
        if error.slug != "conflict":
            raise
    written, etag = store.get_versioned(uri)
    theirs = msgspec.json.decode(written, type=Claim)
    if theirs.binds(mine):
        raise _taken(theirs)
    if theirs.renewed_at_ns:
        mine = msgspec.structs.replace(mine, found=sorted(set(mine.found) & set(theirs.found)))
    try:
        return mine, store.put(uri, msgspec.json.encode(mine), if_match=etag)
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
