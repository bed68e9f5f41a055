"""The commands `bundle`, `gpu` and `import`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmark.options import CACHE, RESULTS, Cache, Count, Json, Results, print_json, say
from benchmark.records.store import Store
from benchmark.words import count
from mbpo.config import InputError

ROOT = Path(__file__).resolve().parents[2]


def bundle(
    out: Annotated[Path, typer.Option(help="folder of the archive")] = Path("dist"),
    protocol: Annotated[list[str] | None, typer.Option(help="what to train there; may be repeated")] = None,
    jobs: Annotated[Path | None, typer.Option(help="a file of lines PROTOCOL TASK METHOD, in place of it")] = None,
    python: Annotated[str, typer.Option(help="version of the Python there")] = "3.12",
    results: Results = RESULTS,
    cache: Cache = CACHE,
) -> None:
    """Pack the project, its packages but torch, and a list of runs, for a machine without a network."""
    if jobs and protocol:
        raise InputError("--jobs names the protocols itself: leave out --protocol")
    lines = jobs.read_text().splitlines() if jobs else _lacking(protocol or ["onset", "paper"], Store(results, cache))
    path = import_module("benchmark.kit.bundle").build(ROOT, out, lines, python)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {count(len(lines), 'line')} to train")


def _lacking(protocols: list[str], store: Store) -> list[str]:
    """The arms that online claims lack, the most valuable first, as lines of a list."""
    suite, queue = import_module("benchmark.suite.load"), import_module("benchmark.report.queue")
    rates = import_module("benchmark.running.cost").CPU
    lines = []
    for name in protocols:
        for batch in queue.queue(suite.load_suite().protocol(name), store, rates):
            first = batch.specs[0]
            if first.kind == "train" and not first.drop:
                lines.append(f"{name} {first.task} {first.method}")
    return list(dict.fromkeys(lines))


def gpu(
    out: Annotated[Path, typer.Option(help="folder that takes records, speed files and a log")],
    jobs: Annotated[Path, typer.Option(help="a file of lines PROTOCOL TASK METHOD, the most valuable first")],
    minutes: Annotated[float, typer.Option(min=0.1, help="until all is written and the command has ended")] = 25,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    runs: Annotated[list[int] | None, Count("runs in lockstep to measure speed at; may be repeated")] = None,
    max_lockstep: Annotated[int, Count("most runs in one job, a matter of memory")] = 12,
    as_json: Json = False,
) -> None:
    """On a lent machine: check that training is right there, measure its speed, then train what is worth most."""
    session = import_module("benchmark.kit.session")
    summary = session.session(minutes, out, jobs, device, say, runs or session.RUNS, max_lockstep)
    if as_json:
        print_json(summary)


def take_in(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="what `gpu --out` wrote, or a folder of results")],
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Copy new records and speed files of another folder into this one; nothing is overwritten."""
    store = Store(results, cache)
    store.prepare()
    taken = import_module("benchmark.kit.taking_in").take_in(folder, store)
    if as_json:
        print_json(taken._asdict())
        return
    print(f"{count(taken.records, 'record')} and {count(taken.measurements, 'speed file')} taken, {taken.known} known")
    if taken.torn:
        print(f"{count(taken.torn, 'record')} left: not whole, or changed after it was written")
    for name in taken.differing:
        print(f"left: another record of {name} is here")
