"""What happened to each cell, appended as it happens, by one driver at a time."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any

from fave.campaign.rundir import JsonlWriter
from fave.clock import utc_ns
from fave.environment import without_home
from fave.errors import ConfigError
from fave.settings import ROOT


class Journal:
    """Holds the campaign's lock as long as it is open; a driver that is killed lets go of it."""

    def __init__(self, path: Path) -> None:
        """Open `path`; a last line that a full disk cut short is taken off.

        Raises
        ------
        ConfigError
            When another driver is at work on the campaign.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = path.open("a+b")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise ConfigError(
                f"{path.parent.name}: another driver is at work on it", hint="wait, or stop it"
            ) from error
        self._lock.seek(0)
        whole = self._lock.read()
        self._lock.truncate(whole.rfind(b"\n") + 1)
        self._writer = JsonlWriter(path)

    def note(self, event: str, **facts: Any) -> None:
        """Append one line. Where things lie on this machine stays out of it."""
        if "error" in facts:
            facts["error"] = _without_places(str(facts["error"]))
        self._writer.write({"at_ns": utc_ns(), "event": event, **facts})
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
        self._lock.close()


def _without_places(text: str) -> str:
    return str(without_home(text.replace(f"{ROOT}/", "")))
