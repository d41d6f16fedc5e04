import threading

import pytest

from fave.calling import Cancellation
from fave.errors import StorageError
from orchestrator import control, results
from orchestrator.runner import TakenAwayError
from orchestrator.state import load
from tests.support.orchestration import (
    MemoryStore,
    Store,
    drive,
    failing,
    new_file,
    succeed,
)

pytestmark = pytest.mark.unit


def test_the_numbers_of_attempts_go_on_where_the_earlier_owner_stopped():
    begun = {}

    def note(task, envelope, *, attempt, **_):
        begun[task.name] = attempt
        return succeed(task, envelope, attempt=attempt)

    file = new_file(MemoryStore())
    file.create()
    drive(file, note, attempts={"stage-librosa": 4})
    assert (begun["stage-librosa"], begun["stage-search"]) == (5, 1)


def test_an_owner_that_was_replaced_stops_and_writes_nothing_more():
    store = MemoryStore()
    file, cancellation = new_file(store), Cancellation()
    file.create()

    def replaced_meanwhile(task, envelope, **_):
        if task.stage == "stage-ffmpeg-0":
            store.put(file.uri, b"the new owner's")
        return succeed(task, envelope)

    with pytest.raises(TakenAwayError):
        drive(file, replaced_meanwhile, cancellation=cancellation)
    assert cancellation.cancelled.is_set()
    assert store.objects[file.uri] == b"the new owner's"


def test_a_store_that_takes_no_state_for_a_while_is_no_reason_to_stop():
    class Sulking(MemoryStore):
        def put(self, uri, data, *, if_match="", **condition):
            if if_match:
                raise StorageError(uri, slug="storage")
            return super().put(uri, data, **condition)

    file = new_file(Sulking())
    file.create()
    drive(file, succeed)
    assert file.state.status == "COMPLETED"


def test_a_silent_owner_is_still_heard_while_a_stage_works():
    """Beats come several times per lease, also when nothing finishes."""
    store = MemoryStore()
    file = new_file(store)
    file.create()
    versions = []

    def slow(task, envelope, **_):
        if task.stage == "stage-ffmpeg-0":
            threading.Event().wait(0.9)
            versions.append(store.version)
        return succeed(task, envelope)

    drive(file, slow, lease_s=1.0)
    assert versions[0] >= 3


@pytest.mark.parametrize(("policy", "status"), [("skip", "COMPLETED"), ("fail", "FAILED")])
def test_one_clip_that_fails_is_left_out_or_fails_the_request(policy, status):
    def fail_second(task, envelope, **_):
        outcome = succeed(task, envelope)
        return failing(outcome, "not-a-video") if task.name == "stage-ffmpeg-3/clip-001" else outcome

    file = new_file(MemoryStore())
    file.create()
    drive(file, fail_second, on_clip_failure=policy)
    assert file.state.status == status
    assert ("clip-001" in file.state.skipped) is (policy == "skip")


def test_when_every_clip_fails_the_request_fails_and_says_why():
    def fail_all(task, envelope, **_):
        outcome = succeed(task, envelope)
        return failing(outcome, "not-a-video") if task.clip else outcome

    file = new_file(MemoryStore())
    file.create()
    drive(file, fail_all, on_clip_failure="skip")
    assert (file.state.status, file.state.error.slug) == ("FAILED", "no-clip-left")
    assert "not-a-video" in file.state.error.reason


def test_aborting_waits_for_no_owner_and_changes_nothing_that_is_over():
    store = Store()
    file = new_file(store)
    file.create()
    assert control.abort(store, "r").status == "ABORTED"
    reloaded = load(store, "r")
    assert (reloaded.state.status, reloaded.state.error.slug) == ("ABORTED", "aborted")
    reloaded.state.status = "COMPLETED"
    reloaded.save()
    assert control.abort(store, "r").status == "COMPLETED"


def test_a_last_save_that_meets_another_writer_is_taken_away():
    store = Store()
    file = new_file(store)
    file.create()
    other = load(store, "r")
    other.state.owner = "another"
    other.save()
    with pytest.raises(TakenAwayError):
        results.conclude(store, file, 10.0)


def test_an_owner_whose_write_was_answered_by_nobody_knows_it_again_at_the_next():
    """Otherwise it would take itself for somebody else, cancel its work, and wait for its own lease."""

    class LosesReplies(Store):
        def put(self, uri, data, *, if_match="", **condition):
            version = super().put(uri, data, if_match=if_match, **condition)
            if if_match == "1":
                raise StorageError(uri, slug="storage")
            return version

    store = LosesReplies()
    file = new_file(store)
    file.state.owner = "me"
    assert file.create()
    with pytest.raises(StorageError, match="state"):
        file.save()
    file.state.query = "later"
    file.save()
    assert load(store, "r").state.query == "later"
    aborting = load(store, "r")
    file.save()
    with pytest.raises(StorageError):
        aborting.save()
