"""The report's section on speed, for its templates, from the files under ``speed/`` and ``precision/``.

Nothing is measured: equal files give equal sections.
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
    """Machines with measurements and scaling, and compared precisions; None if there are neither."""
    machines = [_machine(folder) for folder in saved.machines(results)]
    compared = [_compared(path) for path in sorted((results / precision.FOLDER).glob("*-against-*.csv"))]
    return {"machines": machines, "precisions": compared} if machines or compared else None


def _machine(folder: Path) -> dict[str, Any]:
    measurements = list(saved.read_all(folder).values())
    measurements.sort(key=lambda m: (m["runs"], m["task"], m["method"], m["threads"], m["precision"]))
    rows = [_cells(m) for m in measurements]
    # On a GPU the usual number of threads is not one.
    frame = scaling.table(measurements, Question(threads=mode(m["threads"] for m in measurements)))
    several = any((frame["axis"] == axis).sum() > 1 for axis in figures.AXES)
    return {
        "id": folder.name,
        "name": _name(measurements[0]),
        "heads": HEADS,
        "rows": rows,
        "markdown": tables.markdown(pd.DataFrame(rows, columns=list(HEADS))),
        "scaling": style.both_widths(lambda width: figures.scaling(frame, width), f"scaling-{folder.name}", SCALING)
        if several
        else None,
    }


FRACTIONS = ("fraction_of_peak", "fraction_of_matmul")
SCALING = "Seconds of one env step of one run, and what its counted arithmetic would take as fast as torch's product."
KINDS = {"fit": ", in fits", "train": ", online"}
SHIFTS = "Shift of every measure between the two precisions, in margins; inside the band they are equivalent."


def _name(measurement: dict[str, Any]) -> str:
    circumstances = measurement.get("where", {})
    if measurement["device"] != "cpu":
        return str(measurement["device"])
    return f"{circumstances.get('processor', 'a CPU')}, {circumstances.get('cpus', 'unknown')} CPUs"


def _cells(measurement: dict[str, Any]) -> tuple[str, ...]:
    seconds, load = measurement["seconds"], (measurement.get("where", {}).get("load_average") or [None])[0]
    evaluation = seconds["evaluation"] / measurement["runs"] / seconds["total_per_env_step_per_run"]
    return (
        words.task_name(measurement["task"]),
        measurement["method"],
        measurement["precision"],
        str(measurement["runs"]),
        str(measurement["threads"]),
        f"{measurement['gflop_per_env_step_per_run']:.1f}",
        words.number(seconds["total_per_env_step_per_run"]),
        *(words.DASH if measurement[name] is None else f"{measurement[name]:.2f}" for name in FRACTIONS),
        f"{evaluation:.2%}",
        words.number(load),
    )


def _compared(path: Path) -> dict[str, Any]:
    frame = pd.read_csv(path)
    first, _, second = path.stem.partition("-against-")
    second, _, kind = second.partition("-")
    summary, *details = precision.sentences(frame, first, second)
    rows = precision.figure_rows(frame)
    return {
        "name": path.stem,
        "whole": summary + KINDS.get(kind, ""),
        "rest": [line.strip() for line in details],
        "picture": style.both_widths(lambda width: figures.precision(rows, width), path.stem, SHIFTS),
    }
