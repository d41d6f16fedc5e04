import msgspec
import pytest

from fave.wire.envelope import StageMetadata
from fave.wire.records import StageRow
from orchestrator.resume import Kept, take_up, written_by_stages
from orchestrator.state import TaskState
from tests.support.orchestration import Store, a_failure, new_file, outputs_of, succeed
from workloads.workflow import Task

pytestmark = pytest.mark.unit

OWN = StageRow(request_id="r", invocation_id="new", stage="orchestrator", started_at_ns=99)


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


@pytest.mark.parametrize("status", ["lost", "failed"])
def test_what_the_stage_wrote_takes_the_place_of_what_a_caller_knew_that_left_before(status):
    """Lost: no answer in time. Failed: the request was aborted while the stage came to its end."""
    state = interrupted().state
    state.rows.append(
        StageRow(request_id="r", invocation_id="dead.stage-ffmpeg-1.1", stage="stage-ffmpeg-1", status=status)
    )
    take_up(state, [kept("stage-ffmpeg-1")], OWN)
    assert [row.status for row in state.rows if row.stage == "stage-ffmpeg-1"] == ["ok"]


def test_where_stage_and_caller_agree_the_row_keeps_the_callers_stamps():
    state = interrupted().state
    row = StageRow(request_id="r", invocation_id="dead.stage-ffmpeg-1.1", stage="stage-ffmpeg-1", status="failed")
    state.rows.append(msgspec.structs.replace(row, returned_at_ns=7))
    take_up(state, [kept("stage-ffmpeg-1", status="failed")], OWN)
    assert [row.returned_at_ns for row in state.rows if row.stage == "stage-ffmpeg-1"] == [7]
