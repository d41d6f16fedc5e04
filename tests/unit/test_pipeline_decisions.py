import threading
import time

import msgspec
import pytest

from fave.envelope import Failure
from fave.errors import StorageError
from fave.records import StageRow
from fave.workload import STAGES
from functions.stage_librosa.grouping import Config, group
from functions.stage_search.ranking import Clip, rank, words_of
from orchestrator.invoker import Outcome
from orchestrator.runner import run
from orchestrator.state import State, StateFile
from orchestrator.workflow import FUNCTIONS, PIPELINE, Task, clips_of, complete, runnable

pytestmark = pytest.mark.unit

VIDEO = "s3://b/video.mp4"


def outputs_of(task: Task) -> tuple[str, ...]:
    folder = f"s3://b/requests/r/{task.name}/"
    names = {
        "stage-ffmpeg-0": ["audio.wav"],
        "stage-librosa": ["timestamps.json"],
        "stage-ffmpeg-1": ["clip-000.mp4", "clip-001.mp4"],
        "stage-ffmpeg-2": ["speech.wav", "clip.mp4"],
        "stage-deepspeech": ["transcript.json"],
        "stage-ffmpeg-3": ["frame-0001.jpg", "frame-0002.jpg"],
        "stage-object-detector": ["detections.json"],
        "stage-search": ["ranking.json"],
    }
    return tuple(folder + name for name in names[task.stage])


class MemoryStore:
    """Conditional writes as S3 has them, in memory."""

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.version = 0

    def uri(self, key):
        return f"s3://b/{key}"

    def get_versioned(self, uri):
        return self.objects[uri], str(self.version)

    def put(self, uri, data, *, content_type="", if_match="", create=False):
        if (create and uri in self.objects) or (if_match and if_match != str(self.version)):
            raise StorageError(uri, slug="conflict")
        self.objects[uri] = data
        self.version += 1
        return str(self.version)


def new_file(store):
    own = StageRow(request_id="r", invocation_id="i", stage="orchestrator")
    return StateFile(store, State(request_id="r", video_uri=VIDEO, query="q", profile="", invocation=own))


def succeed(task: Task, *, timeout_s: float) -> Outcome:
    return Outcome(task, outputs_of(task), StageRow(request_id="r", invocation_id=task.name, stage=task.stage), None)


def test_the_graph_and_the_list_of_functions_are_the_same():
    assert FUNCTIONS == STAGES


def test_tasks_become_runnable_exactly_when_their_inputs_are_there():
    done: dict[str, tuple[str, ...]] = {}
    order = []
    while not complete(PIPELINE, done):
        wave = runnable(PIPELINE, VIDEO, done, frozenset(done))
        assert wave, "the graph is stuck"
        order.append([task.name for task in wave])
        done |= {task.name: outputs_of(task) for task in wave}
    assert order == [
        ["stage-ffmpeg-0"],
        ["stage-librosa"],
        ["stage-ffmpeg-1"],
        ["stage-ffmpeg-2/clip-000", "stage-ffmpeg-2/clip-001"],
        [
            "stage-deepspeech/clip-000",
            "stage-deepspeech/clip-001",
            "stage-ffmpeg-3/clip-000",
            "stage-ffmpeg-3/clip-001",
        ],
        ["stage-object-detector/clip-000", "stage-object-detector/clip-001"],
        ["stage-search"],
    ]


def test_a_task_gets_its_own_clips_inputs_and_a_gathering_one_gets_all():
    done = {name: outputs_of(Task(stage=name)) for name in ("stage-ffmpeg-0", "stage-librosa", "stage-ffmpeg-1")}
    (first, second) = runnable(PIPELINE, VIDEO, done, frozenset(done))
    assert first.inputs == ("s3://b/requests/r/stage-ffmpeg-1/clip-000.mp4",)
    assert second.inputs == ("s3://b/requests/r/stage-ffmpeg-1/clip-001.mp4",)
    assert clips_of(done) == ["clip-000", "clip-001"]


def test_the_runner_completes_and_keeps_every_row():
    file = new_file(MemoryStore())
    assert file.create()
    run(file, succeed, max_concurrent=4, deadline_s=time.monotonic() + 60)
    assert file.state.status == "COMPLETED"
    assert len(file.state.rows) == len(file.state.tasks) == 12


def test_fan_out_is_bounded():
    lock, running, peak = threading.Lock(), 0, 0

    def slow(task: Task, *, timeout_s: float) -> Outcome:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1
        return succeed(task, timeout_s=timeout_s)

    file = new_file(MemoryStore())
    file.create()
    run(file, slow, max_concurrent=2, deadline_s=time.monotonic() + 60)
    assert peak == 2


