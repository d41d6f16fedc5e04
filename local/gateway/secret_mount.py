"""OpenFaaS' place for secrets, seen by one replica alone: a mount of its own, where the machine allows one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

PLACE = Path("/var/openfaas/secrets")
_UNSHARE = (shutil.which("unshare") or "/usr/bin/unshare", "--mount", "--propagation", "private")
_MOUNT = f'mount --bind "$0" {PLACE} && exec "$@"'


def possible() -> bool:
    """Root may, unless a container forbids it. Makes the place where it is missing."""
    if os.geteuid() != 0:
        return False
    try:
        PLACE.mkdir(parents=True, exist_ok=True)
        return subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def tidy() -> None:
    """Remove the place, unless somebody else has something there."""
    with contextlib.suppress(OSError):
        os.removedirs(PLACE)


def with_secrets(folder: Path, command: list[str]) -> list[str]:
    return [*_UNSHARE, "sh", "-c", _MOUNT, str(folder), *command]
