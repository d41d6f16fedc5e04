"""The stages after the sampling, each by itself: any input of its kind is worked with or refused, in bounded memory."""

from __future__ import annotations

import json
import random

import msgspec
import pytest

from fave.wire.envelope import Reply
from tests.support import pictures

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

# Ten minutes at one frame a second, in as many clips as a request may have.
CLIPS, FRAMES = 64, 600
WORDS = ("he", "might", "even", "have", "been", "made", "amiable", "street", "car", "dog", "person", "sea", "leisure")


class Stage:
    """One stage, ordered directly, with inputs from memory."""

    def __init__(self, pipeline, name):
        self.pipeline, self.name = pipeline, name
        self.request_id = pipeline.new_id("inputs")

    def uri(self, name):
        return self.pipeline.store.uri(f"requests/{self.request_id}/in/{name}")

    def order(self, inputs, **config):
        for name, content in inputs.items():
            self.pipeline.store.put(self.uri(name), content)
        return self.order_stored(list(inputs), **config)

    def order_stored(self, names, **config):
        envelope = {
            "request_id": self.request_id,
            "stage": self.name,
            "input_uris": [self.uri(name) for name in names],
            "output_uri": self.pipeline.store.uri(f"requests/{self.request_id}/{self.name}/"),
            "config": config,
        }
        reply = self.pipeline.caller.invoke(self.name, json.dumps(envelope).encode())
        return msgspec.json.decode(reply.content, type=Reply)

    def output(self, reply):
        assert reply.error is None, reply.error
        assert reply.telemetry.peak_rss_mb < reply.telemetry.memory_limit_mb
        return json.loads(self.pipeline.store.get(reply.outputs[0]))


@pytest.fixture
def detector(pipeline):
    return Stage(pipeline, "stage-object-detector")


@pytest.mark.parametrize(
    "make",
    [
        pictures.upright, pictures.grey, pictures.cmyk, pictures.with_alpha, pictures.sixteen_bits, pictures.turned,
        lambda: pictures.animated("GIF"), lambda: pictures.animated("WEBP"),
    ],
    ids=["plain", "grey", "CMYK", "alpha", "16 bits", "turned by EXIF", "animated GIF", "animated WebP"],
)  # fmt: skip
def test_a_picture_of_any_common_kind_shows_the_same_person(detector, make):
    (frame,) = detector.output(detector.order({"picture.jpg": make()}))["frames"]
    assert "person" in [item["label"] for item in frame["objects"]]


@pytest.mark.parametrize(
    ("make", "slug"),
    [
        (lambda: b"", "not-an-image"),
        (lambda: b"this is no picture" * 100, "not-an-image"),
        (lambda: pictures.upright()[:600] + bytes(3000), "not-an-image"),
        (pictures.cut, "not-an-image"),
        (lambda: pictures.cut("PNG"), "not-an-image"),
        (lambda: pictures.cut("WEBP"), "not-an-image"),
        (lambda: pictures.bomb("JPEG"), "too-large"),
        (lambda: pictures.bomb("PNG"), "too-large"),
        (lambda: pictures.bomb("GIF"), "too-large"),
        (lambda: bytes(33 * 2**20), "too-large"),
    ],
    ids=[
        "zero bytes", "text", "broken", "half a JPEG", "half a PNG", "half a WebP", "JPEG bomb", "PNG bomb", "GIF bomb",
        "33 MB",
    ],
)  # fmt: skip
def test_the_picture_that_cannot_be_read_is_named_and_the_replica_lives(detector, make, slug):
    before = detector.pipeline.replicas("stage-object-detector")
    reply = detector.order({"good.jpg": pictures.upright(), "bad.jpg": make()})
    assert (reply.error.slug, reply.error.retryable) == (slug, False), reply.error
    assert "bad.jpg" in reply.error.reason
    assert "good.jpg" not in reply.error.reason
    assert reply.telemetry.peak_rss_mb < reply.telemetry.memory_limit_mb
    assert detector.pipeline.replicas("stage-object-detector") == before


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {"progressive": True, "subsampling": 0}), ("PNG", {"compress_level": 1}), ("WEBP", {"method": 0})],
)
def test_the_largest_pictures_that_are_taken_fit_into_the_memory(detector, kind, options):
    content = pictures.encoded(pictures.sample().resize((4096, 4096)), kind, **options)
    detector.output(detector.order({f"{i}.jpg": content for i in range(3)}))


