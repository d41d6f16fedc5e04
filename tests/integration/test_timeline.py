"""Sound, picture, clips and sampled frames lie on one timeline, whatever container a video comes in."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions import timeline
from functions.documents import Interval
from functions.frames import time_of
from functions.stage_ffmpeg_0.config import Config as ExtractorConfig
from functions.stage_ffmpeg_0.handler import extract
from functions.stage_ffmpeg_1.config import Config as CutterConfig
from functions.stage_ffmpeg_1.handler import write_clips
from functions.stage_ffmpeg_3.config import Config as SamplerConfig
from functions.stage_ffmpeg_3.handler import sample
from tests.support import flashes
from tests.support.flashes import COARSE, FORMS, FRAME_S, Making

pytestmark = pytest.mark.integration

tenths = st.integers(1, 25).map(lambda n: n / 10)
# Where an encoder of 25 pictures a second would put them anyway.
frames = st.integers(1, 60).map(lambda n: n * FRAME_S)


@st.composite
def gaps(draw):
    begin = draw(st.integers(5, 55)) / 10
    return begin, begin + draw(st.integers(3, 15)) / 10


@st.composite
def makings(draw, form):
    kind = draw(st.sampled_from(["late sound", "late picture", "gaps", *(["edit"] if form.edits else [])]))
    if kind == "late sound":
        return Making(sound_late_s=draw(tenths))
    if kind == "late picture":
        return Making(picture_late_s=draw(frames))
    if kind == "edit":
        return Making(skipped_s=draw(tenths), sound_late_s=draw(st.sampled_from([0.0, 0.2])))
    intra = "1" in form.picture[form.picture.index("-g") :][:2]
    return Making(sound_gap=None if form.counted else draw(gaps()), picture_gap=draw(gaps()) if intra else None)


def near(found, expected, tolerance_s=FRAME_S):
    """Every expected event is found, within the tolerance."""
    return [at for at in expected if not any(abs(at - other) <= tolerance_s + 1e-6 for other in found)]


def check(folder, form, making, tolerance_s=FRAME_S):
    video = flashes.make(folder / f"film.{form.suffix}", form, making)
    wav = folder / "audio.wav"
    with timeline.opened(video) as opened:
        extract(opened, wav, ExtractorConfig(sample_rate_hz=flashes.RATE_HZ))
        media = opened.facts()
    samples, rate_hz = soundfile.read(wav, dtype="int16")
    beeps, seen = flashes.beeps_in(samples, rate_hz), flashes.flashes_in(flashes.seen(video))
    assert near(beeps, making.beeps(), tolerance_s) == []
    assert near(seen, making.flashes(), tolerance_s) == []
    # What is lost is silence, and nothing is heard or seen a second time. Half an event may be left at a gap's edge.
    half_s = tolerance_s + flashes.LASTS_S
    assert near(making.possible(making.sound_late_s), beeps, half_s) == []
    assert near(making.possible(making.picture_late_s), seen, half_s) == []
    assert len(beeps) <= flashes.LENGTH_S + 1
    interval = Interval("clip-000", 1.5 + making.sound_late_s / 3, 6.1)
    (clip,) = write_clips(video, media, [interval], folder, CutterConfig())
    within = [
        [at - interval.start_s for at in events if interval.start_s + 0.1 < at < interval.end_s - 0.2]
        for events in (making.beeps(), making.flashes())
    ]
    assert near(flashes.beeps_in(flashes.heard(clip), flashes.RATE_HZ), within[0], tolerance_s) == []
    assert near(flashes.flashes_in(flashes.seen(clip)), within[1], tolerance_s) == []
    check_frames(sample(clip, folder, SamplerConfig(fps=25, max_frames=120)), within[1], tolerance_s)
    with timeline.opened(clip) as opened:
        length_s = sum(len(block) for block in opened.sound_blocks(48_000, 1)) / 48_000
        assert abs(length_s - (interval.end_s - interval.start_s)) <= FRAME_S
        assert abs(opened.end_s - (interval.end_s - interval.start_s)) <= 2 * FRAME_S


def check_frames(frames, expected, tolerance_s):
    """Sampled as often as there are pictures: a frame's name is the time of its picture."""
    import cv2

    shown = [(time_of(path.name), float(np.mean(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))) for path in frames]
    first_seen_s = [at for at in expected if at + FRAME_S < shown[-1][0]]
    assert near(flashes.flashes_in(shown), first_seen_s, tolerance_s + FRAME_S) == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "mp4" else pytest.mark.long) for name in FORMS]
)
def test_sound_picture_clip_and_frame_times_agree_within_one_frame(name):
    """Late starts, gaps and edit lists, at random."""

    @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
    @given(making=makings(FORMS[name]))
    def agrees(making):
        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder), FORMS[name], making)

    agrees()


@pytest.mark.parametrize("name", ["mp4", "mkv, B-frames", "ts, B-frames"])
def test_what_was_said_before_lost_sound_is_not_heard_again_behind_it(name, tmp_path):
    """The loss begins within a beep; the decoder holds half of the last packet back."""
    check(tmp_path, FORMS[name], Making(sound_gap=(5.3, 5.6)))


@pytest.mark.parametrize("name", COARSE)
def test_older_containers_agree_within_a_frame_and_a_half(name, tmp_path):
    check(tmp_path, COARSE[name], Making(), tolerance_s=1.5 * FRAME_S)
