"""The report's section on speed: what is saved under ``speed/`` and ``precision/``, as templates read it.

Equal files give equal sections; nothing is measured here.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mode
from typing import Any

import pandas as pd

from benchmark import words
from benchmark.drawing import style, tables
from benchmark.speed import figures, precision, saved, scaling
from benchmark.speed.measure import Question

HEADS = (
    "task", "method", "precision", "runs", "threads", "GFLOP", "s per step", "of the peak", "of torch's product",
    "evaluation", "load",
)  # fmt: skip


def section(results: Path) -> dict[str, Any] | None:
    """Machines with their measurements and scaling, and precisions compared; None where there are neither."""
    machines = [_machine(folder) for folder in saved.machines(results)]
    compared = [_compared(path) for path in sorted((results / precision.FOLDER).glob("*-against-*.csv"))]
    return {"machines": machines, "precisions": compared} if machines or compared else None


def _machine(folder: Path) -> dict[str, Any]:
    found = list(saved.read_all(folder).values())
    found.sort(key=lambda one: (one["runs"], one["task"], one["method"], one["threads"], one["precision"]))
    rows = [_cells(one) for one in found]
    # Beside a GPU the usual number of threads is not one.
    frame = scaling.table(found, Question(threads=mode(one["threads"] for one in found)))
    several = any((frame["axis"] == axis).sum() > 1 for axis in figures.AXES)
    return {
        "id": folder.name,
        "name": _name(found[0]),
        "heads": HEADS,
        "rows": rows,
        "markdown": tables.markdown(pd.DataFrame(rows, columns=list(HEADS))),
        "scaling": _drawn(lambda width: figures.scaling(frame, width), f"scaling-{folder.name}", SCALING)
        if several
        else None,
    }


FRACTIONS = ("fraction_of_peak", "fraction_of_matmul")
SCALING = "Seconds of one env step of one run, and what its counted arithmetic would take as fast as torch's product."
KINDS = {"fit": ", in fits", "train": ", online"}
SHIFTS = "Shift of every measure between the two precisions, in margins; inside the band they are equivalent."


def _name(one: dict[str, Any]) -> str:
    where = one.get("where", {})
    if one["device"] != "cpu":
        return str(one["device"])
    return f"{where.get('processor', 'a CPU')}, {where.get('cpus', 'unknown')} CPUs"


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    seconds, load = one["seconds"], (one.get("where", {}).get("load_average") or [None])[0]
    evaluation = seconds["evaluation"] / one["runs"] / seconds["total_per_env_step_per_run"]
    return (
        words.task_name(one["task"]),
        one["method"],
        one["precision"],
        str(one["runs"]),
        str(one["threads"]),
        f"{one['gflop_per_env_step_per_run']:.1f}",
        words.number(seconds["total_per_env_step_per_run"]),
        *(words.DASH if one[name] is None else f"{one[name]:.2f}" for name in FRACTIONS),
        f"{evaluation:.2%}",
        words.number(load),
    )


def _compared(path: Path) -> dict[str, Any]:
    frame = pd.read_csv(path)
    first, _, second = path.stem.partition("-against-")
    second, _, kind = second.partition("-")
    whole, *rest = precision.sentences(frame, first, second)
    drawn = precision.figure_rows(frame)
    return {
        "name": path.stem,
        "whole": whole + KINDS.get(kind, ""),
        "rest": [line.strip() for line in rest],
        "picture": _drawn(lambda width: figures.precision(drawn, width), path.stem, SHIFTS),
    }


def _drawn(draw: Any, name: str, caption: str) -> dict[str, str]:
    """The picture twice, as wide and narrow pages show it."""
    sizes = {"wide": style.WIDE, "narrow": style.NARROW}
    return {size: style.svg(draw(width), f"{name}-{size}", caption) for size, width in sizes.items()} | {
        "caption": caption
    }
