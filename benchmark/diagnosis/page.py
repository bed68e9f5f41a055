"""One diagnosis as one self-contained HTML page in the style of the report."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmark import words
from benchmark.diagnosis import figures
from benchmark.diagnosis.diagnose import MODEL, Diagnosis
from benchmark.diagnosis.signatures import SIGNATURES
from benchmark.drawing import jinja, style
from mbpo.config import InputError, ModelConfig

SYMBOLS = {"none": "✓", "mild": "≈", "severe": "✕", None: "○"}
LOOKS = {"none": "reproduced", "mild": "inconclusive", "severe": "contradicted", None: "incomplete"}
"""Severities wear the colors of the report's verdicts."""


def default_path(results: Path, diagnosis: Diagnosis) -> Path:
    """Where the page of a task goes by default."""
    slug = diagnosis.sample.info.id.replace(":", "-").replace("/", "-")
    slug = re.sub(r"[^\w.=-]+", "-", slug)  # a task's arguments and ranges hold signs that file systems refuse
    dropped = [name.replace(":", "-") for name in diagnosis.sample.info.drop]
    return results / "diagnosis" / ("-without-".join([slug[:150], *dropped]) + ".html")


def write(diagnosis: Diagnosis, path: Path) -> None:
    """Render the page to `path`. Raises `InputError` where that cannot be written."""
    environment = jinja.environment()
    environment.filters["prose"] = prose
    environment.filters["number"] = words.number
    environment.filters["interval"] = words.interval
    environment.filters["percent"] = lambda value: f"{value:.0%}"
    text = environment.get_template("diagnose.html.j2").render(_context(diagnosis))
    save(text, path)


def save(text: str, path: Path) -> None:
    """Write a page. Raises `InputError` where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"the page {str(path)!r} cannot be written ({reason}); give another --out") from None


def prose(text: str) -> str:
    """The text with the signs of a typesetter."""
    signed = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    return signed.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}").replace("R2", "R²")


def _context(diagnosis: Diagnosis) -> dict[str, Any]:
    findings = diagnosis.findings
    severities = [findings["signatures"][sign.id]["severity"] for sign in SIGNATURES]
    return {
        "task": findings["task"],
        "findings": findings,
        "geometry": findings["geometry"],
        "signatures": [{"id": sign.id, **findings["signatures"][sign.id]} for sign in SIGNATURES],
        "advice": findings["recommendation"],
        "counts": {level: severities.count(level) for level in SYMBOLS},
        "symbols": SYMBOLS,
        "looks": LOOKS,
        "colors": {arm: style.color(arm) for arm in findings["arms"]},
        "pictures": _pictures(diagnosis),
        "obstacles": list(findings["obstacles"].values()),
        "check": findings.get("check"),
        "model": {name: words.plain(value) for name, value in MODEL.items()},
    }


def _pictures(diagnosis: Diagnosis) -> dict[str, dict[str, str]]:
    """Name -> caption and the figure in the two widths of the page; none where nothing varies."""
    m, groups = diagnosis.measured, diagnosis.sample.groups
    config = ModelConfig(**MODEL)
    drawn: dict[str, tuple[str, Callable[[float], Figure]]] = {}
    if check := diagnosis.findings.get("check"):
        drawn["check"] = (
            "Returns while training, a thin line a seed and a thick one their mean: as advised, mbpo as it is, and SAC "
            "without a model. The dashed line is random actions.",
            lambda width: figures.trials(check, width),
        )
    if m.varies[-1]:
        drawn["rewards"] = (
            "Held-out transitions sorted by their true reward into ten equal parts: the mean prediction of each part "
            "(up) against its mean true reward (across). A line is a seed; right is the grey line.",
            lambda width: figures.rewards(m, width),
        )
    if m.varies[:-1].any():
        drawn["variances"] = (
            "The same predicted variances in two units, by observation and group; medians over seeds. The upper panel "
            "is what the paper plots: dividing a target by a larger scale lowers it for free. The lower one compares.",
            lambda width: figures.variances(m, groups, (config.min_logvar, config.max_logvar), width),
        )
        drawn["calibration"] = (
            "Predicted standard deviation over actual error, by observation. Between the dashed lines they agree to a "
            "factor of two; above, variance is inflated.",
            lambda width: figures.calibration(m, groups, width),
        )
        drawn["increments"] = (
            "How much an observation's increment varies, against the observation itself; a dot is a dimension of one "
            "seed. Left of the line residual targets are the smaller ones, right of it direct ones. White noise "
            "lies at 2.",
            lambda width: figures.increments(m, groups, width),
        )
    return {name: style.both_widths(draw, name, caption) for name, (caption, draw) in drawn.items()}
