"""The commands `status`, `work`, `pilots` and `report`."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmark import options
from benchmark.options import answer, say
from benchmark.records.store import Store
from benchmark.report import worker
from benchmark.report.queue import Batch
from benchmark.report.status import overview
from benchmark.running import ensure
from benchmark.running.clean import leftovers
from benchmark.running.cost import Rates, hours
from benchmark.running.progress import Watch, sentence
from benchmark.speed import rates
from benchmark.suite.load import load_suite
from benchmark.words import count, duration
from mbpo.config import InputError


def status(
    protocol: options.ProtocolName = "quick",
    speed: Annotated[Path | None, typer.Option(help="File or folder of speed --save to estimate hours by.")] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="List what ended processes left behind, and remove it.")
    ] = False,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    as_json: options.Json = False,
) -> None:
    """List records present and missing per task and method, estimated hours, and what trains now."""
    store = Store(results, cache)
    if clean:
        _clean(store, as_json)
        return
    state = overview(load_suite().protocol(protocol), store, os.environ, speed)
    if as_json:
        options.print_json(state)
        return
    table = Table("kind", "task", "method", "present", "missing", "hours alone", title=f"{protocol} protocol")
    for line in state["runs"]:
        left = f"{line['hours']:.3g}" if line["missing"] else ""
        table.add_row(line["kind"], line["task"], line["method"], str(line["present"]), str(line["missing"]), left)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(_summary(state))
    if state["tables"] is not None:
        print(_tables(state))
    for job in state["running"]:
        print(f"running: {sentence(job)}")
    for one in state["cluster"]:
        print("\n    ".join((f"submitted, {one['sentence']}", *one["log"])))
    for folder in state["torn"]:
        print(f"torn, ignored: {folder}")


def _clean(store: Store, as_json: bool) -> None:
    removed = leftovers(store)
    for leftover in removed:
        leftover.remove()
    answer(
        as_json,
        [{"path": str(leftover.path), "why": leftover.why, "bytes": leftover.bytes} for leftover in removed],
        *(f"removed {leftover.path}: {leftover.why}" for leftover in removed),
        f"{count(len(removed), 'leftover')}, {sum(leftover.bytes for leftover in removed) / 2**20:.1f} MB",
    )


def _summary(state: dict[str, Any]) -> str:
    if not state["wanted"]:
        return f"No claim is judged under the {state['protocol']} protocol."
    summary = f"{state['present']} of {count(state['wanted'], 'run')} have a record."
    if not state["missing"]:
        return summary
    on = f"{state['speeds']['device']} of this machine" if not state["speeds"]["files"] else state["speeds"]["device"]
    time = duration(state["hours"] * 3600)
    return f"{summary} The rest: about {time} on {on}, arms in lockstep ({state['speeds']['words']})."


def _tables(state: dict[str, Any]) -> str:
    tables, known = state["tables"], state["speeds"]
    names = {"dmc": "DMC", "gym": "Gym"}
    tasks = " and ".join(f"{number} {names[suite]}" for suite, number in tables["tasks"].items())
    return (
        f"The paper's tables, {' and '.join(tables['methods'])} on {tasks} tasks with {tables['seeds']} seeds each: "
        f"about {duration(tables['hours'] * 3600)} on {known['device']} ({known['words']})."
    )


def work(
    protocol: Annotated[
        list[str] | None,
        options.Named("protocol", load_suite().protocols, "Whose claims are served; may be repeated, in order"),
    ] = None,
    jobs: Annotated[
        Path | None, typer.Option(help="File of lines PROTOCOL TASK METHOD, in place of --protocol.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Begin no arm after so many minutes.")] = float("inf"),
    max_lockstep: options.MaxLockstep = ensure.MAX_LOCKSTEP,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be trained, in order.")] = False,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
) -> None:
    """Train what claims lack, most valuable per hour first, in one process of one thread at the lowest priority."""
    if jobs and protocol:
        raise InputError("--jobs names the protocols itself: leave out --protocol")
    store, known = Store(results, cache), rates.speeds(results, os.environ).rates
    protocols = [load_suite().protocol(name) for name in options.distinct(protocol or ["quick"])]
    groups = worker.listed(jobs) if jobs else None

    def wanted() -> list[Batch]:
        if groups is not None:
            return worker.from_list(groups, store, known)
        return worker.from_protocols(protocols, store, known)

    if dry_run:
        for batch in wanted():
            runs = count(len(batch.specs), "run")
            print(f"{duration(batch.hours * 3600):>12}  {batch.label} ({runs}){_before(batch, known)}")
        return
    worker.be_polite()
    with Watch(cache, say, seconds=60):
        failed = worker.work(wanted, store, say, minutes=minutes, max_lockstep=max_lockstep)
    if failed:
        say(f"error: {count(len(failed), 'arm')} could not be trained: {'; '.join(failed)}")
        raise typer.Exit(1)


def _before(batch: Batch, known: Rates) -> str:
    """The runs that a batch is fitted on and that have to be trained before it, with their hours."""
    if not batch.agents:
        return ""
    agents = f"{count(len(batch.agents), 'run')} of {batch.agents[0].method}"
    return f", after {agents}: {duration(hours(batch.agents, known) * 3600)}"


def pilots(
    name: Annotated[
        list[str] | None, typer.Argument(help="List of suite/pilots.yaml, such as toy; all if left out.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="Begin no run after so many minutes.")] = float("inf"),
    no_train: Annotated[bool, typer.Option("--no-train", help="Only write the table of what has a record.")] = False,
    results: options.Results = options.RESULTS / "pilots",
    cache: options.Cache = options.CACHE,
) -> None:
    """Train a list of pilots in its order, politely as `work` does, and write the table of all that have a record."""
    lists = import_module("benchmark.suite.pilots")
    chosen = [lists.pilots(each) for each in options.distinct(name or lists.load_pilots())]
    groups = [group for each in chosen for group in lists.groups_of(each)]
    store, known, failed = Store(results, cache), rates.speeds(results, os.environ).rates, []
    if not no_train:
        worker.be_polite()
        with Watch(cache, say, seconds=60):
            failed = worker.work(lambda: worker.from_list(groups, store, known), store, say, minutes=minutes)
    written = import_module("benchmark.report.pilots").write(store)
    print("\n".join(map(str, written)) or f"no pilot has a record in {results}")
    if failed:
        say(f"error: {count(len(failed), 'arm')} could not be trained: {'; '.join(failed)}")
        raise typer.Exit(1)


def report(
    protocol: options.ProtocolName = "quick",
    task: Annotated[
        str | None, typer.Option(help="Task for a page on its own online runs, in place of the report.")
    ] = None,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a page is not up to date.")] = False,
    as_json: options.Json = False,
) -> None:
    """Judge every claim from the records and write tables, figures and one HTML page."""
    if task is not None:
        path = str(import_module("benchmark.viewing.curves").page_of(Store(results, cache), task))
        answer(as_json, {"task": task, "report": path}, path)
        return
    if check:
        stale = import_module("benchmark.report.staleness").stale(results, cache, protocol)
        lines = [f"stale: {results / name}" for name in stale] or ["everything is up to date"]
        answer(as_json, {"protocol": protocol, "stale": stale}, *lines)
        raise typer.Exit(1 if stale else 0)
    path = str(import_module("benchmark.report.page").build(results, cache, protocol))
    answer(as_json, {"protocol": protocol, "report": path}, path)
