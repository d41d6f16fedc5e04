"""ffmpeg, called safely: one thread, files only, errors as words; remembers how much memory it took."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import Any

import ffmpeg

from fave.errors import StageError
from fave.processes import die_with_parent
from fave.programs import ffmpeg as ffmpeg_program

_SAFE = ["-nostdin", "-v", "error", "-y", "-threads", "1", "-filter_threads", "1"]
# For inputs: no playlist, no network, nothing but the file named.
INPUT = {"protocol_whitelist": "file,pipe"}
OUTPUT = {"threads": 1, "map_metadata": -1, "fflags": "+bitexact"}
_memory = threading.local()
_program = ffmpeg_program()


def run(output: Any) -> None:
    """Run a stream made with ffmpeg-python.

    Raises
    ------
    StageError
        `no-audio` when a stream that is needed is not there, `not-a-video` otherwise, with ffmpeg's last words.
    """
    command = [_program, *_SAFE, *ffmpeg.get_args(output)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
    assert child.stderr is not None
    said = child.stderr.read().decode(errors="replace").strip()
    # wait4 instead of wait: it tells this child's peak memory.
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stderr.close()
    _memory.peak_mb = max(peak_mb(), usage.ru_maxrss / 1024)
    if child.returncode:
        missing = "matches no streams" in said or "does not contain any stream" in said
        raise StageError(
            "no-audio" if missing else "not-a-video", f"ffmpeg: {said[-300:] or f'exit {child.returncode}'}"
        )


def peak_mb() -> float:
    """The largest child that this thread ran since `forget_peak`, in MiB."""
    return float(getattr(_memory, "peak_mb", 0.0))


def forget_peak() -> None:
    _memory.peak_mb = 0.0
