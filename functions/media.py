"""ffmpeg, called safely: one thread, plain media files only, limits before the work, errors as words."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import ffmpeg

from fave.errors import StageError
from fave.processes import die_with_parent
from fave.programs import ffmpeg as ffmpeg_program
from functions.containers import ALLOWED
from functions.host import work

_QUIET = ["-nostdin", "-hide_banner", "-y"]
_SAFE = [*_QUIET, "-v", "error", "-threads", "1", "-filter_threads", "1"]
OUTPUT = {"threads": 1, "map_metadata": -1, "fflags": "+bitexact"}
PLAYABLE = {"vcodec": "libx264", "acodec": "aac", "pix_fmt": "yuv420p"}
# The first of each kind: a second sound track or a cover picture is not what is meant.
PICTURE, SOUND = "v:0", "a:0"
ITS_TIME = {"fps_mode": "passthrough", "enc_time_base": "1:90000"}
# ffmpeg's own exit code after a signal that it could catch.
_EXIT_BY_SIGNAL = 255
# Less than this left, and a failure is the disk's.
_FULL_BYTES = 2**20
_program = ffmpeg_program()


def input_of(path: Path) -> Any:
    """A file as an input of ffmpeg-python's."""
    return ffmpeg.input(str(path), **ALLOWED)


def sound_of(source: Any, rate_hz: int | None = None) -> Any:
    """An input's sound from its start, with silence before it where it starts late, and in gaps."""
    rate = {"sample_rate": rate_hz} if rate_hz else {}
    return source[SOUND].filter("aresample", **rate, **{"async": 1, "min_hard_comp": 0.02, "first_pts": 0})


def run(output: Any, source: Path) -> None:
    """Run a stream made with ffmpeg-python, from `source` into the folder in which it lies.

    Raises
    ------
    StageError
        `no-audio` or `no-video` when `source` has none, `no-space`, `timeout` or `aborted` when the work was ended,
        `not-a-video` otherwise, with ffmpeg's last words.
    """
    code, said = _run([_program, *_SAFE, *ffmpeg.get_args(output)])
    if code == 0:
        return
    if shutil.disk_usage(source.parent).free < _FULL_BYTES:
        raise StageError("no-space", "no space left on the replica's disk", retryable=True)
    from functions import timeline  # a tenth of a second that no cold start needs

    with timeline.opened(source) as video:
        if video.sound is None:
            raise StageError("no-audio", "the clip has no sound track")
        if video.picture is None:
            raise StageError("no-video", "the clip has no moving picture")
    raise StageError("not-a-video", f"ffmpeg: {_last_words(said, source.parent) or f'exit {code}'}")


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
