"""What a workload's requests name in the object store: FAVE's samples, and files of its own."""

from __future__ import annotations

from fave.errors import ConfigError
from fave.processes import need_door
from fave.storage import Store
from workloads.model import Workload


def upload(workload: Workload, store: Store) -> None:
    """Make sure that all is in the object store that requests name: FAVE's samples, and files of the workload's own.

    Raises
    ------
    FaveError
        With what `python -m assets` said, and its exit code.
    ConfigError
        For a file that is not there.
    """
    if workload.assets:
        need_door("assets", "--upload", "--quiet")
    for key, name in workload.uploads.items():
        try:
            content = workload.path_of(name).read_bytes()
        except OSError as error:
            raise ConfigError(f"uploads: {name}: {error.strerror}") from error
        store.put(store.uri(key), content, content_type="application/octet-stream")
