"""Which files are opened at all, and whether one of them is whole: read from its own structure, not from a length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# No network, nothing but the file named; no playlists (hls, concat, dash, sdp), which name further files.
_CONTAINERS = (
    "mov,mp4,matroska,webm,mpegts,avi,flv,asf,ogg,mpeg",  # of video
    "wav,w64,aiff,mp3,aac,flac,ac3",  # of sound: opened to be refused as `no-video`
    "image2,jpeg_pipe,png_pipe,gif",  # pictures
)
ALLOWED = {"protocol_whitelist": "file", "format_whitelist": ",".join(_CONTAINERS)}
READ = "mp4, mov, mkv, webm, ts, mpg, avi, flv, wmv, ogv"

_BOXES = frozenset([b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"mfra", b"sidx", b"styp", b"uuid"])
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """How many bytes a file lacks by what its container says of itself; 0 where it does not say.

    ISO base media (ISO/IEC 14496-12: boxes), Matroska (RFC 9559: the segment's size) and RIFF (its chunks) do. The
    others have no such figure: there the library marks the last packet as incomplete.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        ends = {b"ftyp": _boxes, b"RIFF": _chunks, _EBML: _segment}
        head = file.read(8)
        reader = ends.get(head[4:8]) or ends.get(head[:4])
        file.seek(0)
        return max(0, max(reader(file, size), default=0) - size) if reader else 0


def _boxes(file: BinaryIO, size: int) -> Iterator[int]:
    """Where each top-level box ends. Bytes behind the last one that are none are nobody's business."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:], "big")
        if kind not in _BOXES or length < 8:  # 0: until the end of the file
            return
        at += length
        yield at


def _chunks(file: BinaryIO, size: int) -> Iterator[int]:
    """Where each RIFF chunk ends; an AVI over 1 GB has several."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] != b"RIFF" or length in (0, 0xFFFFFFFF):  # written to a pipe: not known
            return
        at += 8 + length
        yield at


def _segment(file: BinaryIO, size: int) -> Iterator[int]:
    """Where the segment ends, if it says so; a live recording does not."""
    file.seek(4)
    header_bytes = _variable_size(file) or 0
    file.seek(min(file.tell() + header_bytes, size))  # a header may lie beyond what can be sought
    if file.read(4) == _SEGMENT:
        length = _variable_size(file)
        if length is not None:
            yield file.tell() + length


def _variable_size(file: BinaryIO) -> int | None:
    """EBML's number: as many bytes as the first one has leading zeros and one; all ones means unknown."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & (0x7F >> more)]) + file.read(more), "big")
    return None if value == (1 << 7 * (more + 1)) - 1 else value
