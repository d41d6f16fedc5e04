"""Processes of replicas that outlived who would have ended them.

A replica dies with its gateway, by the kernel; what it started itself may not. Each of them has a temporary folder of
the platform's in its environment, whoever its parent is by now.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import psutil

SCRATCH = "tmp"


def end_all(state: Path) -> list[int]:
    """Kill them, and remove their folders; the pids of what was killed."""
    folder = f"{state / SCRATCH}{os.sep}"
    killed = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("TMPDIR", "").startswith(folder):
                process.kill()
                killed.append(process.pid)
    shutil.rmtree(folder, ignore_errors=True)
    return killed
