"""One invocation's work as the host can end it: its child processes are killed, its Python code is asked to stop."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator

from fave.errors import StageError
from functions.host.replica import peak_rss_mb, reset_peak_rss

_SAMPLE_INTERVAL_S = 0.01
_current = threading.local()


class Work:
    """Made by the host, found by the handler's code through `current()`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: list[subprocess.Popen[bytes]] = []
        self._child_peak_mb = 0.0
        self._ended_by = ""

    @contextlib.contextmanager
    def begun(self, *, alone: bool = True) -> Iterator[None]:
        """The calling thread does the work. `alone`: nothing else runs here, so the high-water mark is its own."""
        if alone:
            reset_peak_rss()
        _current.work = self
        try:
            yield
        finally:
            _current.work = None

    def cancel(self, slug: str) -> None:
        """`timeout` or `aborted`: kill the children; Python code learns of it at its next `check`."""
        with self._lock:
            self._ended_by = self._ended_by or slug
            for child in self._children:
                child.kill()

    def check(self) -> None:
        """Raises StageError `timeout` or `aborted` once the work was cancelled."""
        if self._ended_by:
            said = {"timeout": "the time for this invocation passed", "aborted": "the caller has gone"}
            raise StageError(self._ended_by, said[self._ended_by], retryable=self._ended_by == "timeout")

    @contextlib.contextmanager
    def owns(self, child: subprocess.Popen[bytes]) -> Iterator[None]:
        """While the block runs, `child` is killed with this work and its memory is counted."""
        with self._lock:
            self._children.append(child)
            if self._ended_by:
                child.kill()
        ended = threading.Event()
        watch = threading.Thread(target=self._sample, args=(child.pid, ended), daemon=True)
        watch.start()
        try:
            yield
        finally:
            ended.set()
            watch.join()
            with self._lock:
                self._children.remove(child)

    def _sample(self, pid: int, ended: threading.Event) -> None:
        """The child's high-water mark.

        Not wait4's ru_maxrss: that starts with the memory of the process which forked, here larger than ffmpeg's.
        """
        while not ended.wait(_SAMPLE_INTERVAL_S):
            self._child_peak_mb = max(self._child_peak_mb, peak_rss_mb(pid))

    def peak_rss_mb(self) -> float:
        """The process' high-water mark since `begun`, and the largest child's."""
        return round(peak_rss_mb() + self._child_peak_mb, 1)


def current() -> Work:
    """The work of this thread; where no host is above (tests, scripts), one that nobody ends."""
    return getattr(_current, "work", None) or Work()
