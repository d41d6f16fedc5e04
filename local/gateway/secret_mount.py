"""OpenFaaS' place for secrets, seen by one replica alone: a mount of its own, where the machine allows one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

PLACE = Path("/var/openfaas/secrets")
_UNSHARE = (shutil.which("unshare") or "/usr/bin/unshare", "--mount", "--propagation", "private")
_MOUNT = f'mount --bind "$0" {PLACE} && exec "$@"'


def take() -> int | None:
    """The place, made where it is missing, and held (a descriptor); None where no mount is possible.

    Root may, unless a container forbids it. Several platforms may hold it: removed under one of them, it would take the
    mounts in it along.
    """
    if os.geteuid() != 0:
        return None
    try:
        if subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode:
            return None
        while True:
            PLACE.mkdir(parents=True, exist_ok=True)
            held = os.open(PLACE, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(held, fcntl.LOCK_SH)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(held), PLACE.stat()):
                    return held
            os.close(held)  # whoever left it was just removing it
    except OSError:
        return None


def leave(held: int) -> None:
    """Remove the place, unless somebody else holds it or has something there."""
    with contextlib.suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.removedirs(PLACE)
    os.close(held)


def with_secrets(folder: Path, command: list[str]) -> list[str]:
    return [*_UNSHARE, "sh", "-c", _MOUNT, str(folder), *command]
