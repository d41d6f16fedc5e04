"""`make bench-speech`: how often does stage-deepspeech believe what was not said, and doubt what was?

English, other languages, speech that nobody understands, and what is no speech, each as a window of sound through the
stage's own code. The samples are in two halves that share no sentence and, but for five at once, no recording: on one
the limit of the mean log-probability is chosen (the first table), on the other error rates are counted (the second).
Needs Debian's espeak-ng and its recordings of human speech, asterisk-core-sounds-*-g722.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import msgspec
import numpy as np

# As a replica has them: the handler makes its client when it is imported, and loads its models at the first use.
os.environ.update(AWS_ACCESS_KEY_ID="-", AWS_SECRET_ACCESS_KEY="-", FAVE_LAZY="1")

from fave.programs import cache_dir
from functions.stage_deepspeech.certainty import Heard, Verdict, judge
from functions.stage_deepspeech.config import Config
from functions.stage_deepspeech.handler import hear, load
from functions.stage_deepspeech.sound import LONGEST, RATE_HZ, Samples, windows
from tests.support.speech import RECORDINGS, word_errors, words

RECORDED = Path("/usr/share/asterisk/sounds")
TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PROMPTS = {
    "en": "en_US_f_Allison",
    "es": "es_MX_f_Allison",
    "fr": "fr_CA_f_June",
    "it": "it_IT_m_Carlo",
    "ru": "ru_RU_f_IvrvoiceRU",
}
G722_BYTES_A_S = 8_000
# So many recordings, evenly over their names, of 1.5 to 30 s; of English, which can be understood, more.
PROMPTS_EACH = {"en": 80, "es": 40, "fr": 40, "it": 40, "ru": 40}
# Below it a model's words are understood, above it they are not; between, neither answer is wrong.
UNDERSTOOD, MISUNDERSTOOD = 0.25, 0.5
LIMITS = [-0.3, -0.4, -0.5, -0.6, -0.7, -0.8, -0.9, -1.0, -1.2]

ENGLISH = (
    "The train to the city is half an hour late this morning.",
    "We sat by the river last night and talked about old times.",
    "My grandmother made a fish soup on every Sunday of the year.",
    "The library of the village is closed for the whole month of August.",
)
ENGLISH_VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3")
# The first sentence of each is in one half, the second in the other.
OTHERS = {
    "ar": ("ذهبت الى السوق صباحا واشتريت الخبز والحليب", "يسكن اخي في بيت صغير قرب البحر"),
    "cmn": ("今天早上我在公园里看见了很多老人。", "他们昨天晚上坐火车去了北京。"),
    "de": (
        "Der Zug nach Hamburg hat heute leider eine halbe Stunde Verspätung.",
        "Gestern Abend haben wir am Fluss gesessen und über alte Zeiten gesprochen.",
    ),
    "es": ("El tren de la mañana sale siempre con mucho retraso.", "Mi abuela preparaba una sopa todos los domingos."),
    "fi": ("Eilen illalla kävelimme pitkään joen rannalla.", "Sisareni asuu pienessä talossa järven lähellä."),
    "fr-fr": (
        "Le marché du village ouvre tous les matins à huit heures.",
        "Nous avons marché longtemps dans la forêt sans rencontrer personne.",
    ),
    "hi": ("कल शाम हम नदी के किनारे बहुत देर तक टहलते रहे।", "मेरी बहन झील के पास एक छोटे घर में रहती है।"),
    "it": (
        "La biblioteca del paese resta chiusa in agosto.",
        "Abbiamo comprato il pane e una bottiglia di vino rosso.",
    ),
    "nl": (
        "De trein naar Utrecht heeft vandaag een half uur vertraging.",
        "Gisteravond zaten we bij de rivier en spraken over vroeger.",
    ),
    "pl": ("Wczoraj wieczorem padał deszcz i ulice były puste.", "Moja siostra mieszka w małym domu nad jeziorem."),
    "ru": ("Вчера вечером мы долго гуляли по берегу реки.", "Моя сестра живёт в маленьком доме у озера."),  # noqa: RUF001 - Russian
    "tr": ("Dün akşam nehir kenarında uzun uzun yürüdük.", "Kız kardeşim gölün yanında küçük bir evde yaşıyor."),  # noqa: RUF001 - Turkish
}


class Sample(NamedTuple):
    """half: 0 to choose limits on, 1 to count errors on. spoken: the English words, where they are known."""

    kind: str
    half: int
    sound: Samples
    spoken: str = ""


class Result(NamedTuple):
    sample: Sample
    heard: Heard

    @property
    def word_error_rate(self) -> float:
        spoken = words(self.sample.spoken)
        return word_errors(spoken, words(self.heard.text)) / len(spoken)


def main() -> None:
    models, config = load(), Config()
    results = [Result(sample, hear(models, sample.sound, 0.0, config)) for sample in samples()]
    print_choice([result for result in results if result.sample.half == 0])
    print_rates([result for result in results if result.sample.half == 1], config)


def samples() -> Iterator[Sample]:
    recordings = {name: sound_of(cache_dir() / "sources" / "speech" / f"{name}.wav") for name in RECORDINGS}
    with tempfile.TemporaryDirectory() as folder:
        for index, (name, sound) in enumerate(recordings.items()):
            yield from _variants(sound, index % 2, RECORDINGS[name], list(recordings.values()))
        yield from _synthetic(Path(folder))
    yield from _recorded()
    yield from _no_speech()


def _variants(sound: Samples, half: int, spoken: str, everybody: list[Samples]) -> Iterator[Sample]:
    yield Sample("English, read aloud", half, sound, spoken)
    for signal_to_noise_db in (20, 10, 5, 0):
        noisy = sound + noise(len(sound), float(np.sqrt(np.mean(sound**2))) / 10 ** (signal_to_noise_db / 20), half)
        yield Sample(f"… noise {signal_to_noise_db} dB below it", half, noisy, spoken)
    yield Sample("… 30 dB quieter", half, sound * np.float32(10**-1.5), spoken)
    for start in range(0, len(sound) - RATE_HZ, 3 * RATE_HZ):
        yield Sample("… cut into pieces of 3 s", half, sound[start : start + 3 * RATE_HZ])
    yield Sample("… twice as fast", half, _resampled(sound, 2.0), spoken)
    yield Sample("speech backwards", half, np.ascontiguousarray(sound[::-1]))
    babble = [np.resize(np.roll(other, len(sound) // 3), len(sound)) for other in everybody]
    yield Sample("five at once", half, np.sum(babble, axis=0, dtype=np.float32) / np.float32(2))


def _synthetic(folder: Path) -> Iterator[Sample]:
    for voice in ENGLISH_VOICES:
        for index, sentence in enumerate(ENGLISH):
            yield Sample("English, synthesiser", index % 2, spoken_by_machine(voice, sentence, folder), sentence)
    for language, sentences in OTHERS.items():
        for voice in (language, f"{language}+f3"):
            for half, sentence in enumerate(sentences):
                yield Sample("other languages, synthesiser", half, spoken_by_machine(voice, sentence, folder))


def _recorded() -> Iterator[Sample]:
    """The halves are of the alphabet: names that begin alike say alike things."""
    texts = gzip.decompress(TEXTS.read_bytes()).decode()
    spoken = dict(re.findall(r"^([\w-]+): ([^\[\n]+)$", texts, re.MULTILINE))
    for language, folder in PROMPTS.items():
        paths = [path for path in sorted((RECORDED / folder).glob("*.g722")) if path.stem in spoken]
        fitting = [path for path in paths if 1.5 * G722_BYTES_A_S <= path.stat().st_size <= 30 * G722_BYTES_A_S]
        chosen = [fitting[round(i)] for i in np.linspace(0, len(fitting) - 1, PROMPTS_EACH[language])]
        for index, path in enumerate(chosen):
            half = int(index >= len(chosen) // 2)
            kind = "English, prompts" if language == "en" else f"other languages, prompts ({language})"
            yield Sample(kind, half, sound_of(path, "g722"), spoken[path.stem] if language == "en" else "")


def _no_speech() -> Iterator[Sample]:
    for half in (0, 1):
        for length in (RATE_HZ, 3 * RATE_HZ, 10 * RATE_HZ, LONGEST):
            at_s = np.arange(length, dtype=np.float32) / RATE_HZ
            yield Sample("silence", half, np.zeros(length, np.float32))
            for loudness in (0.0001, 0.01, 0.1, 0.5):
                yield Sample("noise", half, noise(length, loudness, 7 * half + length))
            for pitch_hz in (110, 440, 1000, 3000):
                wave = np.sin(2 * np.pi * (pitch_hz + 30 * half) * at_s, dtype=np.float32)
                yield Sample("tones", half, np.float32(0.3) * wave)
                yield Sample("tones", half, np.float32(0.2) * np.sign(wave))
            for seed in range(4):
                yield Sample("plucked notes", half, melody(length, 10 * half + seed))


def sound_of(path: Path, container: str = "") -> Samples:
    """A whole file; `container` for what the stage does not take."""
    if not container:
        return np.concatenate(list(windows(path)))
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    with av.open(str(path), format=container) as file:
        frames = [part for frame in file.decode(audio=0) for part in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in (*frames, *resampler.resample(None))])


def spoken_by_machine(voice: str, sentence: str, folder: Path) -> Samples:
    target = folder / "spoken.wav"
    subprocess.run(["espeak-ng", "-v", voice, "-w", str(target), sentence], check=True)
    return sound_of(target)


def noise(length: int, loudness: float, seed: int) -> Samples:
    return np.random.default_rng(seed).standard_normal(length, np.float32) * np.float32(loudness)


def melody(length: int, seed: int) -> Samples:
    """Four plucked notes a second, each with five harmonics."""
    rng, sound = np.random.default_rng(seed), np.zeros(length, np.float32)
    for start in range(0, length, RATE_HZ // 4):
        at_s = np.arange(min(RATE_HZ // 3, length - start)) / RATE_HZ
        pitch_hz = 220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        note = sum(0.2 / h * np.sin(2 * np.pi * pitch_hz * h * at_s) for h in range(1, 6)) * np.exp(-6 * at_s)
        sound[start : start + len(at_s)] += note.astype(np.float32)
    return sound


def _resampled(sound: Samples, faster: float) -> Samples:
    at = np.arange(0, len(sound) - 1, faster)
    return np.interp(at, np.arange(len(sound)), sound).astype(np.float32)


def print_choice(results: list[Result]) -> None:
    """The smallest sum of the two rates is the choice."""
    print(f"\nhow the lowest mean log-probability was chosen ({len(results)} samples)\n")
    print("limit   understood English doubted   other speech believed")
    for limit in LIMITS:
        config = msgspec.structs.replace(Config(), min_avg_logprob=limit)
        doubted = [judge(r.heard, config) != "certain" for r in results if understood(r)]
        believed = [judge(r.heard, config) == "certain" for r in results if _is_other(r.sample)]
        print(f"{limit:5.1f}   {_rate(doubted):>26}   {_rate(believed):>21}")


def print_rates(results: list[Result], config: Config) -> None:
    print(f"\nwith the limits as they are, on the other half ({len(results)} samples)\n")
    kinds = dict.fromkeys(result.sample.kind for result in results)
    print(f"{'':34}   n  certain  uncertain  nothing   understood, doubted   not understood, believed")
    for kind in kinds:
        these = [result for result in results if result.sample.kind == kind]
        verdicts: list[Verdict] = [judge(result.heard, config) for result in these]
        counts = "  ".join(f"{verdicts.count(v):>{len(v)}}" for v in ("certain", "uncertain", "nothing"))
        doubted = [judge(r.heard, config) != "certain" for r in these if understood(r)]
        believed = [judge(r.heard, config) == "certain" for r in these if misunderstood(r)]
        print(f"{kind:34} {len(these):>3}  {counts}   {_rate(doubted):>19}   {_rate(believed):>24}")


def understood(result: Result) -> bool:
    return bool(result.sample.spoken) and result.word_error_rate <= UNDERSTOOD


def misunderstood(result: Result) -> bool:
    return _is_other(result.sample) or (bool(result.sample.spoken) and result.word_error_rate > MISUNDERSTOOD)


def _is_other(sample: Sample) -> bool:
    return sample.kind.startswith(("other", "speech backwards", "five"))


def _rate(wrong: list[bool]) -> str:
    return f"{sum(wrong)} of {len(wrong)}" if wrong else "-"


if __name__ == "__main__":
    if (
        not shutil.which("espeak-ng")
        or not all((RECORDED / folder).exists() for folder in PROMPTS.values())
        or not TEXTS.exists()
    ):
        packages = " ".join(f"asterisk-core-sounds-{language}-g722" for language in PROMPTS)
        raise SystemExit(f"samples are missing: apt-get install espeak-ng asterisk-core-sounds-en {packages}")
    main()
