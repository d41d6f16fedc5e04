"""Reports from templates: the same facts as a page and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from fave.rundir import write_atomic

_TEMPLATES = Path(__file__).with_name("templates")


def write(folder: Path, template: str, facts: dict[str, Any]) -> None:
    """`report.html` and `report.md` of `folder`, from `{template}.html.j2` and `{template}.md.j2`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for form in ("html", "md"):
        write_atomic(folder / f"report.{form}", environment.get_template(f"{template}.{form}.j2").render(facts))
