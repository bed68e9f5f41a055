"""The commands `judge` and `export`."""

from __future__ import annotations

import shutil
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmark import options
from benchmark.options import answer
from benchmark.records.store import Store
from benchmark.suite.load import load_suite
from benchmark.words import count
from mbpo.config import InputError


def judge(
    paths: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Tables of curves, or folders of them.")],
    claims: Annotated[str, typer.Option(help="Claims to judge, with commas between; all that fit if left out.")] = "",
    columns: Annotated[
        list[str] | None, typer.Option(help="Column as OURS=THEIRS, such as return=reward,env_steps=step.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Task as THEIRS=OURS, or as OURS for files that do not say.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method as THEIRS=OURS, or as OURS for files that do not say.")
    ] = None,
    every: Annotated[int | None, options.Count("Average rows, which are episodes, over so many env steps.")] = None,
    tolerance: Annotated[float, typer.Option(help="Share of training by which a run may end early.")] = 0.01,
    planned_seeds: Annotated[int | None, options.Count("Planned seeds per arm; the protocol's if left out.")] = None,
    as_json: options.Json = False,
) -> None:
    """Judge someone else's runs against the ledger."""
    if not 0 <= tolerance < 0.2:
        raise InputError(f"--tolerance {tolerance:g}: give a share of training from 0 to below 0.2")
    exchange, lines = import_module("benchmark.judging.exchange"), import_module("benchmark.judging.lines")
    names = import_module("benchmark.judging.columns").names(columns or (), task or (), method or ())
    chosen = [name.strip() for name in claims.split(",") if name.strip()]
    rows = exchange.judge(exchange.read_runs(paths, names, every), chosen, planned_seeds, tolerance)
    if as_json:
        options.print_json(rows)
        return
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
    for row in rows:
        settled = row["verdict"] not in ("incomplete", "invalid")
        for line, _ in lines.table([row], width):
            print(line)
        for note in [row["reason"]] * settled + [row["looked"]]:
            print(textwrap.fill(note, width, initial_indent=" " * 14, subsequent_indent=" " * 14))


def export(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="File to write: a .csv or a .parquet.")],
    protocol: options.ProtocolName = "quick",
    task: Annotated[
        list[str] | None, typer.Option(help="Task whose runs to write, under any protocol; may be repeated.")
    ] = None,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """Write all learning curves of a protocol as suite, task, method, seed, env_steps, return."""
    store = Store(results, cache)
    if task:
        runs = import_module("benchmark.viewing.curves").export(store, options.distinct(task), path)
    else:
        runs = import_module("benchmark.judging.exchange").export(store, load_suite().protocol(protocol), path)
    answer(as_json, {"runs": runs, "path": str(path)}, f"{count(runs, 'run')} in {path}")
