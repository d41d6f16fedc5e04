"""System programs and models, found where they are: environment, PATH, FAVE's cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fave.errors import AssetError, ConfigError

ELSEWHERE = "set XDG_CACHE_HOME to a folder that this account may write; assets go into its folder fave"


def cache_dir() -> Path:
    """`$XDG_CACHE_HOME/fave` (default `~/.cache/fave`), shared by all checkouts of one account.

    Raises
    ------
    ConfigError
        Where there is no home to have it in, or XDG_CACHE_HOME would mean another folder for each process.
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if chosen and not os.path.isabs(chosen):
        raise ConfigError(f"environment XDG_CACHE_HOME={chosen!r}: need an absolute path", hint=ELSEWHERE)
    home = chosen or os.path.expanduser("~/.cache")
    if not os.path.isabs(home):
        raise ConfigError("this account has no home folder, so there is no ~/.cache", hint=ELSEWHERE)
    return Path(home) / "fave"


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
        fetch = "fetch it with `python -m assets` (`make bench` does it too)"
        raise AssetError(f"asset missing: {path}", hint=f"{fetch}; where it cannot be kept, {ELSEWHERE}")
    return path


def ffmpeg() -> str:
    """The ffmpeg program: `FAVE_FFMPEG`, the system's, or the one that PyPI's imageio-ffmpeg brings."""
    chosen = _named_by("FAVE_FFMPEG") or shutil.which("ffmpeg")
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
    chosen = _named_by("FAVE_PROMETHEUS") or shutil.which("prometheus")
    if chosen:
        return chosen
    cached = cache_dir() / "bin" / "prometheus"
    if not cached.exists():
        raise AssetError(
            f"prometheus is missing: neither FAVE_PROMETHEUS, nor on the PATH, nor {cached}",
            hint="`python -m assets prometheus` unpacks Debian's package without root, or `apt-get install prometheus`"
            f", or {ELSEWHERE}",
        )
    return str(cached)


def _named_by(variable: str) -> str:
    chosen = os.environ.get(variable, "")
    if chosen and not shutil.which(chosen):
        raise AssetError(f"environment {variable}={chosen}: is no program", hint="unset it for the one that is found")
    return chosen
