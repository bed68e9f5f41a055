"""The commands `study`, `calibrate` and `parity`."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmark import options
from benchmark.options import answer, say
from benchmark.records.store import Store
from benchmark.running import ensure
from benchmark.running.cost import hours
from benchmark.running.progress import Watch
from benchmark.speed import rates
from benchmark.words import count, duration

KEPT = ("laboratory", "advice")
"""Studies that keep what they measured themselves."""


def study(
    name: Annotated[str, typer.Argument(help="Study of suite/studies.yaml, such as grid, or laboratory, or advice.")],
    no_train: Annotated[bool, typer.Option("--no-train", help="Show the records there are and train nothing.")] = False,
    device: options.Device = "auto",
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """Train what a study lacks, and write its tables and pictures."""
    if name in KEPT:
        _kept(name, results, no_train, as_json)
        return
    studies = import_module("benchmark.suite.studies")
    requested, store = studies.study(name), Store(results, cache)
    gallery = import_module("benchmark.drawing.gallery")
    missing = store.missing(studies.specs_of(requested))
    if missing and not no_train:
        estimate = hours(missing, rates.speeds(results, os.environ).rates)
        say(f"{count(len(missing), 'run')} to train, estimated {duration(estimate * 3600)}")
        with Watch(cache, say):
            ensure.ensure(missing, store, device=device)
    shown = import_module("benchmark.studies.show").render(requested, store, gallery.Gallery(results))
    lines = [f"no run of {name} has a record in {results}; leave out --no-train to make them"]
    if shown is not None:
        coverage = f"{shown.present} of {count(shown.wanted, 'run')} have a record"
        lines = [*shown.sentences, coverage, str(results / "studies" / name)]
    row = shown and {"runs": shown.present, "wanted": shown.wanted, "sentences": shown.sentences}
    answer(as_json, {"study": name, "found": row}, *lines)


def _kept(name: str, results: Path, no_train: bool, as_json: bool) -> None:
    """Run a study that needs no records, unless what was kept is to be shown; then show it."""
    if not no_train:
        import_module(f"benchmark.studies.{name}.study").build(results, say)
    shown = import_module("benchmark.studies.show").kept(
        name, import_module("benchmark.drawing.gallery").Gallery(results)
    )
    lines = [f"the study {name} was not run into {results}; leave out --no-train to run it"]
    if shown is not None:
        lines = [*shown.sentences, str(results / "studies" / name)]
    row = shown and {"runs": shown.present, "wanted": shown.wanted, "sentences": shown.sentences}
    answer(as_json, {"study": name, "found": row}, *lines)


def calibrate(results: options.Results = options.RESULTS, as_json: options.Json = False) -> None:
    """Simulate how often each family of claims errs, what it can see, and how wide its intervals are."""
    table = import_module("benchmark.studies.calibration.study").build(results, say)
    path = results / "tables" / "calibration.csv"
    answer(as_json, json.loads(table.to_json(orient="records")), f"{path}: {len(table)} rows")


def parity(
    quick: Annotated[bool, typer.Option("--quick", help="Stop at 2,000 SAC and 1,000 model updates.")] = False,
    seeds: Annotated[int, options.Count("Seeds of ours, two at least, to have a spread to compare by.", 2)] = 3,
    results: options.Results = options.RESULTS,
    as_json: options.Json = False,
) -> None:
    """Compare our SAC and ensemble with the predecessor's code (STFL) on equal data; about 2 minutes a seed."""
    table, path = import_module("benchmark.studies.parity.compare").build(results, seeds, quick, say)
    if as_json:
        options.print_json(json.loads(table.to_json(orient="records")))
        return
    output = Table("", "measure", "updates", "predecessor", "ours", "agrees within", "verdict", title="parity")
    for row in table.itertuples():
        ours, low, high = (f"{value:.4g}" for value in (row.ours, row.low, row.high))
        output.add_row(
            row.learner, row.measure, f"{row.updates:,}", f"{row.predecessor:g}", ours, f"{low} to {high}", row.verdict
        )
    Console(width=None if sys.stdout.isatty() else 120).print(output)
    print(f"{(table.verdict == 'agrees').sum()} of {len(table)} rows agree, {seeds} seeds of ours; {path}")
