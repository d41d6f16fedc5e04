import threading
import time

import msgspec
import pytest

from fave.configuration import configured
from fave.critical_path import critical_path
from fave.envelope import Envelope, Failure, Reply, StageMetadata
from fave.errors import GatewayError, StageError, StorageError
from fave.gateway_client import Cancellation
from fave.records import StageRow
from functions.stage_ffmpeg_3.config import Config as FrameConfig
from orchestrator import control, results
from orchestrator.invoker import Invoker
from orchestrator.options import Config as Options
from orchestrator.options import options_of
from orchestrator.resume import Kept, take_up, written_by_stages
from orchestrator.retry import RULES, Budget, delay_s
from orchestrator.runner import TakenAwayError
from orchestrator.state import TaskState, load
from orchestrator.workflow import Task
from tests.unit.test_pipeline_decisions import MemoryStore, drive, failing, new_file, outputs_of, succeed

pytestmark = pytest.mark.unit

S = 1_000_000_000


def a_failure(slug, *, retryable=True):
    return Failure(slug=slug, stage="stage-x", reason="because", retryable=retryable)


# Retry.


@pytest.mark.parametrize("slug", sorted(RULES))
def test_back_off_doubles_within_bounds_and_ends(slug):
    rule = RULES[slug]
    for attempt in range(1, rule.attempts):
        waits = [delay_s(a_failure(slug), attempt, max_attempts=99) for _ in range(50)]
        full_s = min(10.0, rule.first_delay_s * 2 ** (attempt - 1))
        assert all(full_s / 2 <= wait <= full_s for wait in waits)
        assert len(set(waits)) > 1, "without jitter, what failed together returns together"
    assert delay_s(a_failure(slug), rule.attempts, max_attempts=99) is None


@pytest.mark.parametrize("slug", ["bad-request", "not-a-video", "forbidden", "not-found", "changed", "aborted"])
def test_what_would_fail_the_same_way_is_never_tried_again(slug):
    assert delay_s(a_failure(slug), 1, max_attempts=9) is None
    assert delay_s(a_failure("storage", retryable=False), 1, max_attempts=9) is None


def test_a_caller_is_not_back_before_the_time_it_was_asked_to_wait():
    assert delay_s(a_failure("busy"), 1, max_attempts=9, after_s=7.0) == 7.0


def test_a_budget_bounds_the_repeats_of_a_whole_request():
    budget = Budget(2)
    assert [budget.take() for _ in range(4)] == [True, True, False, False]


