"""Pictures as people have them, broken ones and hostile ones; made by OpenCV and by hand for the tests."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from fave.programs import cache_dir


def sample() -> Image.Image:
    """A street with a person."""
    return Image.open(cache_dir() / "samples" / "frames" / "0005.jpg").convert("RGB")


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def upright() -> bytes:
    return encoded(sample(), quality=90)


def grey() -> bytes:
    return encoded(sample().convert("L"))


def cmyk() -> bytes:
    return encoded(sample().convert("CMYK"))


def with_alpha() -> bytes:
    image = sample()
    image.putalpha(128)
    return encoded(image, "PNG")


def sixteen_bits() -> bytes:
    """Per channel, RGB: Pillow does not write these."""
    image = sample()
    rows = [image.crop((0, y, image.width, y + 1)).tobytes() for y in range(image.height)]
    return _png(*image.size, 16, b"".join(b"\0" + bytes(b for value in row for b in (value, value)) for row in rows))


def animated(kind: str) -> bytes:
    """The street first, then something else."""
    return encoded(sample(), kind, save_all=True, append_images=[Image.new("RGB", sample().size)])


def turned() -> bytes:
    """A phone's: the picture lies on its side, and EXIF says how to turn it."""
    exif = Image.Exif()
    exif[0x112] = 6
    return encoded(sample().rotate(90, expand=True), exif=exif, quality=90)


def cut(kind: str = "JPEG") -> bytes:
    """Half a file."""
    content = encoded(sample(), kind)
    return content[: len(content) // 2]


def bomb(kind: str) -> bytes:
    """Few bytes that claim 3.6 gigapixels."""
    side = 60_000
    if kind == "PNG":
        return _png(side, side, 8, b"\0" * 100_000)
    content = bytearray(encoded(sample(), kind))
    at, layout = (6, "<HH") if kind == "GIF" else (content.find(b"\xff\xc0") + 5, ">HH")
    content[at : at + 4] = struct.pack(layout, side, side)
    return bytes(content)


def _png(width: int, height: int, bits: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts
