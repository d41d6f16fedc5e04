"""What a campaign ran on, captured by itself: host, versions, commit. No secret ever."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fave.settings import ROOT

_PACKAGES = ("locust", "boto3", "onnxruntime", "faster-whisper", "librosa", "opencv-python-headless", "numpy", "scipy")


def host() -> dict[str, Any]:
    """The machine: CPU model, cores, governor, memory, kernel, load at this moment."""
    return {
        "cpu_model": _first_value("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        "memory_kb": int(_first_value("/proc/meminfo", "MemTotal").split()[0] or 0),
        "kernel": platform.release(),
        "system": platform.platform(),
        "load_1min": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def commit() -> dict[str, Any]:
    """The checkout's commit and whether it has changes; empty outside a git checkout."""
    return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _first_value(path: str, key: str) -> str:
    for line in _read(path).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "0"