@pytest.mark.long
def test_the_detectors_memory_does_not_grow_with_the_number_of_frames(detector):
    content = pictures.upright()
    for name in range(FRAMES):
        detector.pipeline.store.put(detector.uri(f"{name}.jpg"), content)
    few = detector.order_stored(["0.jpg"])
    many = detector.order_stored([f"{name}.jpg" for name in range(FRAMES)])
    assert len(detector.output(many)["frames"]) == FRAMES
    assert many.telemetry.peak_rss_mb < few.telemetry.peak_rss_mb + 50


@pytest.fixture(scope="module")
def long_video(pipeline):
    """Transcripts, detections and times of ten minutes: every frame shows and every clip says something of its own."""
    rng = random.Random(1)
    names = [f"clip-{i:03}" for i in range(CLIPS)]
    length_s = FRAMES / CLIPS
    found = {
        "timestamps.json": [
            {"clip": clip, "start_s": i * length_s, "end_s": (i + 1) * length_s} for i, clip in enumerate(names)
        ]
    }
    labels = ["car", "person", "dog", "boat", "bus", "bird"]
    for number, clip in enumerate(names):
        # Thirty words a second, ten times as fast as anybody speaks.
        text = " ".join(rng.choice(WORDS) for _ in range(int(30 * length_s)))
        found[f"{clip}/transcript.json"] = {"clip": clip, "text": text, "model": "m"}
        frames = [
            {
                "frame": f"frame-{i * 1000:08}ms.jpg",
                "uri": f"s3://b/{clip}/frame-{i * 1000:08}ms.jpg",
                "at_s": float(i),
                "objects": [
                    {"label": f"{rng.choice(labels)} {number} {i} {k}", "score": 0.5, "box": [0, 0, 1, 1]}
                    for k in range(3)
                ],
                "feature": rng.randbytes(1280),
            }
            for i in range(FRAMES * (number + 1) // CLIPS - FRAMES * number // CLIPS)
        ]
        found[f"{clip}/detections.json"] = {"clip": clip, "model": "m", "frames": frames}
    return {name: msgspec.json.encode(value) for name, value in found.items()}


@pytest.mark.long
def test_ten_minutes_of_video_are_embedded_searched_and_explained_within_the_memory(pipeline, long_video):
    embedder, search, explainer = (Stage(pipeline, f"stage-{name}") for name in ("embedder", "search", "explainer"))
    texts = {name: content for name, content in long_video.items() if name != "timestamps.json"}
    embeddings = embedder.output(embedder.order(texts, query="a dog in the street"))
    assert len(embeddings["features"]) == FRAMES
    inputs = {**long_video, "embeddings.json": json.dumps(embeddings).encode()}
    ranking = search.output(search.order(inputs, query="a dog in the street", like="5:00"))
    assert len(ranking["clips"]) == CLIPS
    assert len(ranking["alike"]) == 6
    assert ranking["like"]["clip"] == "clip-032"
    explained = explainer.output(explainer.order({"ranking.json": json.dumps(ranking).encode()}))
    assert len(explained["text"]) < 3_000


def test_json_that_would_not_fit_into_a_replica_is_refused_by_name(pipeline):
    search = Stage(pipeline, "stage-search")
    before = pipeline.replicas("stage-search")
    reply = search.order({"timestamps.json": b" " * (33 * 2**20)}, query="cars")
    assert reply.error.slug == "too-large"
    assert "timestamps.json" in reply.error.reason
    assert pipeline.replicas("stage-search") == before
