"""Ordinary files with ordinary mistakes: searched rightly, or refused with a reason; in bounded memory."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from fave.errors import StageError
from fave.settings import ROOT
from functions import media as ffmpeg
from functions import timeline
from functions.stage_ffmpeg_0.config import Config as ExtractorConfig
from functions.stage_ffmpeg_0.handler import extract
from functions.stage_ffmpeg_1.config import Config as CutterConfig
from functions.stage_ffmpeg_1.handler import write_clips
from functions.stage_ffmpeg_2.config import Config as CompressorConfig
from functions.stage_ffmpeg_2.handler import compress
from functions.stage_ffmpeg_3.config import Config as SamplerConfig
from functions.stage_ffmpeg_3.handler import sample
from functions.stage_librosa.config import Config as GroupingConfig
from functions.stage_librosa.grouping import find_clips
from functions.stage_librosa.loudness import measure
from tests.support.media import SHORT, run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
FRAME_S = 0.04


class Searched:
    """What the first three stages make of a file."""

    def __init__(self, video: Path, **settings: object) -> None:
        self.folder = video.parent
        wav = self.folder / "audio.wav"
        config = ExtractorConfig(**settings)
        with timeline.opened(video, config.sound_track) as opened:
            extract(opened, wav, config)
            self.media = opened.facts()
        loudness = measure(wav)
        self.intervals = find_clips(loudness.spans_at, GroupingConfig(), loudness.length_s)
        self.clips = list(write_clips(video, self.media, self.intervals, self.folder, CutterConfig()))


def refused(video, **settings):
    with pytest.raises(StageError) as caught:
        Searched(video, **settings)
    assert str(video.parent) not in caught.value.reason, "a path of this machine"
    return caught.value.slug


def made(target, *arguments):
    run(*arguments, str(target))
    return target


def times(searched):
    return [(each.start_s, each.end_s) for each in searched.intervals]


def picture_at(path, at_s):
    """The picture that `path` shows at a moment, small and grey: [16, 16]."""
    standing = None
    with timeline.opened(path) as video:
        for shown in video.pictures():
            if shown.at_s > at_s + 0.001 and standing is not None:
                break
            standing = shown.frame
        return standing.reformat(width=16, height=16, format="gray").to_ndarray().astype(float)


def same_picture(a, b):
    return np.abs(a - b).mean() < 6


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The short sample, as it is."""
    folder = tmp_path_factory.mktemp("plain")
    return Searched(made(folder / "plain.mp4", "-i", str(SHORT), "-c", "copy"))


def test_sound_that_starts_late_is_searched_where_it_is(tmp_path, plain):
    """a.mkv of the report: sound from 1.88 to 6.65 and from 8.23 to 11.21 s by ffmpeg's silencedetect."""
    late = ("-i", str(SHORT), "-itsoffset", "1", "-i", str(SHORT), "-map", "0:v", "-map", "1:a", "-c", "copy")
    searched = Searched(made(tmp_path / "a.mkv", *late))
    expected = [(start_s + 1, end_s + 1) for start_s, end_s in times(plain)]
    assert np.allclose(times(searched), expected, atol=FRAME_S)
    assert np.allclose(times(searched), [(1.7, 7.0), (8.1, 11.5)], atol=0.1)
    assert same_picture(picture_at(searched.clips[0], 0.0), picture_at(SHORT, searched.intervals[0].start_s))


def test_sound_that_starts_very_late_is_no_truncated_file(tmp_path):
    late = ("-i", str(SHORT), "-itsoffset", "2.5", "-i", str(SHORT), "-map", "0:v", "-map", "1:a", "-c", "copy")
    assert len(Searched(made(tmp_path / "a.mkv", *late)).intervals) == 2


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mov", "flv", "mp4"])
def test_a_clip_holds_the_pictures_of_its_own_time(tmp_path, suffix):
    """b.ts of the report: its clip of 0.75 to 6.0 s held pictures of 2.00 to 7.24 s."""
    options = ("-f", "mpegts") if suffix == "ts" else ()
    searched = Searched(made(tmp_path / f"b.{suffix}", "-i", str(SHORT), "-c", "copy", *options))
    assert len(searched.clips) == 2
    for interval, clip in zip(searched.intervals, searched.clips, strict=True):
        for share in (0.0, 0.3, 0.6, 0.9):
            at_s = share * (interval.end_s - interval.start_s)
            ours = picture_at(clip, at_s)
            # Within a frame: a transport stream begins with its sound, 23 ms before the first picture.
            theirs = [picture_at(SHORT, interval.start_s + at_s - late_s) for late_s in (0.0, FRAME_S)]
            assert any(same_picture(ours, each) for each in theirs), (interval, at_s)


