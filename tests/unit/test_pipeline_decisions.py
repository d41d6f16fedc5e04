import threading

import msgspec
import pytest

from fave.errors import StorageError
from fave.wire.envelope import Envelope
from functions.documents import Embeddings, Frame, Object
from functions.stage_librosa.config import Config
from functions.stage_librosa.grouping import find_clips, group
from functions.stage_search.config import Config as SearchConfig
from functions.stage_search.ranking import Clip, rank, words_of
from orchestrator.invoker import Answered
from orchestrator.state import State
from tests.support.orchestration import GRAPH, VIDEO, MemoryStore, drive, failing, new_file, outputs_of, succeed
from workloads.workflow import Task, clips_of, complete, runnable

pytestmark = pytest.mark.unit


def test_tasks_become_runnable_exactly_when_their_inputs_are_there():
    done: dict[str, tuple[str, ...]] = {}
    order = []
    while not complete(GRAPH, done):
        wave = runnable(GRAPH, VIDEO, done, frozenset(done))
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
        ["stage-embedder"],
        ["stage-search"],
        ["stage-explainer"],
    ]


def test_a_task_gets_its_own_clips_inputs_and_a_gathering_one_gets_all():
    done = {name: outputs_of(Task(stage=name)) for name in ("stage-ffmpeg-0", "stage-librosa", "stage-ffmpeg-1")}
    (first, second) = runnable(GRAPH, VIDEO, done, frozenset(done))
    assert first.inputs == ("s3://b/requests/r/stage-ffmpeg-1/clip-000.mp4",)
    assert second.inputs == ("s3://b/requests/r/stage-ffmpeg-1/clip-001.mp4",)
    assert clips_of(GRAPH, done) == ["clip-000", "clip-001"]


def test_the_runner_completes_and_keeps_every_row():
    file = new_file(MemoryStore())
    assert file.create()
    drive(file, succeed)
    assert file.state.status == "COMPLETED"
    assert len(file.state.rows) == len(file.state.tasks) == 14


def test_fan_out_is_bounded():
    lock, running, peak = threading.Lock(), 0, 0

    def slow(task: Task, envelope: Envelope, **_: object) -> Answered:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        threading.Event().wait(0.01)
        with lock:
            running -= 1
        return succeed(task, envelope)

    file = new_file(MemoryStore())
    file.create()
    drive(file, slow, max_concurrent_invocations=2)
    assert peak == 2


def test_a_failure_stops_new_work_and_is_named_in_the_state():
    def fail_at_librosa(task: Task, envelope: Envelope, **_: object) -> Answered:
        outcome = succeed(task, envelope)
        return failing(outcome, "silent") if task.stage == "stage-librosa" else outcome

    store = MemoryStore()
    file = new_file(store)
    file.create()
    drive(file, fail_at_librosa)
    file.save()
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

    def fail_on_clips(task: Task, envelope: Envelope, **_: object) -> Answered:
        tried.append(task.name)
        outcome = succeed(task, envelope)
        return failing(outcome, "internal") if task.clip else outcome

    file = new_file(MemoryStore())
    file.create()
    drive(file, fail_on_clips, max_concurrent_invocations=1)
    assert tried[-1] == "stage-ffmpeg-2/clip-000"
    assert "stage-ffmpeg-2/clip-001" not in tried


def test_a_request_past_its_deadline_ends_as_failed_and_is_written_down():
    file = new_file(MemoryStore())
    file.create()
    drive(file, succeed, within_s=-1)
    assert (file.state.status, file.state.error.slug) == ("FAILED", "timeout")
    assert file.state.worth_repeating, "a repeated call goes on where this one stopped"


def test_sounds_near_each_other_are_one_clip_and_short_ones_are_dropped():
    spans = [(0.5, 2.0), (2.5, 3.5), (5.0, 8.0), (9.5, 9.6)]
    clips = group(spans, Config(), 10.0)
    assert [(c.clip, c.start_s, c.end_s) for c in clips] == [("clip-000", 0.4, 3.6), ("clip-001", 4.9, 8.1)]


def test_timestamps_order_as_numbers_beyond_ten_clips():
    """The original compared timestamps as text, which put second 10 before second 9."""
    clips = group([(float(i * 2), i * 2 + 1.0) for i in range(12)], Config(), 30.0)
    assert [clip.start_s for clip in clips] == sorted(clip.start_s for clip in clips)
    assert [clip.clip for clip in clips] == sorted(clip.clip for clip in clips)


def test_the_originals_search_for_a_threshold_ends_where_clips_are_of_six_to_thirty_seconds():
    """At 35 dB everything is one clip; the lower the threshold, the more is silence, the more clips there are."""

    def spans_at(top_db):
        return [(float(i * 10), i * 10 + 9.0) for i in range(5)] if top_db >= 40 else [(0.0, 59.0)]

    fixed = find_clips(spans_at, Config(top_db=35), 60.0)
    searched = find_clips(spans_at, Config(search_threshold=True), 60.0)
    assert (len(fixed), len(searched)) == (1, 5)


def test_padding_stays_within_the_audio():
    (clip,) = group([(0.0, 1.0)], Config(), 1.0)
    assert (clip.start_s, clip.end_s) == (0.0, 1.0)


def a_clip(name, text, **labels):
    objects = [Object(label=k, score=v) for k, v in labels.items()]
    frames = [Frame(uri=f"{name}/frame", at_s=1.0, objects=objects, feature=bytes(1280))]
    return Clip(name=name, start_s=10.0, end_s=15.0, text=text, frames=frames)


CAR = a_clip("a", "He might even have been made amiable himself.", car=0.5)
MAN = a_clip("b", "He was not an ill disposed young man.", bird=0.6)
NOTHING = Embeddings(query="", clips={}, frames={}, vectors={}, features={})


@pytest.mark.parametrize(("query", "best"), [("find scenes with cars", "a"), ("an ill-disposed young man", "b")])
def test_the_clip_that_shows_or_says_it_is_first_in_either_order(query, best):
    for clips in ([CAR, MAN], [MAN, CAR]):
        assert rank(query, clips, NOTHING, SearchConfig())[0].clip == best


def test_likeness_in_meaning_decides_where_no_word_is_shared_and_names_the_frame():
    vectors = {"vehicle": [1.0, 0.0], "car": [0.8, 0.6], "bird": [0.0, 1.0]}
    frames = {"a/frame": "car", "b/frame": "bird"}
    embeddings = Embeddings(query="vehicle", clips={}, frames=frames, vectors=vectors, features={})
    first, second = rank("vehicle", [MAN, CAR], embeddings, SearchConfig())
    assert (first.clip, first.similarity, second.similarity) == ("a", 0.8, 0.0)
    assert (first.seen_score, first.said_score) == (0.0, 0.0)
    assert first.frames[0].at_s == 11.0, "seconds into the video, not into the clip"
    assert first.frames[0].labels == {"car": 0.5}


def test_a_weight_of_zero_takes_a_part_out_of_the_score():
    (first, _) = rank("car", [CAR, MAN], NOTHING, SearchConfig(label_weight=0.0))
    assert first.score == 0.0


def test_words_of_a_request_that_say_nothing_are_left_out():
    assert words_of("Find scenes with CARS, buses and cities!") == ["car", "bus", "city"]
