"""The jinja environment of all pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from benchmark.words import no_tags

TEMPLATES = Path(__file__).parents[1] / "templates"


def environment() -> jinja2.Environment:
    """Templates under ``templates/``: a name that is missing is an error, text is escaped in HTML.

    In Markdown, which lets HTML through, what would open a tag is escaped: a record's text never becomes markup.
    """
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(["html.j2"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_finalize,
    )
    env.filters["prose"] = lambda text: str(text).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")
    return env


@jinja2.pass_context
def _finalize(context: jinja2.runtime.Context, value: Any) -> Any:
    return no_tags(value) if isinstance(value, str) and str(context.name).endswith(".md.j2") else value
