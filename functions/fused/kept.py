"""The object store for stages that run in one process: what one of them wrote, the next reads from this disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import BinaryIO

from functions.stage import Objects


class Kept:
    """All is written to the store as well: answers, later attempts and people look for it there."""

    def __init__(self, store: Objects, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._files: dict[str, Path] = {}

    def check_readable(self, uri: str) -> None:
        self._store.check_readable(uri)

    def get(self, uri: str, *, etag: str = "", max_bytes: int = 0) -> bytes:
        kept = self._files.get(uri)
        return kept.read_bytes() if kept else self._store.get(uri, etag=etag, max_bytes=max_bytes)

    def download(self, uri: str, path: Path, *, etag: str = "", max_bytes: int = 0) -> int:
        kept = self._files.get(uri)
        if kept is None:
            return self._store.download(uri, path, etag=etag, max_bytes=max_bytes)
        return Path(shutil.copyfile(kept, path)).stat().st_size

    def put(self, uri: str, data: bytes | BinaryIO, *, content_type: str) -> str:
        kept = self._folder / str(len(self._files))
        with kept.open("wb") as file:
            if isinstance(data, bytes):
                file.write(data)
            else:
                shutil.copyfileobj(data, file)
                data.seek(0)
        etag = self._store.put(uri, data, content_type=content_type)
        self._files[uri] = kept
        return etag
