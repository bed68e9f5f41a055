"""The cost of an env step against runs in lockstep, threads and observations, beside its counted arithmetic.

Every question is measured in a process of its own and saved as any other measurement; saved ones are not repeated.
`counted` is the arithmetic at the speed of torch's product in the same process. Every measurement has it, so rows can
be compared by it. The machine's peak stands beside it where it was measured.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.drawing import style, tables
from benchmark.running.workers import cpu_count
from benchmark.speed import figures, saved
from benchmark.speed.measure import Question
from mbpo.config import InputError

RUNS = {"cpu": (1, 2, 4, 8, 16), "cuda": (1, 2, 4, 8, 12, 16, 32, 64)}
SIZES = (
    "gym:InvertedPendulum-v5",
    "dmc:hopper-hop",
    "gym:Walker2d-v5",
    "dmc:humanoid-stand",
    "dmc:quadruped-walk",
    "gym:Ant-v5",
    "gym:Humanoid-v5",
)
"""Tasks of 4 to 348 observations."""
ROUNDS = 3
NAME = "scaling"


def questions(base: Question, on_gpu: bool, cpus: int) -> list[tuple[str, Question]]:
    """Pairs of axis and question, varying one axis of `base` at a time; a question on two axes comes twice."""
    pairs = [("runs", replace(base, runs=runs)) for runs in RUNS["cuda" if on_gpu else "cpu"]]
    if not on_gpu:
        pairs += [("threads", replace(base, threads=threads)) for threads in _doubling(cpus)]
    return pairs + [("obs_dim", replace(base, task=task)) for task in SIZES]


def _doubling(cpus: int) -> list[int]:
    """1, 2, 4, ... below `cpus`, and `cpus` itself."""
    powers = [2**k for k in range(cpus.bit_length()) if 2**k < cpus]
    return [*powers, cpus]


def build(base: Question, device: str, results: Path, say: Callable[[str], None]) -> list[Path]:
    """Measure what is not saved, then write table and picture; `device` is the name of the device of `base`.

    Raises:
        InputError: a task, method or precision that cannot be measured.
    """
    folder = results / saved.FOLDER / saved.machine(device)
    pairs = questions(base, device != "cpu", cpu_count())
    for _, question in pairs:
        path = folder / saved.file_name(vars(question))
        if not path.exists():
            say(f"measuring {path.stem}")
            _measure(question, results)
    frame = table(saved.read_all(folder).values(), base)
    return [*tables.write(frame, folder, NAME), *style.save(figures.scaling(frame), folder, NAME)]


def _measure(question: Question, results: Path) -> None:
    """Measure one question in a process of its own: peak memory and the number of threads belong to a process."""
    options = [option for name, value in vars(question).items() for option in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmark", "speed", *options, "--rounds", str(ROUNDS), "--save", "--json"]
    process = subprocess.run([*command, "--results", str(results)], stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise InputError(f"{question.task} with {question.runs} runs could not be measured; its own message is above")
    json.loads(process.stdout)


def table(measurements: Iterable[dict[str, Any]], base: Question | None = None) -> pd.DataFrame:
    """One row per axis that a saved measurement lies on, in the order of axis and value.

    Columns: ``axis, value`` and `COLUMNS`; `seconds` and `counted` are of one env step of one run.
    """
    base = base or Question()
    rows = []
    for measurement in measurements:
        settings = {name: measurement[name] for name in ("task", "runs", "threads", "method", "precision")}
        for axis in figures.AXES:
            varied = "task" if axis == "obs_dim" else axis
            if any(value != getattr(base, name) for name, value in settings.items() if name != varied):
                continue
            if axis == "obs_dim" and measurement["task"] not in SIZES:
                continue
            rows.append({"axis": axis, "value": measurement[axis], **row(measurement)})
    order = list(figures.AXES)
    rows.sort(key=lambda r: (order.index(r["axis"]), r["value"]))
    return pd.DataFrame(rows, columns=["axis", "value", *COLUMNS])


COLUMNS = (
    "task", "method", "runs", "threads", "precision", "gflop", "peak_gflops", "matmul_gflops", "seconds", "counted",
    "fraction_of_peak", "fraction_of_matmul", "memory_mib", "cpus_had", "load_average",
)  # fmt: skip


def row(m: dict[str, Any]) -> dict[str, Any]:
    """A measurement `m` as a row of the table."""
    return {
        **{name: m[name] for name in ("task", "method", "runs", "threads", "precision", "matmul_gflops", "cpus_had")},
        **{name: math.nan if m[name] is None else m[name] for name in ("peak_gflops", "fraction_of_peak")},
        "gflop": m["gflop_per_env_step_per_run"],
        "seconds": m["seconds"]["total_per_env_step_per_run"],
        "counted": m["gflop_per_env_step_per_run"] / m["matmul_gflops"],
        "fraction_of_matmul": m["fraction_of_matmul"],
        "memory_mib": m["peak_memory_bytes"] / 2**20,
        "load_average": (m["where"]["load_average"] or [float("nan")])[0],
    }