def test_a_failure_stops_new_work_and_is_named_in_the_state():
    def fail_at_librosa(task: Task, *, timeout_s: float) -> Outcome:
        outcome = succeed(task, timeout_s=timeout_s)
        error = Failure(slug="silent", stage=task.stage, reason="nothing to hear")
        return outcome._replace(error=error, outputs=()) if task.stage == "stage-librosa" else outcome

    store = MemoryStore()
    file = new_file(store)
    file.create()
    run(file, fail_at_librosa, max_concurrent=2, deadline_s=time.monotonic() + 60)
    saved = msgspec.json.decode(store.objects[file.uri], type=State)
    assert (saved.status, saved.error.slug, saved.error.stage) == ("FAILED", "silent", "stage-librosa")
    assert set(saved.tasks) == {"stage-ffmpeg-0", "stage-librosa"}


def test_a_second_writer_is_noticed_instead_of_overwritten():
    store = MemoryStore()
    file, other = new_file(store), new_file(store)
    assert file.create()
    assert not other.create()
    store.put(file.uri, b"somebody else's")
    with pytest.raises(StorageError) as caught:
        file.save()
    assert caught.value.slug == "conflict"


def test_a_write_that_meets_itself_after_a_lost_reply_is_no_conflict():
    """The client repeats a conditional write whose reply was lost, and is told that somebody was first: itself."""

    class LosesOneReply(MemoryStore):
        def put(self, uri, data, **condition):
            super().put(uri, data, **condition)
            return super().put(uri, data, **condition)

    file = new_file(LosesOneReply())
    assert file.create()


def test_after_the_first_failure_nothing_new_is_started():
    tried = []

    def fail_on_clips(task: Task, *, timeout_s: float) -> Outcome:
        tried.append(task.name)
        outcome = succeed(task, timeout_s=timeout_s)
        error = Failure(slug="internal", stage=task.stage, reason="boom")
        return outcome._replace(error=error) if task.clip else outcome

    file = new_file(MemoryStore())
    file.create()
    run(file, fail_on_clips, max_concurrent=1, deadline_s=time.monotonic() + 60)
    assert tried[-1] == "stage-ffmpeg-2/clip-000"
    assert "stage-ffmpeg-2/clip-001" not in tried


def test_a_request_past_its_deadline_ends_as_failed_and_is_written_down():
    file = new_file(MemoryStore())
    file.create()
    run(file, succeed, max_concurrent=2, deadline_s=time.monotonic() - 1)
    assert (file.state.status, file.state.error.slug) == ("FAILED", "timeout")


def test_sounds_near_each_other_are_one_clip_and_short_ones_are_dropped():
    spans = [(0.5, 2.0), (2.5, 3.5), (5.0, 8.0), (9.5, 9.6)]
    clips = group(spans, Config(), 10.0)
    assert [(c.clip, c.start_s, c.end_s) for c in clips] == [("clip-000", 0.4, 3.6), ("clip-001", 4.9, 8.1)]


def test_timestamps_order_as_numbers_beyond_ten_clips():
    """The original compared timestamps as text, which put second 10 before second 9."""
    clips = group([(float(i * 2), i * 2 + 1.0) for i in range(12)], Config(), 30.0)
    assert [clip.start_s for clip in clips] == sorted(clip.start_s for clip in clips)
    assert [clip.clip for clip in clips] == sorted(clip.clip for clip in clips)


def test_padding_stays_within_the_audio():
    (clip,) = group([(0.0, 1.0)], Config(), 1.0)
    assert (clip.start_s, clip.end_s) == (0.0, 1.0)


CAR = Clip(name="a", text="He might even have been made amiable himself.", labels={"car": 0.5})
MAN = Clip(name="b", text="He was not an ill disposed young man.", labels={"bird": 0.6})


@pytest.mark.parametrize(("query", "best"), [("find scenes with cars", "a"), ("an ill-disposed young man", "b")])
def test_the_clip_that_shows_or_says_it_is_first_in_either_order(query, best):
    for clips in ([CAR, MAN], [MAN, CAR]):
        assert rank(query, clips, label_weight=1, transcript_weight=1)[0].clip == best


def test_words_of_a_request_that_say_nothing_are_left_out():
    assert words_of("Find scenes with CARS, buses and cities!") == ["car", "bus", "city"]
