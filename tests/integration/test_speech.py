"""stage-deepspeech alone, with its real models, in a replica with the memory that every regime gives it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import wave
from itertools import count

import numpy as np
import pytest

from fave.programs import cache_dir
from fave.settings import ROOT
from regimes.apply import apply
from regimes.model import resolve
from tests.support.speech import RECORDINGS, word_errors, words
from tests.support.videosearcher import WORK

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

STAGE = "stage-deepspeech"
RATE_HZ = 16_000
_ids = count()


class Stage:
    def __init__(self, platform):
        self.platform, self.store = platform, platform.store

    def hear(self, content, *, suffix="wav", **config):
        """(HTTP status, reply, bytes of the transcript)"""
        request_id = f"speech-{next(_ids)}"
        uri = self.store.uri(f"requests/{request_id}/in/speech.{suffix}")
        self.store.put(uri, content)
        order = {
            "request_id": request_id,
            "stage": STAGE,
            "clip": "clip-000",
            "input_uris": [uri],
            "output_uri": self.store.uri(f"requests/{request_id}/{STAGE}/clip-000/"),
            "config": config,
        }
        reply = self.platform.caller.invoke(STAGE, json.dumps(order).encode(), timeout_s=300)
        body = reply.json()
        return reply.status_code, body, self.store.get(body["outputs"][0]) if body["outputs"] else b""

    def transcript(self, content, **options):
        status, body, written = self.hear(content, **options)
        assert status == 200, body
        return json.loads(written)


@pytest.fixture(scope="module")
def speech(platform):
    command = [sys.executable, "-m", "assets", "--quiet", "whisper", "short"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=600)
    apply(platform.here, WORK, "warm", resolve("warm", WORK.some([STAGE])))
    yield Stage(platform)
    platform.gateway.delete(STAGE)


def recording(name):
    return (cache_dir() / "sources" / "speech" / f"{name}.wav").read_bytes()


def wav(samples):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return file.getvalue()


def samples_of(content):
    with wave.open(io.BytesIO(content)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


def german():
    return (ROOT / "tests" / "data" / "german.ogg").read_bytes()


def test_english_is_certain_and_has_its_words(speech):
    errors = total = 0
    for name, spoken in RECORDINGS.items():
        made = speech.transcript(recording(name))
        assert (made["clip"], made["uncertain"]) == ("clip-000", "")
        assert [segment["verdict"] for segment in made["segments"]] == ["certain"]
        errors += word_errors(words(spoken), words(made["text"]))
        total += len(words(spoken))
    assert errors / total <= 0.10, f"{errors} of {total}"


def test_another_language_is_marked_as_uncertain_instead_of_invented(speech):
    made = speech.transcript(german(), suffix="ogg")
    assert made["text"] == ""
    assert made["uncertain"]
    (segment,) = made["segments"]
    assert segment["verdict"] == "uncertain"
    assert segment["voice_s"] > 3
    assert segment["avg_logprob"] < -0.5 or segment["compression_ratio"] > 2.4 or segment["no_speech_prob"] > 0.6


def test_english_and_another_language_in_one_clip_are_told_apart(speech):
    """Twenty-odd seconds of each, so that each has windows of its own."""
    english = np.concatenate([samples_of(recording(name)) for name in RECORDINGS])
    backwards = english[::-1]
    made = speech.transcript(wav(np.concatenate([english, np.zeros(RATE_HZ), backwards])))
    verdicts = [segment["verdict"] for segment in made["segments"]]
    assert (verdicts[0], verdicts[-1]) == ("certain", "uncertain")
    assert words(made["text"])[-2:] == ["amiable", "himself"] or "amiable himself" in " ".join(words(made["text"]))
    assert made["uncertain"]


def sounds_that_say_nothing():
    rng = np.random.default_rng(20261126)
    for length_s in (1, 10, 40):
        at_s = np.arange(length_s * RATE_HZ) / RATE_HZ
        yield f"silence {length_s} s", np.zeros(len(at_s))
        yield f"faint noise {length_s} s", 0.001 * rng.standard_normal(len(at_s))
        yield f"noise {length_s} s", 0.1 * rng.standard_normal(len(at_s))
        yield f"loud noise {length_s} s", 0.5 * rng.standard_normal(len(at_s))
        for pitch_hz in (50, 440, 1000):
            yield f"{pitch_hz} Hz {length_s} s", 0.3 * np.sin(2 * np.pi * pitch_hz * at_s)
        yield f"square wave {length_s} s", 0.2 * np.sign(np.sin(2 * np.pi * 200 * at_s))
        yield f"sweep {length_s} s", 0.3 * np.sin(2 * np.pi * (100 + 1000 * at_s / length_s) * at_s)
        yield f"clicks {length_s} s", 0.5 * (np.arange(len(at_s)) % 8000 < 20)


def test_silence_tone_and_noise_say_nothing_at_all(speech):
    for name, sound in sounds_that_say_nothing():
        made = speech.transcript(wav(sound))
        assert (made["text"], made["uncertain"]) == ("", ""), name
        assert {segment["verdict"] for segment in made["segments"]} == {"nothing"}, name


def test_speech_between_silences_is_heard(speech):
    quiet = np.zeros(25 * RATE_HZ)
    made = speech.transcript(wav(np.concatenate([quiet, samples_of(recording("0930")), quiet])))
    assert words(made["text"]) == words(RECORDINGS["0930"])
    assert made["uncertain"] == ""


@pytest.mark.parametrize("sound", [lambda: recording("0870"), german], ids=["English", "German"])
def test_the_same_sound_gives_the_same_bytes(speech, sound):
    """Also where the model is unsure: nothing is drawn by lot."""
    first, second = speech.hear(sound())[2], speech.hear(sound())[2]
    assert first == second != b""


@pytest.mark.long
def test_ten_minutes_fit_into_the_memory_limit_and_need_no_more_than_one(speech):
    minute = np.resize(np.concatenate([samples_of(recording(name)) for name in RECORDINGS]), 60 * RATE_HZ)
    peaks_mb = []
    for minutes in (1, 10):
        status, body, written = speech.hear(wav(np.tile(minute, minutes)))
        assert status == 200, body
        row = body["telemetry"]
        assert row["peak_rss_mb"] < row["memory_limit_mb"] == 768
        peaks_mb.append(row["peak_rss_mb"])
    assert peaks_mb[1] < peaks_mb[0] + 40, "ten minutes of samples alone are 38 MB"
    made = json.loads(written)
    assert made["segments"][-1]["end_s"] == pytest.approx(600)
    assert 20 <= len(made["segments"]) <= 30
    spoken = words(" ".join(RECORDINGS.values()))
    assert made["uncertain"] == ""
    assert len(words(made["text"])) == pytest.approx(600 / 24.7 * len(spoken), rel=0.1)


@pytest.mark.parametrize(
    "content",
    [b"", recording("0930")[:30], wav(np.zeros(0)), b"no sound at all" * 1000],
    ids=["zero bytes", "half a header", "header only", "text"],
)
def test_what_is_no_sound_is_refused_by_name_and_costs_no_replica(speech, content):
    before = {process.pid for process in speech.platform.replica_processes(STAGE)}
    status, body, _ = speech.hear(content)
    assert (status, body["error"]["slug"], body["error"]["retryable"]) == (422, "not-audio", False)
    assert str(speech.platform.state) not in json.dumps(body)
    assert {process.pid for process in speech.platform.replica_processes(STAGE)} == before


def test_a_sound_whose_header_lies_and_whose_rate_is_another_is_understood(speech):
    """Stereo at 44.1 kHz, as a streaming encoder writes it: the length in the header is unknown."""
    mono = samples_of(recording("0930"))
    at = np.arange(0, len(mono) - 1, RATE_HZ / 44_100)
    faster = np.interp(at, np.arange(len(mono)), mono)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(44_100)
        out.writeframes((np.repeat(faster, 2) * 32767).astype("<i2").tobytes())
    content = bytearray(file.getvalue())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    assert words(speech.transcript(bytes(content))["text"]) == words(RECORDINGS["0930"])
