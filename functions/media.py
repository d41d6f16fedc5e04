"""ffmpeg, called safely: one thread, plain media files only, limits before the work, errors as words."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import ffmpeg
import msgspec

from fave.errors import StageError
from fave.processes import die_with_parent
from fave.programs import ffmpeg as ffmpeg_program
from functions.host import work

_QUIET = ["-nostdin", "-hide_banner", "-y"]
_SAFE = [*_QUIET, "-v", "error", "-threads", "1", "-filter_threads", "1"]
# No network, nothing but the file named; no playlists (hls, concat, dash, sdp), which name further files.
_CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,wav,mp3,aac,flac,mpegvideo,h264,hevc,image2,jpeg_pipe"
INPUT = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
OUTPUT = {"threads": 1, "map_metadata": -1, "fflags": "+bitexact"}
# H.264 in 4:2:0 needs even sides; ten bits and other samplings become what everything plays.
EVEN = {"w": "trunc(iw/2)*2", "h": "trunc(ih/2)*2"}
PLAYABLE = {"vcodec": "libx264", "acodec": "aac", "pix_fmt": "yuv420p"}
# The first of each kind: a second sound track or a cover picture is not what is meant.
PICTURE, SOUND = "v:0", "a:0"
# ffmpeg's own exit code after a signal that it could catch.
_EXIT_BY_SIGNAL = 255
_program = ffmpeg_program()

_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")
_VIDEO = re.compile(r"Stream #.*: Video: .*?[ ,](\d{2,5})x(\d{2,5})[ ,\[]")


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """duration_s is 0 where the container does not say; width_px and height_px are 0 where there is no picture."""

    duration_s: float
    width_px: int
    height_px: int
    has_audio: bool


def probe(path: Path) -> Probe:
    """What ffmpeg says of a file. Not ffprobe: the ffmpeg that PyPI brings comes without it.

    Raises
    ------
    StageError
        `not-a-video` when ffmpeg finds no stream in it.
    """
    allowed = [part for name, value in INPUT.items() for part in (f"-{name}", value)]
    _, said = _run([_program, *_QUIET, *allowed, "-i", str(path)])
    if "Stream #" not in said:
        raise StageError("not-a-video", f"ffmpeg: {_last_words(said, path.parent)}")
    length, video = _DURATION.search(said), _VIDEO.search(said)
    return Probe(
        duration_s=int(length[1]) * 3600 + int(length[2]) * 60 + float(length[3]) if length else 0.0,
        width_px=int(video[1]) if video else 0,
        height_px=int(video[2]) if video else 0,
        has_audio=bool(re.search(r"Stream #.*: Audio: ", said)),
    )


def run(output: Any, folder: Path) -> None:
    """Run a stream made with ffmpeg-python, whose files lie in `folder`.

    Raises
    ------
    StageError
        `no-audio` when a stream that is needed is not there, `no-space`, `timeout` or `aborted` when the work was
        ended, `not-a-video` otherwise, with ffmpeg's last words.
    """
    code, said = _run([_program, *_SAFE, *ffmpeg.get_args(output)])
    if code == 0:
        return
    if "No space left" in said:
        raise StageError("no-space", "ffmpeg: no space left on the replica's disk", retryable=True)
    missing = "matches no streams" in said or "does not contain any stream" in said
    raise StageError("no-audio" if missing else "not-a-video", f"ffmpeg: {_last_words(said, folder) or f'exit {code}'}")


def _run(command: list[str]) -> tuple[int, str]:
    """(exit code, what it said); the child ends with the work that it belongs to, and with this process."""
    here = work.current()
    here.check()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
    with here.owns(child):
        said = child.communicate()[1].decode(errors="replace").strip()
    here.check()
    if child.returncode < 0 or child.returncode == _EXIT_BY_SIGNAL:
        raise StageError("internal", f"ffmpeg was ended from outside ({child.returncode})", retryable=True)
    return child.returncode, said


def _last_words(said: str, folder: Path) -> str:
    """The end of ffmpeg's words, without where on this machine it happened."""
    return said[-300:].replace(f"{folder}/", "")
