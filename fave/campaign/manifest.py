"""What a campaign ran on, captured by itself: host, versions, digests, commit. No secret ever."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from fave import environment
from fave.errors import AssetError
from fave.programs import cache_dir, ffmpeg, prometheus
from fave.settings import ROOT
from fave.yaml_file import load_yaml

_REQUIREMENTS = ROOT / "requirements.txt"
_ASSETS = ROOT / "assets" / "manifest.yml"


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
        "load_5min": os.getloadavg()[1],
        "memory_available_kb": int(_first_value("/proc/meminfo", "MemAvailable").split()[0] or 0),
        "clock_source": _read("/sys/devices/system/clocksource/clocksource0/current_clocksource") or "unknown",
    }


def versions() -> dict[str, str]:
    """Python, every package that is pinned, and the programs that are no package."""
    found = {"python": platform.python_version()}
    for package in re.findall(r"^([A-Za-z0-9._-]+)==", _read(str(_REQUIREMENTS)), re.MULTILINE):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found | {"ffmpeg": _said(ffmpeg, "-version"), "prometheus": _said(prometheus, "--version")}


def assets() -> dict[str, str]:
    """SHA-256 by product, of the cache or what the environment names: as they are used, not as they should be."""
    found = load_yaml(_ASSETS, _Assets)
    return {name: _digest(_used(product, found.packages)) for name, product in found.products.items()}


def _used(product: _Product, packages: dict[str, Any]) -> Path:
    variables = [variable for package in product.needs for variable in packages[package].get("instead", ())]
    chosen = os.environ.get(variables[0]) if variables else ""
    return Path(chosen) if chosen else cache_dir() / product.path


class _Product(msgspec.Struct, frozen=True):
    path: str
    needs: tuple[str, ...]
    sha256: str = ""


class _Assets(msgspec.Struct, frozen=True):
    packages: dict[str, Any]
    works: list[Any]
    products: dict[str, _Product]


def _digest(path: Path) -> str:
    """Of a file, or of a folder's files in order of name; empty where nothing is."""
    digest = hashlib.sha256()
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    try:
        for each in files:
            digest.update(each.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest() if files else ""


def _said(find: Callable[[], object], option: str) -> str:
    """The version in a program's first line."""
    try:
        said = re.search(r"version (\S+)", _output(str(find()), option))
    except (OSError, subprocess.TimeoutExpired, AssetError):
        return "missing"
    return said[1] if said else "unknown"


def _output(*command: str) -> str:
    """All that a program of this machine prints; empty when it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment.for_doors(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=60,
        check=False,
    )
    return "" if done.returncode else done.stdout.strip()


def commit() -> dict[str, Any]:
    """The checkout's commit and whether it has changes; empty outside a git checkout."""
    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}


def git(*arguments: str) -> str:
    """What git prints about this checkout; nothing where it cannot."""
    try:
        return _output("git", *arguments)
    except (OSError, subprocess.TimeoutExpired):
        return ""


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
