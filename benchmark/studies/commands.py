"""The command `study`."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Annotated

import typer

from benchmark.options import CACHE, RESULTS, Cache, Json, Results, print_json, say
from benchmark.records.store import Store
from benchmark.running import ensure
from benchmark.running.cost import hours
from benchmark.running.progress import Watch
from benchmark.speed import rates
from benchmark.words import count, duration


def study(
    name: Annotated[str, typer.Argument(help="a study of suite/studies.yaml, such as grid")],
    no_train: Annotated[bool, typer.Option("--no-train", help="show the records there are; train nothing")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Train what a study lacks, and write its tables and pictures."""
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
    if as_json:
        row = shown and {"runs": shown.present, "wanted": shown.wanted, "sentences": shown.sentences}
        print_json({"study": name, "found": row})
    elif shown is None:
        print(f"no run of {name} has a record in {results}; leave out --no-train to make them")
    else:
        coverage = f"{shown.present} of {count(shown.wanted, 'run')} have a record"
        print("\n".join([*shown.sentences, coverage, str(results / "studies" / name)]))
