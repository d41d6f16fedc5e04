"""Videos as people really have them, and things that only look like videos; made by ffmpeg for the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fave.programs import cache_dir, ffmpeg

SHORT = cache_dir() / "samples" / "short.mp4"


def run(*arguments: str) -> None:
    subprocess.run([ffmpeg(), "-nostdin", "-v", "error", "-y", *arguments], check=True, capture_output=True)


def from_short(target: Path, *options: str) -> bytes:
    """The short sample, changed by ffmpeg's `options`."""
    run("-i", str(SHORT), *options, str(target))
    return target.read_bytes()


def truncated() -> bytes:
    return SHORT.read_bytes()[: SHORT.stat().st_size // 2]


def without_sound(folder: Path) -> bytes:
    return from_short(folder / "mute.mp4", "-an", "-c:v", "copy")


def silent(folder: Path) -> bytes:
    return from_short(folder / "silent.mp4", "-af", "volume=0", "-c:v", "copy")


def sound_only(folder: Path) -> bytes:
    return from_short(folder / "sound.m4a", "-vn", "-c:a", "copy")


def odd_size(folder: Path) -> bytes:
    """Odd sides, as screen recordings have them: 4:4:4, since 4:2:0 has no odd sides."""
    return from_short(folder / "odd.mkv", "-vf", "scale=641:361", "-pix_fmt", "yuv444p", "-preset", "ultrafast")


def rotated(folder: Path) -> bytes:
    """A phone's: the picture lies on its side and a display matrix says so."""
    turned = folder / "turned.mp4"
    run("-i", str(SHORT), "-vf", "transpose=1", "-preset", "ultrafast", str(turned))
    target = folder / "rotated.mp4"
    run("-display_rotation", "90", "-i", str(turned), "-c", "copy", str(target))
    return target.read_bytes()


def variable_rate(folder: Path) -> bytes:
    """Two of three pictures of the second half are missing."""
    drop = "select='lt(t,6)+not(mod(n,3))'"
    return from_short(folder / "vfr.mkv", "-vf", drop, "-fps_mode", "vfr", "-preset", "ultrafast")


def ten_bit(folder: Path) -> bytes:
    return from_short(folder / "ten.mkv", "-pix_fmt", "yuv420p10le", "-preset", "ultrafast")


def reversed_scenes(folder: Path) -> bytes:
    """What comes first in the sample comes second here."""
    parts = "[0:v]split[a][b];[0:a]asplit[c][d]"
    later = "[a]trim=6.6,setpts=PTS-STARTPTS[v1];[c]atrim=6.6,asetpts=PTS-STARTPTS[a1]"
    earlier = "[b]trim=0:6.6,setpts=PTS-STARTPTS[v2];[d]atrim=0:6.6,asetpts=PTS-STARTPTS[a2]"
    graph = f"{parts};{later};{earlier};[v1][a1][v2][a2]concat=n=2:v=1:a=1[v][a]"
    return from_short(folder / "reversed.mp4", "-filter_complex", graph, "-map", "[v]", "-map", "[a]")


def four_k(folder: Path) -> bytes:
    options = ["-vf", "scale=3840:2160", "-t", "1", "-r", "5", "-preset", "ultrafast", "-crf", "40"]
    return from_short(folder / "4k.mp4", *options)


def one_hour(folder: Path) -> bytes:
    """An hour of little: a picture every ten seconds, a tone."""
    target = folder / "hour.mp4"
    picture = ["-f", "lavfi", "-i", "color=c=gray:s=64x64:r=0.1:d=3600"]
    tone = ["-f", "lavfi", "-i", "sine=frequency=200:sample_rate=8000:duration=3600"]
    run(*picture, *tone, "-preset", "ultrafast", "-b:a", "8k", str(target))
    return target.read_bytes()


def playlist_of_local_files() -> bytes:
    return b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"


def concatenation_of_local_files() -> bytes:
    return f"ffconcat version 1.0\nfile '{SHORT}'\n".encode()
