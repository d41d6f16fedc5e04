"""The run folder: where things lie, atomic whole-file writes, append-only JSON lines."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from fave.errors import ConfigError
from fave.settings import ROOT

T = TypeVar("T")
RUNS = ROOT / "runs"
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Any)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write beside `path`, flush to disk, rename: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    write_atomic(path, msgspec.json.format(_encoder.encode(value), indent=2) + b"\n")


def write_jsonl(path: Path, rows: Iterable[object]) -> None:
    write_atomic(path, b"".join(_encoder.encode(row) + b"\n" for row in rows))


def write_jsonl_gz(path: Path, rows: Iterable[object]) -> None:
    """The same rows give the same bytes."""
    write_atomic(path, gzip.compress(b"".join(_encoder.encode(row) + b"\n" for row in rows), mtime=0))


class JsonlWriter:
    """Appends one JSON line per row; a line is handed to the kernel whole."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = path.open("ab")

    def write(self, row: object) -> None:
        self._file.write(_encoder.encode(row) + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_jsonl(path: Path, cls: type[T]) -> Iterator[T]:
    """The rows of `path`; a last line cut short by a crash is left out, a broken one elsewhere is an error.

    Raises
    ------
    msgspec.DecodeError, msgspec.ValidationError
        For a line that is not the last and cannot be read as `cls`.
    """
    if not path.exists():
        return
    decoder = msgspec.json.Decoder(cls)
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield _decoded(line, decoder)


def read_json(path: Path) -> Any:
    """The file's value.

    Raises
    ------
    msgspec.DecodeError
        For what is no JSON: other bytes than text, or brackets beyond all bounds, too.
    """
    return _decoded(path.read_bytes(), _decoder)


def _decoded(data: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def find_run(name: str) -> Path:
    """`latest`, a folder's name under runs/, or a path.

    Raises
    ------
    ConfigError
        When there is no such campaign.
    """
    if name == "latest":
        found = sorted(path.parent for path in RUNS.glob("[0-9]*/campaign.json"))
        if not found:
            raise ConfigError(f"no campaign in {RUNS.name}/ yet", hint="`make bench` makes one")
        return found[-1]
    path = next((path for path in (RUNS / name, Path(name)) if os.path.isfile(path / "campaign.json")), None)
    if path is None:
        there = [found.parent.name for found in sorted(RUNS.glob("*/campaign.json"))]
        hint = f"there are: {', '.join(there)}" if there else "`make bench` makes one"
        raise ConfigError(f"{name}: no campaign (there is no campaign.json)", hint=hint)
    return path.resolve()


class CellDir:
    """One cell's folder: `cells/{block:02d}_{load}_{regime}_{attempt}`, under its part of the campaign."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def schedule(self) -> Path:
        return self.path / "schedule.csv"

    @property
    def started(self) -> Path:
        return self.path / "started.json"

    @property
    def requests(self) -> Path:
        return self.path / "requests.jsonl"

    @property
    def stages(self) -> Path:
        return self.path / "stages.jsonl"

    @property
    def replicas(self) -> Path:
        return self.path / "replicas.jsonl"

    @property
    def finals(self) -> Path:
        return self.path / "finals.jsonl.gz"

    @property
    def snapshots(self) -> Path:
        return self.path / "snapshots.json"

    @property
    def verdict(self) -> Path:
        return self.path / "verdict.json"

    @property
    def cell(self) -> Path:
        return self.path / "cell.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def function_logs(self) -> Path:
        """The end of what each function wrote."""
        return self.logs / "functions.jsonl.gz"

    @property
    def finished(self) -> bool:
        """`cell.json` is written last: what lacks it was cut short, and is read by nobody."""
        return self.cell.exists()

    def arrivals(self) -> list[Path]:
        return sorted(self.path.glob("arrivals-*.jsonl"))