class Gateway:
    """Answers in turn with what it was given: a reply's status and body, or an error."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.calls = []

    def invoke(self, name, body, headers, *, timeout_s, cancellation):
        self.calls.append((name, headers, timeout_s))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, content, extra = answer
        return type("Response", (), {"status_code": status, "content": content, "text": "", "headers": extra})()


class Store(MemoryStore):
    def get(self, uri, **_):
        if uri not in self.objects:
            raise StorageError(uri, slug="not-found")
        return self.objects[uri]


def ok_reply():
    reply = Reply(request_id="r", stage="stage-search", outputs=("s3://b/o",), etags={"s3://b/o": "e"})
    return (200, msgspec.json.encode(reply), {})


def invoker(gateway, store=None, **options):
    return Invoker(
        gateway, store or Store(), request_id="r", owner="o", parent_id="p", options=Options(**options), config={}
    )


def invoke(one, *, attempt=1, within_s=60.0):
    task = Task(stage="stage-search")
    return one.invoke(task, one.envelope(task, {}), attempt=attempt, deadline_s=time.monotonic() + within_s)


def test_every_attempt_has_a_row_a_stamp_and_an_id_of_its_own():
    gateway = Gateway((429, b"full", {"Retry-After": "0"}), GatewayError("x", sent=False), ok_reply())
    outcome = invoke(invoker(gateway))
    assert outcome.error is None
    assert [row.attempt for row in outcome.rows] == [1, 2, 3]
    assert [row.status for row in outcome.rows] == ["failed", "failed", "ok"]
    assert [row.error.partition(":")[0] for row in outcome.rows] == ["busy", "connect", ""]
    assert len({row.invocation_id for row in outcome.rows}) == 3
    assert [headers["X-Fave-Attempt"] for _, headers, _ in gateway.calls] == ["1", "2", "3"]
    stamps = [int(headers["X-Fave-Sent-At"]) for _, headers, _ in gateway.calls]
    assert stamps == sorted(set(stamps))


def test_the_time_out_that_is_passed_down_is_the_smallest_of_all():
    gateway = Gateway(ok_reply(), ok_reply())
    invoke(invoker(gateway, stage_timeout_s=5.0))
    invoke(invoker(gateway, stage_timeouts_s={"stage-search": 50.0}), within_s=20)
    (_, headers, timeout_s), (_, _, second_s) = gateway.calls
    assert headers["X-Timeout"] == "5.000s"
    assert 5 < timeout_s < 7, "the host says itself that the time is over: wait for its answer, which has the stamps"
    assert 20 < second_s < 22


def test_no_attempt_begins_that_the_deadline_forbids():
    gateway = Gateway((503, b"", {"Retry-After": "9"}), ok_reply())
    outcome = invoke(invoker(gateway), within_s=3)
    assert (outcome.error.slug, len(gateway.calls)) == ("platform", 1)


def test_work_whose_reply_was_lost_is_found_in_the_store_and_not_done_again():
    store, gateway = Store(), Gateway(GatewayError("reset"))
    kept = StageMetadata(
        request_id="r", invocation_id="o.stage-search.1", stage="stage-search", outputs=("s3://b/o",), started_at_ns=5
    )
    store.objects["s3://b/requests/r/stage-search/metadata.1.json"] = msgspec.json.encode(kept)
    outcome = invoke(invoker(gateway, store))
    assert (outcome.error, outcome.outputs, len(gateway.calls)) == (None, ("s3://b/o",), 1)
    assert (outcome.rows[0].started_at_ns, outcome.rows[0].status) == (5, "ok")
    assert outcome.rows[0].returned_at_ns > 0


# Resume.


def interrupted():
    """A state as a killed owner leaves it: two stages done, one under way, of which the store knows more or not."""
    file = new_file(Store())
    state = file.state
    state.status, state.owner = "RUNNING", "dead"
    for stage in ("stage-ffmpeg-0", "stage-librosa"):
        outcome = succeed(Task(stage=stage), None)
        state.tasks[stage] = TaskState(status="COMPLETED", outputs=outcome.outputs, etags=outcome.etags)
        state.rows += outcome.rows
    state.tasks["stage-ffmpeg-1"] = TaskState(status="RUNNING")
    return file


def kept(name, *, status="ok", invocation_id="", attempt=1):
    task = Task(stage=name)
    invocation_id = invocation_id or f"dead.{name}.{attempt}"
    metadata = StageMetadata(
        request_id="r",
        invocation_id=invocation_id,
        attempt=attempt,
        stage=name,
        status=status,
        outputs=outputs_of(task),
    )
    return Kept(name, metadata)


OWN = StageRow(request_id="r", invocation_id="new", stage="orchestrator", started_at_ns=99)


def test_what_a_stage_finished_after_its_caller_died_is_not_done_again():
    state = interrupted().state
    attempts = take_up(state, [kept("stage-ffmpeg-1")], OWN)
    assert set(state.tasks) == {"stage-ffmpeg-0", "stage-librosa", "stage-ffmpeg-1"}
    assert state.tasks["stage-ffmpeg-1"].outputs == outputs_of(Task(stage="stage-ffmpeg-1"))
    assert attempts["stage-ffmpeg-1"] == 1
    assert [row.status for row in state.rows if row.stage == "stage-ffmpeg-1"] == ["ok"]


def test_what_nobody_knows_of_is_done_again_as_a_new_attempt_and_the_lost_one_has_a_row():
    state = interrupted().state
    attempts = take_up(state, [], OWN)
    assert set(state.tasks) == {"stage-ffmpeg-0", "stage-librosa"}
    assert attempts["stage-ffmpeg-1"] == 1
    (lost,) = [row for row in state.rows if row.stage == "stage-ffmpeg-1"]
    assert (lost.status, lost.attempt, lost.invocation_id) == ("lost", 1, "dead.stage-ffmpeg-1.1")


def test_the_earlier_orchestrator_has_a_row_too_and_no_row_is_there_twice():
    state = interrupted().state
    for number in range(3):
        own = StageRow(request_id="r", invocation_id="same", stage="orchestrator", started_at_ns=number + 1)
        take_up(state, [kept("stage-ffmpeg-0", invocation_id="stage-ffmpeg-0.1")], own)
    orchestrators = [row for row in state.rows if row.stage == "orchestrator"]
    assert [row.status for row in orchestrators] == ["lost"] * 3
    ids = [row.invocation_id for row in state.rows if row.stage != "orchestrator"]
    assert len(ids) == len(set(ids))


def test_a_replay_of_finished_work_is_not_counted():
    state = interrupted().state
    take_up(state, [kept("stage-ffmpeg-0", invocation_id="replay-1", attempt=2)], OWN)
    assert [row.invocation_id for row in state.rows if row.stage == "stage-ffmpeg-0"] == ["stage-ffmpeg-0.1"]


def test_a_failed_clip_is_open_again_when_a_request_goes_on():
    state = interrupted().state
    state.status, state.error = "FAILED", a_failure("storage")
    state.tasks["stage-ffmpeg-1"] = TaskState(status="FAILED", error=a_failure("storage"))
    state.skipped = {"clip-000": a_failure("storage")}
    assert state.worth_repeating
    take_up(state, [kept("stage-ffmpeg-1", status="failed")], OWN)
    assert "stage-ffmpeg-1" not in state.tasks
    assert (state.error, state.skipped) == (None, {})


# Running.


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


def test_a_pinned_version_goes_down_with_every_input_that_has_one():
    one = invoker(Gateway())
    task = Task(stage="stage-search", inputs=("s3://b/a", "s3://b/c"))
    assert one.envelope(task, {"s3://b/a": "1", "s3://b/x": "2"}).etags == {"s3://b/a": "1"}


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


def test_a_refusal_without_a_row_of_its_own_is_a_failed_row():
    reply = Reply(request_id="r", stage="stage-search", status="failed", error=a_failure("forbidden", retryable=False))
    outcome = invoke(invoker(Gateway((403, msgspec.json.encode(reply), {}))))
    assert (outcome.rows[0].status, outcome.rows[0].error) == ("failed", "forbidden: because")


def test_request_ids_that_look_like_stages_are_read_right():
    class Listing(Store):
        def keys(self, prefix):
            return [uri.removeprefix("s3://b/") for uri in self.objects if uri.startswith(f"s3://b/{prefix}")]

    store = Listing()
    for path in ("stage-librosa/metadata.1.json", "stage-ffmpeg-2/clip-000/metadata.2.json", "stage-librosa/x.json"):
        store.objects[f"s3://b/requests/stage-1/{path}"] = msgspec.json.encode(kept("stage-librosa").metadata)
    assert {each.task for each in written_by_stages(store, "stage-1")} == {"stage-librosa", "stage-ffmpeg-2/clip-000"}


def test_after_a_replay_the_newest_version_is_what_the_next_stage_is_promised():
    state = interrupted().state
    replayed = kept("stage-ffmpeg-0", invocation_id="replay-1", attempt=2)
    replayed.metadata.etags = {"s3://b/audio.wav": "new"}
    take_up(state, [replayed], OWN)
    assert state.tasks["stage-ffmpeg-0"].etags == {"s3://b/audio.wav": "new"}


def test_a_row_that_was_lost_is_replaced_by_what_the_stage_wrote():
    state = interrupted().state
    state.rows.append(
        StageRow(request_id="r", invocation_id="dead.stage-ffmpeg-1.1", stage="stage-ffmpeg-1", status="lost")
    )
    take_up(state, [kept("stage-ffmpeg-1")], OWN)
    assert [row.status for row in state.rows if row.stage == "stage-ffmpeg-1"] == ["ok"]


# Sums.


def a_row(stage, sent, returned, **fields):
    """Seconds after an hour past the epoch: 0 would mean that a stamp is not known."""
    sent_at_ns, returned_at_ns = (3600 + sent) * S, (3600 + returned) * S
    return StageRow(
        request_id="r",
        invocation_id=stage,
        stage=stage,
        sent_at_ns=sent_at_ns,
        returned_at_ns=returned_at_ns,
        **fields,
    )


def test_the_critical_path_is_the_chain_that_ended_last():
    rows = [
        a_row("first", 0, 2),
        a_row("short branch", 2, 3),
        a_row("long branch", 2, 7, cold_wait_s=3.0),
        a_row("gather", 7, 8),
    ]
    assert [row.stage for row in critical_path(rows)] == ["first", "long branch", "gather"]
    assert critical_path([]) == []


def test_metrics_add_up_all_invocations_the_orchestrators_included():
    own = a_row("orchestrator", 0, 0, cost_gb_s=1.0, cold=True, cold_wait_s=0.5)
    rows = [a_row("a", 0, 2, cost_gb_s=2.0, attempt=2), a_row("b", 2, 5, cold=True, cold_wait_s=1.0)]
    found = results.metrics(own, rows)
    assert (found["invocations"], found["cold_invocations"], found["retries"]) == (3, 2, 1)
    assert (found["cost_gb_s"], found["cold_wait_s"], found["cold"]) == (3.0, 1.5, True)
    assert (found["critical_path"], found["critical_path_s"], found["critical_path_cold_wait_s"]) == (
        ["a", "b"],
        5.0,
        1.0,
    )


# Configuration.


def test_the_request_overrides_the_environment_and_that_the_default():
    environment = {"CONFIG_FPS": "2", "CONFIG_MAX_FRAMES": "7"}
    assert configured(FrameConfig, {}, {}) == FrameConfig()
    assert configured(FrameConfig, {"fps": 3}, environment) == FrameConfig(fps=3, max_frames=7)


@pytest.mark.parametrize(
    ("given", "environment", "words"),
    [
        ({"fps": "2"}, {}, "fps"),
        ({"fsp": 2}, {}, "fsp"),
        ({"fps": 0}, {}, "fps"),
        ({}, {"CONFIG_FPS": "fast"}, "CONFIG_FPS='fast'"),
        ({}, {"CONFIG_MAX_FRAMES": "0"}, "CONFIG_MAX_FRAMES"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_place(given, environment, words):
    with pytest.raises(StageError) as caught:
        configured(FrameConfig, given, environment)
    assert caught.value.slug == "bad-request"
    assert words in caught.value.reason


def test_the_contracts_variable_bounds_the_fan_out(monkeypatch):
    monkeypatch.setenv("MAX_CONCURRENT_INVOCATIONS", "3")
    assert options_of({}).max_concurrent_invocations == 3
    assert options_of({"max_concurrent_invocations": 5}).max_concurrent_invocations == 5


def test_a_mapping_is_set_by_the_environment_as_json(monkeypatch):
    monkeypatch.setenv("CONFIG_STAGE_TIMEOUTS_S", '{"stage-librosa": 9}')
    assert options_of({}).timeout_s("stage-librosa") == 9
    monkeypatch.setenv("CONFIG_STAGE_TIMEOUTS_S", '{"stage-librosa": "soon"}')
    with pytest.raises(StageError, match="CONFIG_STAGE_TIMEOUTS_S"):
        options_of({})


def test_an_envelope_round_trips_with_its_versions():
    envelope = Envelope(request_id="r", stage="s", output_uri="s3://b/o/", etags={"s3://b/i": '"abc"'}, clip="clip-000")
    assert msgspec.json.decode(msgspec.json.encode(envelope), type=Envelope) == envelope
