"""How the cost of an env step grows with runs in lockstep, with threads and with the observation, beside its count.

Every question is a measurement of its own, made in a process of its own and saved as any other; those that are saved
already are not made again. The count of a row is its arithmetic at the speed of torch's product in the same process,
which every measurement has and rows can be compared by; the machine's peak stands beside it where it was measured.
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
    """Axis and question, one axis varied at a time from `base`; the ones that axes share come once for each."""
    found = [("runs", replace(base, runs=runs)) for runs in RUNS["cuda" if on_gpu else "cpu"]]
    if not on_gpu:
        found += [("threads", replace(base, threads=threads)) for threads in _doubling(cpus)]
    return found + [("obs_dim", replace(base, task=task)) for task in SIZES]


def _doubling(cpus: int) -> list[int]:
    """1, 2, 4, ... and `cpus` itself."""
    powers = [2**k for k in range(cpus.bit_length()) if 2**k < cpus]
    return [*powers, cpus]


def build(base: Question, device: str, results: Path, say: Callable[[str], None]) -> list[Path]:
    """Measure what is not saved, then write table and picture; `device` is the name of what `base.device` stands for.

    Raises `InputError` for a task, method or precision that cannot be measured.
    """
    folder = results / saved.FOLDER / saved.machine(device)
    wanted = questions(base, device != "cpu", cpu_count())
    for _, question in wanted:
        path = folder / saved.file_name(vars(question))
        if not path.exists():
            say(f"measuring {path.stem}")
            _measure(question, results)
    frame = table(saved.read_all(folder).values(), base)
    return [*tables.write(frame, folder, NAME), *style.save(figures.scaling(frame), folder, NAME)]


def _measure(question: Question, results: Path) -> None:
    """One question in a process of its own: the memory of another would count as its, and threads are set once."""
    options = [word for name, value in vars(question).items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmark", "speed", *options, "--rounds", str(ROUNDS), "--save", "--json"]
    done = subprocess.run([*command, "--results", str(results)], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise InputError(f"{question.task} with {question.runs} runs could not be measured; its own message is above")
    json.loads(done.stdout)


def table(found: Iterable[dict[str, Any]], base: Question | None = None) -> pd.DataFrame:
    """One row for every axis that a saved measurement lies on, in the order of axis and value.

    Columns: ``axis, value`` and `COLUMNS`; `seconds` and `counted`, the arithmetic at the speed of torch's product, are
    of one env step of one run.
    """
    base = base or Question()
    rows = []
    for one in found:
        at = {name: one[name] for name in ("task", "runs", "threads", "method", "precision")}
        for axis in figures.AXES:
            own = "task" if axis == "obs_dim" else axis
            if any(value != getattr(base, name) for name, value in at.items() if name != own):
                continue
            if axis == "obs_dim" and one["task"] not in SIZES:
                continue
            rows.append({"axis": axis, "value": one[axis], **row(one)})
    order = list(figures.AXES)
    rows.sort(key=lambda r: (order.index(r["axis"]), r["value"]))
    return pd.DataFrame(rows, columns=["axis", "value", *COLUMNS])


COLUMNS = (
    "task", "method", "runs", "threads", "precision", "gflop", "peak_gflops", "matmul_gflops", "seconds", "counted",
    "fraction_of_peak", "fraction_of_matmul", "memory_mib", "cpus_had", "load_average",
)  # fmt: skip


def row(one: dict[str, Any]) -> dict[str, Any]:
    """One measurement as a row of tables."""
    return {
        **{name: one[name] for name in ("task", "method", "runs", "threads", "precision", "matmul_gflops", "cpus_had")},
        **{name: math.nan if one[name] is None else one[name] for name in ("peak_gflops", "fraction_of_peak")},
        "gflop": one["gflop_per_env_step_per_run"],
        "seconds": one["seconds"]["total_per_env_step_per_run"],
        "counted": one["gflop_per_env_step_per_run"] / one["matmul_gflops"],
        "fraction_of_matmul": one["fraction_of_matmul"],
        "memory_mib": one["peak_memory_bytes"] / 2**20,
        "load_average": (one["where"]["load_average"] or [float("nan")])[0],
    }
