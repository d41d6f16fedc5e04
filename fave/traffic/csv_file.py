"""CSV files as people have them: what is unusual about one is recognised and can be told; what is no CSV is refused.

UTF-8 with or without a byte-order mark, gzip, LF or CRLF, cells between `,` `;` or tabs, quotes, lines without content.
Files are read line by line, however long they are.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from fave.errors import ConfigError

# So many rows are looked at to tell how a file is written.
LOOKED_AT = 100
_LONGEST_BYTES = 2**20
_BLOCK_BYTES = 2**16
_ALONE = re.compile(rb"\r(?!\n|\Z)")
_MARK = b"\xef\xbb\xbf"
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# Where there is one column nothing separates: this stands in no text.
_NOTHING = "\x1f"
_AS_UTF_8 = "save it as CSV in UTF-8"

# The number of its line, and its cells.
Row = tuple[int, list[str]]


class Form(NamedTuple):
    """How a file is written. `separator`: empty where there is one column. `first`: its first rows."""

    path: Path
    compressed: bool
    marked: bool
    separator: str
    columns: tuple[str, ...]
    first: tuple[Row, ...] = ()

    @property
    def plain(self) -> bool:
        return self.separator == "," and not (self.compressed or self.marked)

    def said(self) -> list[str]:
        """For people."""
        cells = f"cells between {_SEPARATORS[self.separator]}" if self.separator else "one column"
        return [cells, *["gzip"] * self.compressed, *["byte-order mark"] * self.marked]

    def places(self, *names: str) -> list[int]:
        """Where the columns of these names are, in small or capital letters.

        Raises
        ------
        ConfigError
            When one is not there, or more than once.
        """
        there = [name.casefold() for name in self.columns]
        missing = [name for name in names if name.casefold() not in there]
        if missing:
            raise ConfigError(f"{self.path}: no column {', '.join(missing)} (there is {', '.join(self.columns[:6])})")
        twice = [name for name in names if there.count(name.casefold()) > 1]
        if twice:
            raise ConfigError(f"{self.path}: column {', '.join(twice)} is there more than once", hint="keep one")
        return [there.index(name.casefold()) for name in names]


def recognise(path: Path) -> Form:
    """From the header and the first rows.

    Raises
    ------
    ConfigError
        For a file that cannot be read or is no CSV, with the line.
    """
    lines = lines_of(path)
    try:
        header = next((line for line in lines if line.strip()), "")
        if not header:
            raise ConfigError(f"{path}: is empty", hint="a CSV file begins with the names of its columns")
        split = {each: next(csv.reader([header], delimiter=each)) for each in (*_SEPARATORS, _NOTHING)}
    except csv.Error as error:
        raise ConfigError(f"{path}:1: {error}") from error
    finally:
        lines.close()
    separator = max(_SEPARATORS, key=lambda each: len(split[each]))
    names = split[separator if len(split[separator]) > 1 else _NOTHING]
    with _opened(path) as (file, compressed):
        marked = file.read(len(_MARK)) == _MARK
    form = Form(path, compressed, marked, separator if len(names) > 1 else "", tuple(name.strip() for name in names))
    found = rows(form)
    try:
        return form._replace(first=tuple(islice(found, LOOKED_AT)))
    finally:
        found.close()


def is_compressed(path: Path) -> bool:
    with _opened(path) as (_, compressed):
        return compressed


def rows(form: Form) -> Generator[Row, None, None]:
    """The rows below the header that have any content.

    Raises
    ------
    ConfigError
        With the line: for other cells than the header has, and for what is no text.
    """
    lines = lines_of(form.path)
    reader = csv.reader(lines, delimiter=form.separator or _NOTHING, strict=True)
    width, header_seen = len(form.columns), False
    try:
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            if len(cells) != width:
                said = f"{len(cells)} cells instead of {width}, as the header has"
                raise ConfigError(f"{form.path}:{reader.line_num}: {said}")
            if header_seen:
                yield reader.line_num, cells
            header_seen = True
    except csv.Error as error:
        raise ConfigError(f"{form.path}:{reader.line_num}: {error}") from error
    finally:
        lines.close()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes] | gzip.GzipFile, bool]]:
    """The content, and whether it was compressed."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            yield file, False
            return
        with gzip.open(file) as content:
            yield content, True


def lines_of(path: Path) -> Generator[str, None, None]:
    """By blocks of whole lines: looking at each line by itself takes twice the time."""
    number, rest = 0, b""
    try:
        with _opened(path) as (file, _):
            while block := file.read(_BLOCK_BYTES):
                if not number and not rest:
                    block = block.removeprefix(_MARK)
                whole, end, rest = (rest + block).rpartition(b"\n")
                yield from io.StringIO(_text(whole + end, path, number), newline="\n")
                number += whole.count(b"\n") + len(end)
                if len(rest) > _LONGEST_BYTES:
                    _text(rest, path, number)
                    said = f"is longer than {_LONGEST_BYTES} bytes, so it is no line of text"
                    raise ConfigError(f"{path}:{number + 1}: {said}")
            yield from io.StringIO(_text(rest, path, number), newline="\n")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        where = f"{path}:{number + 1}" if number else f"{path}"
        raise ConfigError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _text(lines: bytes, path: Path, before: int) -> str:
    """`lines` as text; `before`: so many lines of the file come before them."""

    def refuse(at: int, said: str, hint: str) -> NoReturn:
        line = before + lines.count(b"\n", 0, at) + 1
        raise ConfigError(f"{path}:{line}: {said}", hint=hint)

    if not before and lines.startswith((b"\xff\xfe", b"\xfe\xff")):
        refuse(0, "is UTF-16", _AS_UTF_8)
    if b"\0" in lines:
        refuse(lines.index(b"\0"), "holds a NUL byte, so it is no text in UTF-8", _AS_UTF_8)
    if alone := _ALONE.search(lines):
        refuse(alone.start(), "a carriage return within the line", "end lines with LF or CRLF")
    try:
        return lines.decode()
    except UnicodeDecodeError as error:
        refuse(error.start, f"byte 0x{lines[error.start]:02x} is not UTF-8 (is it Latin-1?)", _AS_UTF_8)