def test_sound_that_ends_early_is_searched(tmp_path, plain):
    """c.mp4 of the report."""
    short = ("-i", str(SHORT), "-c:v", "copy", "-af", "atrim=0:6.6", "-c:a", "aac")
    searched = Searched(made(tmp_path / "c.mp4", *short))
    assert np.allclose(times(searched), times(plain)[:1], atol=FRAME_S)


def test_a_picture_that_ends_early_is_held(tmp_path, plain):
    """d.mp4 of the report: the second clip has sound only, and shows the last picture there was."""
    short = ("-t", "6.3", "-i", str(SHORT), "-i", str(SHORT), "-map", "0:v", "-map", "1:a")
    searched = Searched(made(tmp_path / "d.mp4", *short))
    assert np.allclose(times(searched), times(plain), atol=FRAME_S)
    last = picture_at(SHORT, 6.28)
    assert all(same_picture(picture_at(searched.clips[1], at_s), last) for at_s in (0.0, 1.5, 3.3))
    frames = sample(searched.clips[1], tmp_path, SamplerConfig(fps=1))
    assert [path.name for path in frames] == [f"frame-{second:05d}000ms.jpg" for second in range(4)]


def test_transport_streams_that_were_joined_are_one_video(tmp_path, plain):
    """`cat a.ts b.ts`: the stamps begin anew in the middle."""
    part = made(tmp_path / "part.ts", "-i", str(SHORT), "-c", "copy")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    searched = Searched(joined)
    second = [(start_s + 11.24, end_s + 11.24) for start_s, end_s in times(plain)]
    assert np.allclose(times(searched), [*times(plain), *second], atol=0.1)


def test_lost_packets_are_silence_and_a_held_picture(tmp_path):
    """A transport stream with a piece of its middle gone keeps its length."""
    whole = made(tmp_path / "whole.ts", "-i", str(SHORT), "-c", "copy").read_bytes()
    third = len(whole) // 188 // 3 * 188
    broken = tmp_path / "broken.ts"
    broken.write_bytes(whole[:third] + whole[third + 188 * 300 :])
    searched = Searched(broken)
    assert searched.media.duration_s == pytest.approx(11.24, abs=FRAME_S)
    assert len(soundfile.read(tmp_path / "audio.wav")[0]) / 22_050 == pytest.approx(11.24, abs=FRAME_S)


def test_a_comment_is_no_length(tmp_path):
    tagged = ("-i", str(SHORT), "-c", "copy", "-metadata", "comment=Duration: 02:05:00.00, start: 0")
    assert Searched(made(tmp_path / "tagged.mp4", *tagged)).media.duration_s == pytest.approx(11.2, abs=FRAME_S)


def test_a_stream_named_like_ffmpegs_prose_is_no_picture(tmp_path):
    cheat = ("-i", str(SHORT), "-vn", "-c:a", "copy", "-metadata", "comment=Stream #0:1: Video: h264, 640x360")
    assert refused(made(tmp_path / "sound.m4a", *cheat)) == "no-video"


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac", "mkv"])
def test_sound_with_a_cover_picture_is_no_video(tmp_path, suffix):
    cover = made(tmp_path / "cover.jpg", "-i", str(SHORT), "-frames:v", "1")
    if suffix == "mkv":
        attach = ["-attach", str(cover), "-metadata:s:t", "mimetype=image/jpeg", "-metadata:s:t", "filename=cover.jpg"]
        with_cover = ["-i", str(SHORT), "-vn", *attach]
    else:
        with_cover = ["-i", str(SHORT), "-i", str(cover), "-map", "0:a", "-map", "1:v", "-c:v", "copy"]
        with_cover += ["-disposition:v", "attached_pic"]
    assert refused(made(tmp_path / f"song.{suffix}", *with_cover)) == "no-video"


def test_of_several_sound_tracks_the_default_one_is_searched_or_the_one_that_is_set(tmp_path, plain):
    """The first track is silent, the second, in English, is marked as the default."""
    silent = ("-f", "lavfi", "-i", "anullsrc=r=44100:cl=mono", "-i", str(SHORT), "-shortest", "-map", "1:v")
    two = (*silent, "-map", "0:a", "-map", "1:a", "-c:v", "copy", "-metadata:s:a:1", "language=eng")
    video = made(tmp_path / "two.mkv", *two, "-disposition:a:0", "0", "-disposition:a:1", "default")
    searched = Searched(video)
    assert np.allclose(times(searched), times(plain), atol=FRAME_S)
    sound = searched.media.sound
    assert (sound.track, sound.tracks, sound.language) == (2, 2, "eng")
    assert Searched(video, sound_track=1).intervals == []
    assert refused(video, sound_track=3) == "bad-request"


