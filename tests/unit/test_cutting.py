"""Which picture a clip shows when; which bytes a container says it has."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.containers import missing_bytes
from functions.documents import Interval
from functions.stage_ffmpeg_1.cutting import cut
from functions.timeline import Shown

pytestmark = pytest.mark.unit


class Record:
    """A clip that writes down what it is shown."""

    def __init__(self, interval):
        self.interval = interval
        self.shown = []
        self.finished = False

    def show(self, at_s, frame):
        assert not self.finished
        self.shown.append((round(at_s, 6), frame))

    def finish(self):
        self.finished = True


def cut_all(times_s, *intervals):
    """The clips, and how many pictures were looked at."""
    clips, seen = [], []

    def begin(interval):
        clips.append(Record(interval))
        return clips[-1]

    def pictures():
        for at_s in times_s:
            seen.append(at_s)
            yield Shown(at_s, f"p{at_s:g}")

    named = [Interval(f"clip-{i:03d}", *each) for i, each in enumerate(intervals)]
    cut(pictures(), named, begin)
    assert all(clip.finished for clip in clips)
    assert sorted(clip.interval.clip for clip in clips) == [each.clip for each in named]
    return {clip.interval.clip: clip.shown for clip in clips}, len(seen)


def test_a_clip_begins_with_the_picture_that_stands_then():
    clips, _ = cut_all([0, 0.4, 0.8, 1.2, 1.6], (0.5, 1.3))
    assert clips["clip-000"] == [(0, "p0.4"), (0.3, "p0.8"), (0.7, "p1.2")]


def test_a_picture_at_the_very_beginning_needs_no_other_before_it():
    clips, _ = cut_all([0, 0.4, 0.8], (0.4, 0.8))
    assert clips["clip-000"] == [(0, "p0.4")]


def test_the_last_picture_is_held_for_clips_behind_it():
    clips, _ = cut_all([0, 0.4], (5, 6), (7, 8))
    assert clips == {"clip-000": [(0, "p0.4")], "clip-001": [(0, "p0.4")]}


def test_before_the_first_picture_there_is_none():
    clips, _ = cut_all([3.0, 3.4], (0, 1), (2.5, 3.2))
    assert clips == {"clip-000": [(0, None)], "clip-001": [(0, None), (0.5, "p3")]}


def test_a_clip_between_two_pictures_shows_the_one_that_stands():
    clips, _ = cut_all([0, 10], (3, 4), (5, 6))
    assert clips == {"clip-000": [(0, "p0")], "clip-001": [(0, "p0")]}


def test_clips_that_overlap_both_get_their_pictures_in_any_order():
    clips, _ = cut_all([0, 1, 2, 3], (1, 4), (0, 2))
    assert clips["clip-000"] == [(0, "p1"), (1, "p2"), (2, "p3")]
    assert clips["clip-001"] == [(0, "p0"), (1, "p1")]


def test_nothing_is_decoded_behind_the_last_clip():
    _, looked_at = cut_all([0, 1, 2, 3, 4, 5, 6, 7], (0.5, 2.5))
    assert looked_at == 4


@given(
    st.lists(st.integers(0, 200), min_size=1, unique=True),
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 50)), min_size=1, max_size=5),
)
def test_at_every_moment_a_clip_shows_what_the_video_shows(times, spans):
    """Against the plain definition: the newest picture that is not later."""
    times_s = sorted(t / 10 for t in times)
    intervals = [(begin / 10, (begin + length) / 10) for begin, length in spans]
    clips, _ = cut_all(times_s, *intervals)

    def standing(at_s):
        past = [t for t in times_s if t <= at_s + 1e-6]
        return f"p{past[-1]:g}" if past else None

    for name, shown in clips.items():
        start_s, end_s = intervals[int(name[-3:])]
        later = [(round(t - start_s, 6), f"p{t:g}") for t in times_s if start_s < t < end_s]
        assert shown == [(0, standing(start_s)), *later]


def box(kind, size, body=b""):
    return size.to_bytes(4, "big") + kind + body


FTYP = box(b"ftyp", 16, b"isom\0\0\0\0")


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (FTYP + box(b"mdat", 8 + 5, b"12345"), 0),
        (FTYP + box(b"mdat", 8 + 5, b"123"), 2),
        (FTYP + box(b"mdat", 0, b"until the end"), 0),
        (FTYP + box(b"mdat", 1, (16 + 100).to_bytes(8, "big")), 100),
        (FTYP + box(b"free", 8) + b"\xff" * 20, 0),
        (FTYP + box(b"mdat", 8) + b"\0" * 40, 0),
        (b"RIFF" + (4).to_bytes(4, "little") + b"AVI ", 0),
        (b"RIFF" + (40).to_bytes(4, "little") + b"AVI ", 36),
        (b"RIFF" + b"\xff" * 4 + b"WAVE", 0),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x85hello", 0),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x85hel", 2),
        (b"\x1a\x45\xdf\xa3\x81x\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xffhel", 0),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x40\x04he", 2),
        (b"", 0),
        (b"ftyp", 0),
        (b"G" * 188, 0),
    ],
)  # fmt: skip
def test_a_container_says_how_many_bytes_are_missing(tmp_path, content, missing):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert missing_bytes(path) == missing


@example(b"\x01\x10\x00\x00\x00\x00\x00", b"\x1a\x45\xdf\xa3")
@given(st.binary(max_size=200), st.sampled_from([b"", FTYP, b"RIFF", b"\x1a\x45\xdf\xa3"]))
def test_no_bytes_confuse_it(tmp_path_factory, content, head):
    path = tmp_path_factory.mktemp("x") / "file"
    path.write_bytes(head + content)
    assert missing_bytes(path) >= 0
