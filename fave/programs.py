"""System programs and models, found where they are: environment, PATH, FAVE's cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fave.errors import AssetError


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/fave` (default `~/.cache/fave`), shared by all checkouts of one account."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fave"


def asset(relative: str, variable: str = "") -> Path:
    """An asset's path: the environment `variable` when it is set, else the cache.

    Raises
    ------
    AssetError
        When nothing is there.
    """
    chosen = os.environ.get(variable, "") if variable else ""
    path = Path(chosen) if chosen else cache_dir() / relative
    if not path.exists():
        if chosen:
            raise AssetError(f"asset missing: {variable}={chosen}", hint=f"name what is there, or unset {variable}")
        raise AssetError(f"asset missing: {path}", hint="fetch it with `python -m assets` (`make bench` does it too)")
    return path


def ffmpeg() -> str:
    """The ffmpeg program: `FAVE_FFMPEG`, the system's, or the one that PyPI's imageio-ffmpeg brings."""
    chosen = os.environ.get("FAVE_FFMPEG") or shutil.which("ffmpeg")
    if chosen:
        return chosen
    try:
        import imageio_ffmpeg  # only where the system has none

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise AssetError(
            "ffmpeg is missing: neither FAVE_FFMPEG, nor on the PATH, nor in PyPI's imageio-ffmpeg",
            hint="`apt-get install ffmpeg` as root, or `pip install imageio-ffmpeg`",
        ) from error


def prometheus() -> str:
    """The Prometheus program: `FAVE_PROMETHEUS`, the system's, or the one unpacked into the cache."""
    chosen = os.environ.get("FAVE_PROMETHEUS") or shutil.which("prometheus")
    if chosen:
        return chosen
    cached = cache_dir() / "bin" / "prometheus"
    if not cached.exists():
        raise AssetError(
            "prometheus is missing: neither FAVE_PROMETHEUS, nor on the PATH, nor in the cache",
            hint="`python -m assets prometheus` unpacks Debian's package without root, or `apt-get install prometheus`",
        )
    return str(cached)
