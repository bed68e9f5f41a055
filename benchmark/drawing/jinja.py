"""How every page is made from its template."""

from __future__ import annotations

from pathlib import Path

import jinja2

TEMPLATES = Path(__file__).parents[1] / "templates"


def environment() -> jinja2.Environment:
    """Templates under ``templates/``: a name that is missing is an error, text is escaped in HTML alone."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["prose"] = lambda text: str(text).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
    return found
