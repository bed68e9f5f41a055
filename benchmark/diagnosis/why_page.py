"""The account of one run as one self-contained HTML page in the style of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark import words
from benchmark.diagnosis import why_figures
from benchmark.diagnosis.page import prose, save
from benchmark.diagnosis.why import Account
from benchmark.drawing import jinja, style

CAPTION = (
    "Every measure of the run on one axis of env steps, those that went beyond their limit first. The dashed line is "
    "the limit, the red dot the first evaluation beyond it; it happened somewhere in the shaded stretch. Above the "
    "limit the scale is logarithmic."
)


def write(account: Account, path: Path) -> None:
    """Render the page to `path`. Raises `InputError` where that cannot be written."""
    environment = jinja.environment()
    environment.filters["prose"] = prose
    environment.filters["number"] = words.number
    text = environment.get_template("why.html.j2").render(_context(account))
    save(text, path)


def _context(account: Account) -> dict[str, Any]:
    spec, reference = account.record.spec, account.reference
    drawn = bool(len(account.course.table))
    figures = (
        {
            size: style.svg(why_figures.course(account, width), f"course-{size}", CAPTION)
            for size, width in (("wide", style.WIDE), ("narrow", style.NARROW))
        }
        if drawn
        else {}
    )
    return {
        "title": f"{spec.arm} on {words.task_name(spec.task)}, seed {spec.seed}",
        "key": spec.key,
        "reference": None if reference is None else f"{reference.spec.label} ({reference.spec.key})",
        "account": account,
        "sentences": account.sentences,
        "figures": figures,
        "caption": CAPTION,
    }
