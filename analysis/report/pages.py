"""Reports from templates: the same facts as a page and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from analysis.report.plots import GRID, INK
from fave.campaign.rundir import write_atomic

_TEMPLATES = Path(__file__).with_name("templates")


def write(folder: Path, template: str, facts: dict[str, Any], *, name: str = "report", forms: str = "html md") -> None:
    """`{name}.html` and `{name}.md` of `folder`, from `{template}.html.j2` and `{template}.md.j2`."""
    environment = _environment()
    for form in forms.split():
        write_atomic(folder / f"{name}.{form}", environment.get_template(f"{template}.{form}.j2").render(facts))


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["themed"] = themed
    return environment


def themed(svg: str) -> str:
    """Text and lines in the page's colours, so that a figure can be read in the dark."""
    return svg.replace(INK, "currentColor").replace(GRID, "var(--line)")
