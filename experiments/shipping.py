"""Run folders in the object store: what a campaign measures outlives the machine that it is run from."""

from __future__ import annotations

from pathlib import Path

from fave.errors import ConfigError
from fave.storage import Store

_PLACE = "campaigns"


class Shipping:
    """Of one run folder. What is there already and has not changed since is not sent again."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder, self._store = folder, store
        self._sent: dict[Path, tuple[int, int]] = {}

    def ship(self) -> int:
        """How many files were sent. A file that goes on growing is sent as it is now, and again later."""
        count = 0
        for path in sorted(each for each in self._folder.rglob("*") if each.is_file()):
            about = path.stat()
            state = (about.st_size, about.st_mtime_ns)
            if self._sent.get(path) != state:
                key = f"{_PLACE}/{self._folder.name}/{path.relative_to(self._folder).as_posix()}"
                self._store.put(self._store.uri(key), path.read_bytes())
                self._sent[path] = state
                count += 1
        return count


def shipped(store: Store) -> list[str]:
    """The run folders that are there, oldest first."""
    return sorted({key.split("/")[1] for key in store.keys(f"{_PLACE}/")})


def fetch(name: str, store: Store, runs: Path) -> Path:
    """Bring a run folder here; what is there of it is written over.

    Raises
    ------
    ConfigError
        When it is not in the store, with what is.
    """
    prefix = f"{_PLACE}/{name}/"
    keys = store.keys(prefix)
    if not keys or not name:
        raise ConfigError(
            f"{name!r} is not in the object store", hint=f"there are: {', '.join(shipped(store)) or 'none'}"
        )
    for key in keys:
        path = runs / name / key.removeprefix(prefix)
        if not path.resolve().is_relative_to((runs / name).resolve()):
            raise ConfigError(f"{key}: leads out of the run folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        store.download(store.uri(key), path)
    return runs / name
