"""ffmpeg, called safely: one thread, files only, errors as words; remembers how much memory it took."""

from __future__ import annotations

import subprocess
import threading
from typing import Any, Self

import ffmpeg

from fave.errors import StageError
from fave.processes import die_with_parent
from fave.programs import ffmpeg as ffmpeg_program
from functions.host.replica import peak_rss_mb

_SAFE = ["-nostdin", "-v", "error", "-y", "-threads", "1", "-filter_threads", "1"]
# For inputs: no playlist, no network, nothing but the file named.
INPUT = {"protocol_whitelist": "file,pipe"}
OUTPUT = {"threads": 1, "map_metadata": -1, "fflags": "+bitexact"}
_SAMPLE_INTERVAL_S = 0.01
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
    with _Watch(child.pid) as watch:
        said = child.communicate()[1].decode(errors="replace").strip()
    _memory.peak_mb = max(peak_mb(), watch.peak_mb)
    if child.returncode:
        missing = "matches no streams" in said or "does not contain any stream" in said
        raise StageError(
            "no-audio" if missing else "not-a-video", f"ffmpeg: {said[-300:] or f'exit {child.returncode}'}"
        )


class _Watch:
    """Samples a child's high-water mark while it runs.

    Not wait4's ru_maxrss: that starts with the memory of the process which forked, which here is larger than ffmpeg's.
    """

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_INTERVAL_S):
            self.peak_mb = max(self.peak_mb, peak_rss_mb(self._pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def peak_mb() -> float:
    """The largest child that this thread ran since `forget_peak`, in MiB."""
    return float(getattr(_memory, "peak_mb", 0.0))


def forget_peak() -> None:
    _memory.peak_mb = 0.0
