"""The command `parity`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmark.options import RESULTS, Count, Json, Results, print_json, say
from mbpo.config import NUMERICS_VERSIONS, InputError

QUICK = {"sac": 2_000, "model": 1_000}
"""Updates of a quick comparison, by learner."""


def parity(
    quick: Annotated[bool, typer.Option("--quick", help="stop at 2,000 SAC and 1,000 model updates")] = False,
    seeds: Annotated[int, Count("seeds of ours, in lockstep; at least 2")] = 3,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Compare our SAC and ensemble with the predecessor's code (STFL) on equal data; about 2 minutes a seed."""
    if seeds < 2:
        raise InputError(f"seeds = {seeds}: at least 2 are needed, or there is no spread to compare by")
    table, path = build(results, seeds, quick)
    if as_json:
        print_json(json.loads(table.to_json(orient="records")))
        return
    output = Table("", "measure", "updates", "predecessor", "ours", "agrees within", "verdict", title="parity")
    for row in table.itertuples():
        ours, low, high = (f"{value:.4g}" for value in (row.ours, row.low, row.high))
        output.add_row(
            row.learner, row.measure, f"{row.updates:,}", f"{row.predecessor:g}", ours, f"{low} to {high}", row.verdict
        )
    Console(width=None if sys.stdout.isatty() else 120).print(output)
    print(f"{(table.verdict == 'agrees').sum()} of {len(table)} rows agree, {seeds} seeds of ours; {path}")


def build(results: Path, seeds: int, quick: bool) -> tuple[Any, Path]:
    """Train, compare and write; returns the table and its path. A quick comparison has its own file."""
    study = import_module("benchmark.studies.parity.study")
    comparison = import_module("benchmark.studies.parity.compare")
    theirs = comparison.reference()
    if quick:
        theirs = theirs[theirs.updates <= theirs.learner.map(QUICK)]
    ours: dict[tuple[str, int], list[float]] = {}
    for learner, learn in (("sac", study.learn_sac), ("model", study.learn_model)):
        marks = sorted(set(theirs.updates[theirs.learner == learner].tolist()))
        ours |= learn(range(seeds), marks, say=say)
    table = comparison.compare(theirs, ours)
    path = results / "parity" / ("quick.csv" if quick else "parity.csv")
    return table, comparison.save(table, _versions(), path)


def _versions() -> str:
    """Commit, numerics version and packages in one line."""
    provenance = import_module("benchmark.running.provenance")
    code, packages = provenance.code(), provenance.versions()
    commit = "no commit" if code["commit"] is None else f"commit {code['commit'][:10]}{'+' if code['dirty'] else ''}"
    pinned = [f"{name} {packages[name]}" for name in ("torch", "mujoco", "dm_control")]
    return "; ".join([commit, f"numerics {NUMERICS_VERSIONS['train']}", *pinned])
