"""The commands `bundle`, `gpu`, and `import`, which goes by `merge` as well."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmark import options
from benchmark.options import CACHE, RESULTS, Cache, Count, Json, Results, answer, say
from benchmark.records.store import Store
from benchmark.suite.load import load_suite
from benchmark.words import count
from mbpo.config import InputError

ROOT = Path(__file__).resolve().parents[2]


def bundle(
    out: Annotated[Path, typer.Option(help="Folder of the archive.")] = Path("dist"),
    protocol: Annotated[
        list[str] | None,
        options.Named("protocol", load_suite().protocols, "Whose claims are served there; may be repeated, in order"),
    ] = None,
    jobs: Annotated[
        Path | None, typer.Option(help="File of lines PROTOCOL TASK METHOD, in place of --protocol.")
    ] = None,
    python: Annotated[str, typer.Option(help="Version of the Python there.")] = "3.12",
    results: Results = RESULTS,
    cache: Cache = CACHE,
) -> None:
    """Pack the project, its packages but torch, and a list of runs, for machines without a package index."""
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
    out: Annotated[Path, typer.Option(help="Folder that takes records, speed files and a log.")],
    jobs: Annotated[Path, typer.Option(help="File of lines PROTOCOL TASK METHOD, the most valuable first.")],
    minutes: Annotated[
        float, typer.Option(min=0.1, help="Minutes until all is written and the command has ended.")
    ] = 25,
    device: options.Device = "auto",
    runs: Annotated[list[int] | None, Count("Runs in lockstep to measure speed at; may be repeated.")] = None,
    max_lockstep: options.MaxLockstep = 12,
    as_json: Json = False,
) -> None:
    """Check that training is right on a lent machine, measure its speed, then train what is worth most."""
    session = import_module("benchmark.kit.session")
    summary = session.session(minutes, out, jobs, device, say, runs or session.RUNS, max_lockstep)
    answer(as_json, summary, str(out / "session.json"))


def take_in(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder that `gpu --out` wrote, or another folder of results.")
    ],
    mix_engines: Annotated[
        bool, typer.Option("--mix-engines", help="Also take records of engines that the same plan here does not have.")
    ] = False,
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Copy new records and speed files of another folder into this one; nothing is overwritten."""
    store = Store(results, cache)
    store.prepare()
    taken = import_module("benchmark.kit.taking_in").take_in(folder, store, mix_engines)
    lines = [
        f"{count(taken.records, 'record')} and {count(taken.measurements, 'speed file')} taken, {taken.known} known"
    ]
    if taken.torn:
        lines.append(f"{count(taken.torn, 'record')} left: not whole, or changed after it was written")
    lines += [f"left: another record of {name} is here" for name in taken.differing]
    lines += [f"left: {sentence} (--mix-engines takes it)" for sentence in taken.other_engine]
    answer(as_json, taken._asdict(), *lines)