CUTS = {
    "mp4": ("-movflags", "+faststart", "-c", "copy"),
    "mov": ("-c", "copy"),
    "mkv": ("-c", "copy"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"),
    "avi": ("-c:v", "mpeg4", "-c:a", "mp3"),
    "flv": ("-c", "copy"),
}


@pytest.mark.parametrize("suffix", CUTS)
def test_a_file_that_was_cut_short_is_truncated_wherever_it_was_cut(tmp_path, suffix):
    content = made(tmp_path / f"whole.{suffix}", "-i", str(SHORT), *CUTS[suffix]).read_bytes()
    draw = random.Random(suffix)
    for _ in range(6):
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(content[: draw.randrange(len(content) // 10, len(content) - 200)])
        assert refused(cut) == "truncated", cut.stat().st_size


def test_a_fragmented_file_that_was_cut_within_a_fragment_is_truncated(tmp_path):
    fragmented = ("-i", str(SHORT), "-c", "copy", "-movflags", "+frag_keyframe+empty_moov")
    content = made(tmp_path / "whole.mp4", *fragmented).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(content[: len(content) * 2 // 3])
    assert refused(cut) == "truncated"


@pytest.mark.parametrize("suffix", ["ts", "mpg"])
def test_a_stream_without_an_index_is_searched_up_to_where_it_ends(tmp_path, suffix):
    codecs = ("-c", "copy") if suffix == "ts" else ("-c:v", "mpeg2video", "-c:a", "mp2")
    content = made(tmp_path / f"whole.{suffix}", "-i", str(SHORT), *codecs).read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(content[: len(content) * 2 // 3])
    assert len(Searched(cut).intervals) in (1, 2)


@pytest.mark.parametrize(
    ("content", "slug"),
    [
        (b"", "not-a-video"),
        (b"\0" * 5000, "not-a-video"),
        (bytes(random.Random(1).randbytes(50_000)), "not-a-video"),
        (b"GIF89a" + b"\0" * 100, "not-a-video"),
        (b"\x1a\x45\xdf\xa3" + b"\0" * 100, "not-a-video"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0\x02\0\x10\0data\0\0\0\0", "no-video"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, content, slug):
    path = tmp_path / "made.bin"
    path.write_bytes(content)
    assert refused(path) == slug


def test_a_picture_is_refused(tmp_path):
    assert refused(made(tmp_path / "picture.jpg", "-i", str(SHORT), "-frames:v", "1")) == "no-audio"


def test_sound_in_which_nothing_can_be_decoded_is_no_audio(tmp_path):
    """The track is there, its packets are noise."""
    noisy = ("-i", str(SHORT), "-c", "copy", "-bsf:a", "noise=amount=1")
    assert refused(made(tmp_path / "noisy.mkv", *noisy)) in ("no-audio", "truncated")


def test_a_clip_without_sound_or_picture_is_named_by_the_later_stages(tmp_path):
    mute = made(tmp_path / "mute.mp4", "-i", str(SHORT), "-an", "-c:v", "copy")
    with pytest.raises(StageError, match="no sound track") as caught:
        compress(mute, tmp_path, CompressorConfig())
    assert caught.value.slug == "no-audio"
    blind = made(tmp_path / "blind.m4a", "-i", str(SHORT), "-vn", "-c:a", "copy")
    with pytest.raises(StageError) as caught:
        sample(blind, tmp_path, SamplerConfig())
    assert caught.value.slug == "no-video"
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(SHORT.read_bytes()[: SHORT.stat().st_size // 2])
    with pytest.raises(StageError) as caught:
        ffmpeg.run(ffmpeg.ffmpeg.output(ffmpeg.input_of(tmp_path / "absent.mp4"), str(tmp_path / "x.mp4")), broken)
    assert caught.value.slug == "not-a-video"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stereo.wav", ("-ac", "2")),
        ("loud-rate.wav", ("-ar", "96000")),
        ("bits.wav", ("-c:a", "pcm_s24le")),
        ("eight.wav", ("-c:a", "pcm_u8")),
        ("float.wav", ("-c:a", "pcm_f32le")),
        ("sound.flac", ()),
        ("sound.ogg", ("-c:a", "libvorbis")),
    ],
)
def test_speech_is_found_in_sound_of_any_form(tmp_path, plain, name, options):
    loudness = measure(made(tmp_path / name, "-i", str(SHORT), "-vn", *options))
    clips = find_clips(loudness.spans_at, GroupingConfig(), loudness.length_s)
    assert np.allclose([(each.start_s, each.end_s) for each in clips], times(plain), atol=0.1)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\x24\0\0\0WAVEfmt ", b"no sound at all" * 99, None])
def test_what_is_no_sound_is_not_audio(tmp_path, content):
    path = tmp_path / "sound.wav"
    path.write_bytes(SHORT.read_bytes() if content is None else content)
    with pytest.raises(StageError) as caught:
        measure(path)
    assert caught.value.slug == "not-audio"
    assert str(tmp_path) not in caught.value.reason


def test_a_sample_that_is_no_number_is_no_sound(tmp_path):
    samples = np.zeros(22_050 * 3, np.float32)
    samples[22_050:44_100] = np.sin(np.arange(22_050) / 5)
    samples[::1000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 22_050, subtype="FLOAT")
    ((start_s, end_s),) = measure(tmp_path / "nan.wav").spans_at(35)
    assert (start_s, end_s) == pytest.approx((1, 2), abs=0.1)


@pytest.mark.parametrize("count", [0, 1, 100, 2047, 2048, 5000, 131_072, 262_151, 400_001])
def test_block_by_block_it_finds_what_librosa_finds_at_once(tmp_path, count):
    noise = np.random.default_rng(count).normal(size=count).astype(np.float32) / 10
    samples = noise * (np.sin(np.arange(count) / 9000) > 0.5)
    soundfile.write(tmp_path / "sound.wav", samples, 22_050, subtype="FLOAT")
    at_once = librosa.effects.split(samples, top_db=35) if samples.any() else []
    assert measure(tmp_path / "sound.wav").spans_at(35) == [(a / 22_050, b / 22_050) for a, b in at_once]


# Each in a process of its own, so that nothing else's memory is counted. `video` and `folder` are given.
LONG = {
    "stage-ffmpeg-0": """
        from functions import timeline
        from functions.stage_ffmpeg_0.config import Config
        from functions.stage_ffmpeg_0.handler import extract
        with timeline.opened(video) as opened:
            extract(opened, folder / "audio.wav", Config())
    """,
    "stage-librosa": """
        from functions.stage_librosa.config import Config
        from functions.stage_librosa.grouping import find_clips
        from functions.stage_librosa.loudness import measure
        loudness = measure(sound)
        assert find_clips(loudness.spans_at, Config(search_threshold=True), loudness.length_s)
    """,
    "stage-ffmpeg-1": """
        from functions.documents import Interval, Media, Picture, Sound
        from functions.stage_ffmpeg_1.config import Config
        from functions.stage_ffmpeg_1.handler import write_clips
        picture = Picture(codec="h264", width_px=640, height_px=360)
        heard = Sound(codec="aac", track=1, tracks=1, language="", title="", rate_hz=44100, channels=1)
        media = Media(container="mp4", duration_s=600, picture=picture, sound=heard)
        assert len(list(write_clips(video, media, [Interval("clip-000", 1, 599)], folder, Config()))) == 1
    """,
    "stage-ffmpeg-2": """
        from functions.stage_ffmpeg_2.config import Config
        from functions.stage_ffmpeg_2.handler import compress
        compress(video, folder, Config())
    """,
    "stage-ffmpeg-3": """
        from functions.stage_ffmpeg_3.config import Config
        from functions.stage_ffmpeg_3.handler import sample
        assert len(sample(video, folder, Config(max_frames=120))) == 120
    """,
}
MEASURED = """
import sys
from pathlib import Path
from functions.host.work import Work
video, sound, folder = map(Path, sys.argv[1:4])
measured = Work()
with measured.begun():
{work}
print(measured.peak_rss_mb())
"""


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory):
    """The short sample 54 times over with fewer pictures a second, and its sound."""
    folder = tmp_path_factory.mktemp("long")
    rare = made(folder / "rare.mp4", "-i", str(SHORT), "-r", "5", "-preset", "ultrafast", "-c:a", "copy")
    video = made(folder / "long.mp4", "-stream_loop", "53", "-i", str(rare), "-c", "copy")
    return video, made(folder / "long.wav", "-i", str(video), "-vn", "-ac", "1", "-ar", "22050")


@pytest.mark.long
@pytest.mark.parametrize("stage", LONG)
def test_ten_minutes_of_input_stay_within_a_stages_memory(ten_minutes, tmp_path, stage):
    from regimes.model import resolve
    from tests.support.videosearcher import FUNCTIONS

    limit_mb = resolve("cold", FUNCTIONS)[stage].memory_limit_mb
    program = MEASURED.format(work=textwrap.indent(textwrap.dedent(LONG[stage]), "    "))
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, ten_minutes), str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < limit_mb
