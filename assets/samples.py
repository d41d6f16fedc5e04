"""Sample videos with speech and objects, composed from shipped clips: no package ships one that has both.

What lies where is known, so that tests can ask for it: `short` speaks over an animation first (no cars), then over a
street with cars; `long` has six utterances over six scenes.
"""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path
from typing import NamedTuple

from fave.errors import AssetError
from fave.programs import ffmpeg

WIDTH, HEIGHT, FPS = 640, 360, 25
_SCALE = f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=increase:flags=bilinear+accurate_rnd+bitexact"
_LAYOUT = f"{_SCALE},crop={WIDTH}:{HEIGHT},setsar=1"


class Scene(NamedTuple):
    """Video `source` from `start_s`, slowed down `slower` times, shown for `length_s`."""

    source: str
    start_s: float
    length_s: float
    slower: float = 1.0


class Utterance(NamedTuple):
    source: str
    at_s: float


SHORT_SCENES = (Scene("bigbuckbunny.mp4", 0.3, 6.6, slower=1.4), Scene("bikes.mp4", 1.24, 4.6, slower=1.2))
SHORT_SPEECH = (Utterance("0890", 0.6), Utterance("0930", 7.2))

LONG_SCENES = (
    Scene("vtest.avi", 0, 8.4),
    Scene("bikes.mp4", 1.24, 4.0),
    Scene("bikes.mp4", 5.52, 6.5, slower=3.4),
    Scene("vtest.avi", 40, 7.0),
    Scene("bikes.mp4", 7.52, 4.3, slower=2.1),
    Scene("bikes.mp4", 3.44, 6.2, slower=3.2),
)
LONG_SPEECH = (
    Utterance("0870", 0.6),
    Utterance("0880", 8.9),
    Utterance("0890", 13.0),
    Utterance("0920", 19.4),
    Utterance("0930", 26.4),
    Utterance("goforward", 31.2),
)


def compose(scenes: tuple[Scene, ...], speech: tuple[Utterance, ...], sources: Path, target: Path) -> None:
    """Cut the scenes one after another, speak over them, encode (H.264 and AAC, one thread, bit-exact)."""
    inputs: list[str] = []
    chains: list[str] = []
    for index, scene in enumerate(scenes):
        inputs += ["-ss", f"{scene.start_s}", "-i", str(sources / scene.source)]
        chains.append(
            f"[{index}:v]setpts={scene.slower}*(PTS-STARTPTS),{_LAYOUT},fps={FPS},format=yuv420p,"
            f"tpad=stop_mode=clone:stop_duration={scene.length_s},trim=0:{scene.length_s},setpts=PTS-STARTPTS[v{index}]"
        )
    for index, utterance in enumerate(speech):
        inputs += ["-i", str(_as_wav(sources / "speech" / f"{utterance.source}.wav"))]
        chains.append(
            f"[{len(scenes) + index}:a]aresample=16000,aformat=sample_fmts=fltp:channel_layouts=mono,"
            f"adelay={round(utterance.at_s * 1000)}[a{index}]"
        )
    length_s = sum(scene.length_s for scene in scenes)
    chains.append("".join(f"[v{i}]" for i in range(len(scenes))) + f"concat=n={len(scenes)}:v=1:a=0[v]")
    mixed = "".join(f"[a{i}]" for i in range(len(speech)))
    chains.append(f"{mixed}amix=inputs={len(speech)}:normalize=0:duration=longest,apad,aresample=44100[a]")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.mp4")
    codecs = "-c:v libx264 -preset veryfast -crf 23 -g 50 -threads 1 -c:a aac -b:a 96k -ac 1"
    exact = "-map_metadata -1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact -movflags +faststart"
    maps = ["-map", "[v]", "-map", "[a]", "-t", f"{length_s:g}"]
    _ffmpeg([*inputs, "-filter_complex", ";".join(chains), *maps, *codecs.split(), *exact.split(), str(partial)])
    partial.replace(target)


def extract_frames(source: Path, target: Path, *, fps: float = 1.0) -> None:
    """`fps` frames a second of `source` as numbered JPEGs in the folder `target`."""
    partial = target.with_name(f"{target.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    _ffmpeg(["-i", str(source), "-vf", f"fps={fps}", "-q:v", "3", str(partial / "%04d.jpg")])
    partial.rename(target)


def _as_wav(path: Path) -> Path:
    """`path`, made from the raw 16 kHz recording beside it where only that is shipped."""
    raw = path.with_suffix(".raw")
    if not path.exists() and raw.exists():
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes(raw.read_bytes())
    return path


def _ffmpeg(arguments: list[str]) -> None:
    command = [ffmpeg(), "-nostdin", "-v", "error", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise AssetError(f"ffmpeg could not compose {arguments[-1]}: {done.stderr.strip()[-500:]}")
