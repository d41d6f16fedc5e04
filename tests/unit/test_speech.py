"""What stage-deepspeech does without its model: read any sound in windows, and judge what was heard."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fave.errors import StageError
from functions.documents import Embeddings, RankedClip, Ranking
from functions.stage_deepspeech.certainty import Heard, judge, transcript
from functions.stage_deepspeech.config import Config
from functions.stage_deepspeech.sound import LONGEST, RATE_HZ, SHORTEST_CUT, cut, quietest, windows
from functions.stage_explainer.summary import summarise
from functions.stage_search.config import Config as SearchConfig
from functions.stage_search.ranking import Clip, rank
from search.show import said_in

pytestmark = pytest.mark.unit

SOUND = 0.3 * np.sin(2 * np.pi * 300 * np.arange(2 * RATE_HZ) / RATE_HZ)
PCM, FLOAT = 1, 3
INT16 = (SOUND * 32767).astype("<i2").tobytes()


def wav(data=INT16, *, rate_hz=RATE_HZ, channels=1, bits=16, kind=PCM, said_bytes=None):
    """A WAV file that says of itself what it is told to say."""
    size = len(data) if said_bytes is None else said_bytes
    frame = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate_hz, rate_hz * frame % 2**32, frame, bits)
    riff = b"RIFF" + struct.pack("<I", min(36 + size, 2**32 - 1)) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
    return riff + b"data" + struct.pack("<I", size) + data


def encoded(container, codec, rate_hz=RATE_HZ):
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray((SOUND * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.rate = RATE_HZ
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate_hz, frame_size=960)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture
def heard_in(tmp_path):
    def read(content):
        path = tmp_path / "in.wav"
        path.write_bytes(content)
        return np.concatenate(list(windows(path)))

    return read


@pytest.mark.parametrize(
    "content",
    [
        wav(),
        wav(np.repeat((SOUND * 32767).astype("<i2"), 2).tobytes(), channels=2),
        wav(np.repeat((SOUND * 32767).astype("<i2"), 6).tobytes(), channels=6),
        wav((128 + SOUND * 127).astype("u1").tobytes(), bits=8),
        wav(b"".join(struct.pack("<i", int(value * 2**31))[1:] for value in SOUND), bits=24),
        wav((SOUND * 2**31).astype("<i4").tobytes(), bits=32),
        wav(SOUND.astype("<f4").tobytes(), bits=32, kind=FLOAT),
        wav(SOUND.astype("<f8").tobytes(), bits=64, kind=FLOAT),
        encoded("flac", "flac"),
        encoded("aiff", "pcm_s16be"),
        wav(said_bytes=0),
        wav(said_bytes=2**32 - 1),
        wav(said_bytes=2**31 - 4096),
        wav(said_bytes=len(INT16) + 1000),
        wav(INT16 + b"x"),
    ],
    ids=[
        "plain", "stereo", "5.1", "8 bit", "24 bit", "32 bit", "float", "double", "flac", "aiff",
        "says 0 bytes", "says the most", "says as sox does", "says more than there is", "odd byte count",
    ],
)  # fmt: skip
def test_the_same_sound_in_any_form_is_heard_alike(heard_in, content):
    assert heard_in(content) == pytest.approx(SOUND, abs=0.02)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100, 48000, 96000])
def test_other_rates_keep_their_duration_and_pitch(heard_in, rate_hz):
    at_s = np.arange(2 * rate_hz) / rate_hz
    heard = heard_in(wav((0.3 * np.sin(2 * np.pi * 300 * at_s) * 32767).astype("<i2").tobytes(), rate_hz=rate_hz))
    assert len(heard) == pytest.approx(2 * RATE_HZ, abs=2)
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.argmax(spectrum) / 2 == pytest.approx(300, abs=1)


def test_lossy_sound_is_heard(heard_in):
    heard = heard_in(encoded("ogg", "libopus", 48_000))
    assert len(heard) == pytest.approx(2 * RATE_HZ, abs=RATE_HZ / 10)
    assert np.sqrt(np.mean(heard**2)) == pytest.approx(np.sqrt(np.mean(SOUND**2)), rel=0.1)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        wav()[:20],
        wav(b""),
        wav(b"x"),
        b"this is no sound at all" * 1000,
        wav(rate_hz=0),
        wav(rate_hz=1),
        wav(rate_hz=2**32 - 1),
        wav(channels=0),
        wav(channels=64),
        wav(bits=0),
        wav(kind=0x1234),
        encoded("flac", "flac")[:-500],
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    ],
    ids=[
        "zero bytes", "four bytes", "half a header", "header only", "one byte", "text", "0 Hz", "1 Hz", "4 GHz",
        "no channel", "64 channels", "0 bit", "unknown codec", "damaged", "playlist", "concatenation",
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused_by_name_and_not_tried_again(heard_in, tmp_path, content):
    with pytest.raises(StageError) as refusal:
        heard_in(content)
    assert (refusal.value.slug, refusal.value.retryable) == ("not-audio", False)
    assert refusal.value.reason
    assert str(tmp_path) not in refusal.value.reason


@given(st.lists(st.integers(1, 2 * LONGEST), max_size=4), st.integers(0, 2**32 - 1))
def test_windows_are_the_sound_and_none_is_longer_than_the_model_hears(sizes, seed):
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal(size, np.float32) for size in sizes]
    cuts = list(cut(blocks))
    whole = np.concatenate([np.empty(0, np.float32), *blocks])
    assert np.array_equal(np.concatenate([np.empty(0, np.float32), *cuts]), whole)
    assert all(0 < len(window) <= LONGEST for window in cuts)
    assert all(len(window) >= SHORTEST_CUT for window in cuts[:-1])
    assert [len(window) for window in cuts] == [len(window) for window in cut([whole])], "however it is read"


def test_a_window_ends_in_a_pause_not_in_a_word():
    sound = np.random.default_rng(1).standard_normal(50 * RATE_HZ, np.float32)
    sound[26 * RATE_HZ : 26 * RATE_HZ + RATE_HZ // 4] *= 0.01
    first, second = cut([sound])
    assert 26 * RATE_HZ <= len(first) <= 26 * RATE_HZ + RATE_HZ // 4
    assert len(first) + len(second) == len(sound)


def test_silence_is_cut_as_late_as_possible():
    assert quietest(np.zeros(RATE_HZ, np.float32)) == pytest.approx(RATE_HZ, abs=RATE_HZ // 20)


def heard(**changes):
    clear = {"start_s": 0.0, "end_s": 4.0, "voice_s": 3.0, "text": "two cars", "no_speech_prob": 0.05}
    return Heard(**{**clear, "avg_logprob": -0.2, "compression_ratio": 1.1, **changes})


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "certain"),
        ({"voice_s": 0.19}, "nothing"),
        ({"voice_s": 0.19, "avg_logprob": -3.0}, "nothing"),
        ({"no_speech_prob": 0.61}, "uncertain"),
        ({"avg_logprob": Config().min_avg_logprob - 0.01}, "uncertain"),
        ({"avg_logprob": Config().min_avg_logprob}, "certain"),
        ({"compression_ratio": 2.41}, "uncertain"),
        ({"text": ". . ."}, "uncertain"),
        ({"text": ""}, "uncertain"),
        ({"text": "10"}, "certain"),
    ],
)
def test_one_figure_out_of_its_limit_is_enough_for_doubt(changes, verdict):
    assert judge(heard(**changes), Config()) == verdict


def test_limits_are_settings():
    lax = Config(min_voice_s=0, max_no_speech_prob=1, min_avg_logprob=-20, max_compression_ratio=100)
    poor = heard(voice_s=0.0, no_speech_prob=1.0, avg_logprob=-9.0, compression_ratio=20.0)
    assert (judge(poor, Config()), judge(poor, lax)) == ("nothing", "certain")


def test_a_transcript_keeps_apart_what_is_certain_and_what_is_not_and_has_the_figures():
    said = [
        heard(text="Two cars."),
        heard(text="You", voice_s=0.0),
        heard(text="The next one.", avg_logprob=-1.5),
        heard(text="They wait."),
        heard(text=""),
    ]
    made = transcript("clip-000", "model", said, Config())
    assert (made["text"], made["uncertain"]) == ("Two cars. They wait.", "The next one. …")
    verdicts = ["certain", "nothing", "uncertain", "certain", "uncertain"]
    assert [segment["verdict"] for segment in made["segments"]] == verdicts
    assert made["segments"][2]["avg_logprob"] == -1.5


def ranked(text="", uncertain=""):
    clip = Clip(name="clip-000", start_s=0, end_s=4, text=text, frames=[], uncertain=uncertain)
    none = Embeddings(query="cars", clips={}, frames={}, features={}, vectors={})
    return rank("cars", [clip], none, SearchConfig())[0]


def test_what_is_uncertain_is_handed_on_and_counts_for_nothing():
    sure, unsure = ranked(text="two cars"), ranked(uncertain="two cars")
    assert (sure.score, unsure.score) == (1.0, 0.0)
    assert (unsure.text, unsure.uncertain, unsure.words) == ("", "two cars", ())


@pytest.mark.parametrize(
    ("text", "uncertain", "shown"),
    [
        ("", "", "nothing"),
        ("Two cars.", "", "“Two cars.”"),
        ("", "The next one.", "nothing that the English model is sure of (perhaps “The next one.”)"),
        (
            "Two cars.",
            "The next one.",
            "“Two cars.”, and more that the English model is not sure of (perhaps “The next one.”)",
        ),
    ],
)
def test_a_person_is_told_what_is_sure_and_what_is_a_guess(text, uncertain, shown):
    assert said_in({"text": text, "uncertain": uncertain}) == shown


def test_a_summary_does_not_claim_that_nothing_was_said_where_it_was_not_understood():
    def summary(clip: RankedClip) -> str:
        return summarise(Ranking(query="cars", clips=[clip]), 3)

    assert "not understood" not in summary(ranked(text="a dog"))
    assert summary(ranked(uncertain="the next one")).endswith(
        "What is said in 1 of 1 clips was not understood for certain."
    )
