"""Frames as pictures: which are the same, which are like a given one; and what an explanation is given of them."""

import msgspec
import pytest

from fave.errors import StageError
from functions.documents import Detections, Embeddings, Frame, Object, RankedClip, RankedFrame, Ranking
from functions.stage_explainer.language_model import facts_of
from functions.stage_explainer.summary import summarise
from functions.stage_search.alike import frame_like, frames_alike
from functions.stage_search.config import Config
from functions.stage_search.pictures import Pictures
from functions.stage_search.ranking import Clip, rank

pytestmark = pytest.mark.unit


def feature(*channels):
    return bytes(channels) + bytes(1280 - len(channels))


STREET, STREET_AGAIN, SEA, WOOD = feature(255, 9), feature(255, 30), feature(9, 255), feature(200, 200)


def a_clip(name, start_s, *features, label="car"):
    frames = [
        Frame(uri=f"s3://b/{name}/frame-{i:05}000ms.jpg", at_s=float(i), objects=[Object(label, 0.5)], feature=each)
        for i, each in enumerate(features)
    ]
    return Clip(name=name, start_s=start_s, end_s=start_s + len(features), text="", frames=frames)


FIRST = a_clip("clip-000", 10.0, STREET, STREET_AGAIN, SEA)
SECOND = a_clip("clip-001", 20.0, STREET_AGAIN, WOOD, STREET)
CLIPS = [FIRST, SECOND]
EMBEDDINGS = Embeddings(
    query="", clips={}, frames={}, vectors={}, features={f.uri: f.feature for clip in CLIPS for f in clip.frames}
)


def times(frames):
    return [frame.at_s for frame in frames]


def test_frames_that_show_the_same_are_listed_once_and_the_first_stands_for_them():
    first, second = rank("sheep", CLIPS, EMBEDDINGS, Config())
    assert (times(first.frames), times(second.frames)) == ([10.0, 12.0], [20.0, 21.0])


def test_the_frame_that_shows_most_of_what_is_wanted_comes_first_and_stands_for_its_copies():
    wanted = msgspec.structs.replace(FIRST.frames[1], objects=[Object("bus", 0.9)])
    clip = msgspec.structs.replace(FIRST, frames=[FIRST.frames[0], wanted, FIRST.frames[2]])
    (ranked,) = rank("a bus", [clip], EMBEDDINGS, Config())
    assert times(ranked.frames) == [11.0, 12.0]
    assert ranked.frames[0].labels == {"bus": 0.9}


def test_a_dropped_copy_still_counts_for_its_clips_score():
    clip = msgspec.structs.replace(
        FIRST, frames=[FIRST.frames[0], msgspec.structs.replace(FIRST.frames[1], objects=[Object("bus", 0.4)])]
    )
    (ranked,) = rank("bus car", [clip], EMBEDDINGS, Config())
    assert (ranked.seen_score, times(ranked.frames)) == (0.45, [10.0])


@pytest.mark.parametrize(("same_picture", "listed"), [(0.0, 1), (0.985, 2), (1.0, 3)])
def test_from_which_similarity_on_frames_are_one_picture_is_a_setting(same_picture, listed):
    assert len(rank("car", [FIRST], EMBEDDINGS, Config(same_picture=same_picture))[0].frames) == listed


def test_no_more_pictures_are_listed_than_asked_for():
    assert len(rank("car", [FIRST], EMBEDDINGS, Config(max_pictures=1))[0].frames) == 1


def test_frames_without_a_feature_are_like_no_other():
    pictures = Pictures({}, 0.5)
    assert pictures.similarity("a", "b") == 0.0
    assert pictures.distinct(["a", "b"], 5) == ["a", "b"]


def test_similarity_is_the_cosine_of_the_features():
    pictures = Pictures({"a": feature(3, 4), "b": feature(30, 40), "c": feature(4, 3), "d": feature(0, 0, 7)}, 1.0)
    assert pictures.similarity("a", "b") == pytest.approx(1.0)
    assert pictures.similarity("a", "c") == pytest.approx(0.96)
    assert pictures.similarity("a", "d") == 0.0


@pytest.mark.parametrize(
    "like",
    ["s3://b/clip-001/frame-00001000ms.jpg", "clip-001/frame-00001000ms.jpg", "21", "20.6", "0:21.4", " 0:21 "],
)
def test_a_frame_is_named_by_its_address_by_clip_and_name_or_by_a_time_in_the_video(like):
    found = frame_like(like, CLIPS)
    assert (found.clip, found.at_s, found.uri) == ("clip-001", 21.0, "s3://b/clip-001/frame-00001000ms.jpg")


def test_a_time_that_was_printed_for_a_frame_finds_it():
    clip = msgspec.structs.replace(FIRST, start_s=10.049)  # printed as 0:10.0
    assert frame_like("0:10.0", [clip]).at_s == 10.049


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ("clip-007/frame-00001000ms.jpg", "'clip-007/frame-00001000ms.jpg' is no frame"),
        ("clip-001/frame-00009000ms.jpg", "'clip-001/frame-00009000ms.jpg' is no frame"),
        ("the one with the dog", "'the one with the dog' is no frame"),
        ("0:15.0", "at 0:15.0 there is no frame; clips are at 0:10.0 to 0:13.0, 0:20.0 to 0:23.0"),
        ("9:59", "at 9:59.0 there is no frame"),
        ("-1", "'-1' is no frame"),
        ("1e9", "'1e9' is no frame"),
    ],
)
def test_what_names_no_frame_is_refused_by_name(like, words):
    with pytest.raises(StageError, match=words) as caught:
        frame_like(like, CLIPS)
    assert (caught.value.slug, caught.value.retryable) == ("bad-request", False)


def test_alike_frames_are_of_every_clip_the_best_first_and_none_is_the_given_picture_again():
    given = frame_like("clip-000/frame-00000000ms.jpg", CLIPS)
    found = frames_alike(given, CLIPS, EMBEDDINGS, Config())
    # Of the given clip's copy nothing is left; the other clip shows the street at both ends, its best is listed.
    assert [(each.clip, each.at_s) for each in found] == [("clip-001", 22.0), ("clip-001", 21.0), ("clip-000", 12.0)]
    assert [each.similarity for each in found] == sorted((each.similarity for each in found), reverse=True)
    assert found[0].similarity == 1.0
    assert found[0].labels == {"car": 0.5}


def test_a_feature_of_another_length_is_refused():
    frame = {"uri": "u", "at_s": 0, "objects": [], "feature": "AAAA"}
    with pytest.raises(msgspec.ValidationError, match="length >= 1280"):
        msgspec.convert({"clip": "c", "frames": [frame]}, Detections)


def ranked_clip(text, objects=()):
    return RankedClip(
        clip="clip-000", score=1.0, seen_score=1.0, said_score=1.0, similarity=1.0, start_s=0.0, end_s=1.0, text=text,
        labels={}, words=("car",), objects=dict(objects), frames=[RankedFrame(uri="s3://b/x.jpg", at_s=0.0, labels={})],
    )  # fmt: skip


def test_what_a_language_model_is_given_of_a_clip_is_bounded_and_without_addresses():
    clip = ranked_clip("a car " * 100_000, {f"object {i}": 0.5 for i in range(90)})
    order = msgspec.json.encode(facts_of([clip] * 3))
    assert len(order) < 10_000
    assert b"s3://" not in order


def test_a_transcript_without_stops_is_quoted_in_part():
    said = summarise(Ranking(query="car", clips=[ranked_clip("a car " * 100_000)]), 3)
    assert len(said) < 500
    assert "\u2026" in said
