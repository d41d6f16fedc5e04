"""NOTICE and the table of docs/assets.md, written from the manifest; tests hold them together."""

from __future__ import annotations

import re
import textwrap

from assets.manifest import REGISTRIES, Manifest, Work
from fave.settings import ROOT

NOTICE = ROOT / "NOTICE"
PAGE = ROOT / "docs" / "assets.md"
_MARKS = ("<!-- written by `python -m assets --notice` -->\n", "<!-- end -->\n")
# The one MIT text in this repository; the lines of copyright above it stand with each work.
_MIT = ROOT / "generator" / "static" / "uPlot-LICENSE"

_HEAD = """\
FAVE
Licensed under the Apache License, Version 2.0 (see LICENSE).

FAVE uses the works below. Its repository holds uPlot alone; its container images hold the models that their function
needs; `python -m assets` fetches the rest for whoever runs it. Each has its own licence, by its SPDX identifier
(https://spdx.org/licenses/). Python packages and Debian packages in an image carry theirs with them.
"""
_CC_BY = "CC-BY-3.0: https://creativecommons.org/licenses/by/3.0/legalcode\n"


def notice(manifest: Manifest) -> str:
    permission = "Permission is hereby" + _MIT.read_text(encoding="utf-8").partition("Permission is hereby")[2]
    return "\n".join([_HEAD, *(_entry(work, manifest) for work in manifest.works), _CC_BY, f"MIT:\n\n{permission}"])


def table(manifest: Manifest) -> str:
    rows = ["| work | by | licence | origin | comes in | for |", "|---|---|---|---|---|---|"]
    for work in manifest.works:
        uses = ", ".join(f"`{name}`" for name in work.products) or "the web UI"
        cells = (work.title, work.author, work.licence, work.origin, _source(work, manifest), uses)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def page(text: str, manifest: Manifest) -> str:
    """`text` of docs/assets.md with the table as it is now."""
    first, last = (re.escape(mark) for mark in _MARKS)
    return re.sub(f"(?<={first}).*(?={last})", lambda _: table(manifest), text, flags=re.DOTALL)


def write(manifest: Manifest) -> None:
    NOTICE.write_text(notice(manifest), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), manifest), encoding="utf-8")


def _entry(work: Work, manifest: Manifest) -> str:
    facts = {
        "author": work.author,
        "copyright": work.copyright,
        "licence": work.licence,
        "origin": work.origin,
        "comes in": _source(work, manifest),
        "used for": ", ".join(work.products),
        "note": work.note,
    }
    lines = [textwrap.fill(f"  {name}: {fact}", 120, subsequent_indent="    ") for name, fact in facts.items() if fact]
    return "\n".join([work.title, *lines]) + "\n"


def _source(work: Work, manifest: Manifest) -> str:
    if not work.package:
        return "this repository"
    package = manifest.packages[work.package]
    return f"{REGISTRIES[package.registry]} {package.name} {package.version}".strip() + f" ({package.licence})"
