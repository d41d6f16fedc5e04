"""The manifest: which packages bring which files, and what is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from fave.settings import load_yaml

MANIFEST = Path(__file__).with_name("manifest.yml")


class PackageFile(msgspec.Struct, frozen=True, kw_only=True):
    inside: str
    path: str
    sha256: str = ""


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """`sha256` is of the package itself; empty for Debian's, which apt verifies against its signed index."""

    registry: Literal["pypi", "npm", "debian"]
    name: str
    version: str
    licence: str
    files: tuple[PackageFile, ...]
    sha256: str = ""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    needs: tuple[str, ...]
    sha256: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    packages: dict[str, Package]
    products: dict[str, Product]


def load() -> Manifest:
    return load_yaml(MANIFEST, Manifest)
