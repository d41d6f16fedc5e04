"""One campaign at a time on a gateway, by a note in the object store that all who measure there share."""

from __future__ import annotations

import os
import subprocess

import msgspec
import pytest

from fave.clock import utc_ns
from fave.errors import PlatformError
from fave.processes import lives, wait_until
from platforms.claim import Claim, abandoned, claimed

pytestmark = pytest.mark.integration

URL = "http://gateway.example:8080"


def noted(store):
    (key,) = store.keys("claims/")
    return store.uri(key)


@pytest.fixture
def store(platform):
    _forget(platform)
    yield platform.store
    _forget(platform)


def _forget(platform):
    for key in platform.store.keys("claims/"):
        platform.store.client.delete_object(Bucket=platform.store.bucket, Key=key)


def left_by(store, **other):
    """As if somebody else had left it."""
    uri = noted(store)
    theirs = msgspec.json.decode(store.get(uri), type=Claim)
    store.put(uri, msgspec.json.encode(msgspec.structs.replace(theirs, **other)))


def test_two_campaigns_refuse_each_other_by_name_and_the_next_may_come_afterwards(store):
    with claimed(store, URL, "first"):
        left_by(store, pid=os.getppid())
        with pytest.raises(PlatformError, match=r"measured by campaign first of .*@.*, since 20"):
            claimed(store, URL, "second").__enter__()
    left_by(store, renewed_at_ns=0)
    with claimed(store, URL, "second"):
        pass


def test_one_that_was_killed_is_forgotten(store):
    with claimed(store, URL, "first"):
        left_by(store, pid=2**22 + 1)
        with claimed(store, URL, "on the same machine: its process is gone"):
            pass
        now_ns = utc_ns()
        left_by(store, owner="somebody@else", renewed_at_ns=now_ns - 30 * 10**9)
        with pytest.raises(PlatformError):
            claimed(store, URL, "second").__enter__()
        left_by(store, owner="somebody@else", renewed_at_ns=now_ns - 61 * 10**9)
        with claimed(store, URL, "second"):
            pass


def test_another_gateway_is_another_matter(store):
    with claimed(store, URL, "first"):
        left_by(store, pid=os.getppid())
        with claimed(store, "http://another.example", "second"):
            assert len(store.keys("claims/")) == 2


def test_who_comes_after_a_killed_campaign_leaves_the_gateway_as_that_one_had_found_it(store):
    with claimed(store, URL, "first", ["kept"]):
        left_by(store, pid=2**22 + 1)
        left = abandoned(store, URL)
        assert (left.campaign, left.found) == ("first", ["kept"])
        with claimed(store, URL, "second", ["kept", "left by the first"]) as found:
            assert found == {"kept"}
    assert abandoned(store, URL) is None, "the second was not killed"
    with claimed(store, URL, "third", ["kept", "somebody's own, since"]) as found:
        assert found == {"kept", "somebody's own, since"}


def test_nothing_is_restored_under_a_campaign_that_goes_on(store):
    with claimed(store, URL, "first"):
        left_by(store, pid=os.getppid())
        with pytest.raises(PlatformError, match="measured by campaign first"):
            abandoned(store, URL)


def test_an_account_without_a_name_has_a_number(store, monkeypatch):
    def nobody():
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr("platforms.claim.getpass.getuser", nobody)
    with claimed(store, URL, "in a pod"):
        theirs = msgspec.json.decode(store.get(noted(store)), type=Claim)
    assert theirs.owner.startswith(f"user {os.getuid()}@")


def test_who_ended_and_was_not_waited_for_claims_nothing(store):
    with subprocess.Popen(["true"]) as ended:
        assert wait_until(lambda: not lives(ended.pid), timeout_s=10)
        with claimed(store, URL, "first"):
            left_by(store, pid=ended.pid)
            assert abandoned(store, URL).campaign == "first"
