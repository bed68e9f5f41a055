"""The command line: `run` trains what is asked for, `status` says what is missing, `report` writes the pages.

Bad input ends in one `error:` line on standard error and exit code 2. With `--json`, standard output holds the JSON
alone; everything else goes to standard error.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console
from rich.table import Table

from benchmark.diagnosis import commands as diagnosis
from benchmark.options import (
    CACHE,
    RESULTS,
    Cache,
    Count,
    Json,
    ProtocolName,
    Results,
    Seed,
    json_alone,
    precision_named,
    print_json,
    say,  # fmt: skip
)
from benchmark.records.spec import Kind
from benchmark.records.store import Store
from benchmark.report import status
from benchmark.report import work as worker
from benchmark.report.queue import Batch
from benchmark.running import ensure
from benchmark.running.clean import leftovers
from benchmark.running.cost import Rates, hours
from benchmark.running.progress import Watch, sentence
from benchmark.running.stopping import Stopped
from benchmark.speed import commands as timing
from benchmark.speed import rates
from benchmark.studies import commands as studies
from benchmark.studies.parity import command as parity
from benchmark.suite.entries import Protocol
from benchmark.suite.load import load_suite, specs
from benchmark.words import count, duration
from mbpo.config import InputError, nearest


class _Ended(Exception):
    """A signal ended a command, under a name that typer, which makes 130 of every interrupt, does not know."""

    def __init__(self, stopped: Stopped) -> None:
        self.stopped = stopped


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Stopped as stopped:
            raise _Ended(stopped) from stopped


app = typer.Typer(
    cls=_Commands, add_completion=False, pretty_exceptions_enable=False, help=__doc__, rich_markup_mode=None
)


@app.command()
def run(
    task: Annotated[list[str], typer.Option(help="such as dmc:hopper-hop; may be repeated")],
    method: Annotated[list[str], typer.Option(help="such as ftfl; may be repeated")],
    seeds: Annotated[int | None, Count("seeds 0 to N-1; the protocol's number if left out")] = None,
    seed: Annotated[list[int] | None, Seed("this seed, in place of --seeds; may be repeated")] = None,
    protocol: ProtocolName = "quick",
    kind: Annotated[str, typer.Option(help="train online, or fit models on a fixed data set")] = "train",
    drop: Annotated[list[str] | None, typer.Option(help="observation group to leave out; may be repeated")] = None,
    steps: Annotated[int | None, Count("env steps, in place of the protocol's")] = None,
    precision: Annotated[str, typer.Option(help="of products: fp32, bf16, tf32 or fp64")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")] = "auto",
    max_lockstep: Annotated[int, Count("most runs in one job, a matter of memory")] = ensure.MAX_LOCKSTEP,
    snapshot_seconds: Annotated[int, Count("least seconds between two snapshots")] = 300,
    keep_last: Annotated[bool, typer.Option("--keep-last", help="keep the last state, for a longer budget")] = False,
    mix_engines: Annotated[bool, typer.Option("--mix-engines", help="go on from another engine's snapshots")] = False,
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Train the runs that have no record; equal runs are never trained twice."""
    if kind not in get_args(Kind):
        raise InputError(f"unknown kind {kind!r}; {nearest(kind, get_args(Kind))}")
    if seed and seeds is not None:
        raise InputError("--seed names the seeds and --seeds counts them: give one of the two")
    page = _with_steps(load_suite().protocol(protocol), kind, steps)
    wanted = specs(
        cast(Kind, kind), _distinct(task), _distinct(method), page, list(dict.fromkeys(seed)) if seed else seeds,
        drop=drop or (), precision=precision_named(precision),
    )  # fmt: skip
    store = Store(results, cache)
    missing = store.missing(wanted)
    estimate = hours(missing, rates.speeds(results, os.environ).rates, most=max_lockstep)
    if missing:
        say(f"{len(missing)} of {count(len(wanted), 'run')} to train, estimated {duration(estimate * 3600)}")
    with Watch(cache, say) if missing else nullcontext():  # with nothing to train, an edited environment is refused
        ensure.ensure(
            wanted, store, device=device, max_lockstep=max_lockstep, checkpoint_seconds=snapshot_seconds,
            keep_last=keep_last, mix_engines=mix_engines,
        )  # fmt: skip
    found = [{"key": s.key, "kind": s.kind, "task": s.task, "method": s.method, "seed": s.seed} for s in wanted]
    if as_json:
        print_json({"trained": len(missing), "present": len(wanted) - len(missing), "runs": found})
    else:
        print(f"{count(len(wanted), 'record')} in {results}, {len(missing)} of them new")


@app.command("status")
def show_status(
    protocol: ProtocolName = "quick",
    speed: Annotated[Path | None, typer.Option(help="a file or folder of speed --save to estimate by")] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="list what ended processes left behind, and remove it")
    ] = False,
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Records present and missing per task and method, estimated hours, and what trains now."""
    if clean:
        _clean(Store(results, cache), as_json)
        return
    found = status.overview(load_suite().protocol(protocol), Store(results, cache), os.environ, speed)
    if as_json:
        print_json(found)
        return
    table = Table("kind", "task", "method", "present", "missing", "hours alone", title=f"{protocol} protocol")
    for line in found["runs"]:
        left = f"{line['hours']:.3g}" if line["missing"] else ""
        table.add_row(line["kind"], line["task"], line["method"], str(line["present"]), str(line["missing"]), left)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(_summary(found))
    if found["tables"] is not None:
        print(_tables(found))
    for job in found["running"]:
        print(f"running: {sentence(job)}")
    for folder in found["torn"]:
        print(f"torn, ignored: {folder}")


def _clean(store: Store, as_json: bool) -> None:
    found = leftovers(store)
    for left in found:
        left.remove()
    if as_json:
        print_json([{"path": str(left.path), "why": left.why, "bytes": left.bytes} for left in found])
        return
    for left in found:
        print(f"removed {left.path}: {left.why}")
    print(f"{count(len(found), 'leftover')}, {sum(left.bytes for left in found) / 2**20:.1f} MB")


@app.command()
def work(
    protocol: Annotated[list[str] | None, typer.Option(help="may be repeated, in order of preference")] = None,
    jobs: Annotated[
        Path | None, typer.Option(help="a file of lines PROTOCOL TASK METHOD, in place of --protocol")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0, help="begin no arm after so many minutes")] = float("inf"),
    max_lockstep: Annotated[int, Count("most runs in one job, a matter of memory")] = ensure.MAX_LOCKSTEP,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only list what would be trained, in order")] = False,
    results: Results = RESULTS,
    cache: Cache = CACHE,
) -> None:
    """Train what claims lack, most valuable per hour first, in one process of one thread at the lowest priority."""
    if jobs and protocol:
        raise InputError("--jobs names the protocols itself: leave out --protocol")
    store, known = Store(results, cache), rates.speeds(results, os.environ).rates
    protocols = [load_suite().protocol(name) for name in _distinct(protocol or ["quick"])]
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
    """What a batch is fitted on and has to be trained before it, with its hours."""
    if not batch.agents:
        return ""
    agents = f"{count(len(batch.agents), 'run')} of {batch.agents[0].method}"
    return f", after {agents}: {duration(hours(batch.agents, known) * 3600)}"


@app.command()
def report(
    protocol: ProtocolName = "quick",
    results: Results = RESULTS,
    cache: Cache = CACHE,
    check: Annotated[bool, typer.Option("--check", help="write nothing; exit 1 if a page is not up to date")] = False,
    as_json: Json = False,
) -> None:
    """Judge every claim from the records and write tables, figures and one HTML page."""
    page = load_suite().protocol(protocol)
    if check:
        stale = import_module("benchmark.report.staleness").stale(results, cache, page.name)
        if as_json:
            print_json({"protocol": page.name, "stale": stale})
        else:
            print("\n".join(f"stale: {results / name}" for name in stale) or "everything is up to date")
        raise typer.Exit(1 if stale else 0)
    written = import_module("benchmark.report.page").build(results, cache, page.name)
    if as_json:
        print_json({"protocol": page.name, "report": None if written is None else str(written)})
    elif written is not None:
        print(written)


@app.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="OUT", help="a .csv, or a .parquet where pyarrow is installed")],
    protocol: ProtocolName = "quick",
    results: Results = RESULTS,
    cache: Cache = CACHE,
    as_json: Json = False,
) -> None:
    """Write all learning curves of a protocol as suite, task, method, seed, env_steps, return."""
    runs = import_module("benchmark.judging.exchange").export(
        Store(results, cache), load_suite().protocol(protocol), path
    )
    if as_json:
        print_json({"runs": runs, "path": str(path)})
    else:
        print(f"{count(runs, 'run')} in {path}")


@app.command()
def judge(
    paths: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="tables of curves, or folders of them")],
    claims: Annotated[str, typer.Option(help="claims to judge, with commas between; all that fit if left out")] = "",
    columns: Annotated[list[str] | None, typer.Option(help="OURS=THEIRS, such as return=reward,env_steps=step")] = None,
    task: Annotated[list[str] | None, typer.Option(help="THEIRS=OURS, or OURS for files that do not say")] = None,
    method: Annotated[list[str] | None, typer.Option(help="THEIRS=OURS, or OURS for files that do not say")] = None,
    every: Annotated[int | None, Count("rows are episodes: average them over so many env steps")] = None,
    tolerance: Annotated[float, typer.Option(help="share of training by which a run may end early")] = 0.01,
    planned_seeds: Annotated[int | None, Count("seeds per arm that were planned; the protocol's if left out")] = None,
    as_json: Json = False,
) -> None:
    """Judge someone else's runs against the ledger."""
    if not 0 <= tolerance < 0.2:
        raise InputError(f"--tolerance {tolerance:g}: give a share of training from 0 to below 0.2")
    exchange, lines = import_module("benchmark.judging.exchange"), import_module("benchmark.judging.lines")
    names = import_module("benchmark.judging.columns").names(columns or (), task or (), method or ())
    chosen = [name.strip() for name in claims.split(",") if name.strip()]
    rows = exchange.judge(exchange.read_runs(paths, names, every), chosen, planned_seeds, tolerance)
    if as_json:
        print_json(rows)
        return
    width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
    for row in rows:
        settled = row["verdict"] not in ("incomplete", "invalid")
        for line, _ in lines.table([row], width):
            print(line)
        for note in [row["reason"]] * settled + [row["looked"]]:
            print(textwrap.fill(note, width, initial_indent=" " * 14, subsequent_indent=" " * 14))


@app.command()
def calibrate(results: Results = RESULTS, as_json: Json = False) -> None:
    """Simulate how often each family of claims errs, what it can see, and how wide its intervals are."""
    table = import_module("benchmark.studies.calibration.study").build(results, say)
    if as_json:
        print_json(json.loads(table.to_json(orient="records")))
    else:
        print(f"{results / 'tables' / 'calibration.csv'}: {len(table)} rows")


@app.command("pack")
def pack_records(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count what would be packed")] = False,
    results: Results = RESULTS,
    cache: Cache = CACHE,
) -> None:
    """Put loose records into one file per task and kind of run; they are read as before."""
    done = import_module("benchmark.records.pack").pack(Store(results, cache), dry_run)
    size = "" if dry_run else f", {done.bytes / 2**20:.1f} MB"
    print(f"{count(done.records, 'record')} in {count(done.packs, 'pack')}{size}")


@app.command("unpack")
def unpack_records(
    task: Annotated[str, typer.Option(help="such as dmc:hopper-hop; all if left out")] = "",
    results: Results = RESULTS,
    cache: Cache = CACHE,
) -> None:
    """Write packed records as loose folders again, to the same bytes."""
    done = import_module("benchmark.records.pack").unpack(Store(results, cache), task)
    print(f"{count(done.records, 'record')} of {count(done.packs, 'pack')} unpacked")


app.command("study")(studies.study)
app.command("parity")(parity.parity)
app.command("diagnose")(diagnosis.diagnose)
app.command("speed")(timing.time_parts)
app.command("precision")(timing.compare_precisions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for a job that failed, 2 for bad input."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s", force=True)
    logging.getLogger("benchmark").setLevel(logging.INFO)
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with json_alone() if "--json" in given else nullcontext():
            code = app(args=given, prog_name="python -m benchmark", standalone_mode=False)
    except InputError as error:
        return _error(str(error), 2)
    except ensure.JobsFailed as error:
        return _error(str(error), 2 if error.bad_input else 1)
    except typer.TyperException as error:
        return _error(error.format_message().replace("Value error, ", ""), error.exit_code)
    except _Ended as error:
        say(str(error.stopped))
        return error.stopped.code
    except typer.Abort:
        return _error("interrupted", 130)
    return code if isinstance(code, int) else 0


def _with_steps(protocol: Protocol, kind: str, steps: int | None) -> Protocol:
    if steps is None:
        return protocol
    if kind == "fit":
        raise InputError("--steps is for online training; a fit's length is model.updates in protocols.yaml")
    return protocol.model_copy(update={"train": protocol.train.model_copy(update={"env_steps": steps})})


def _summary(found: dict[str, Any]) -> str:
    if not found["wanted"]:
        return f"No claim is judged under the {found['protocol']} protocol."
    told = f"{found['present']} of {count(found['wanted'], 'run')} have a record."
    if not found["missing"]:
        return told
    on = f"{found['speeds']['device']} of this machine" if not found["speeds"]["files"] else found["speeds"]["device"]
    time = duration(found["hours"] * 3600)
    return f"{told} The rest: about {time} on {on}, arms in lockstep ({found['speeds']['words']})."


def _tables(found: dict[str, Any]) -> str:
    tables, known = found["tables"], found["speeds"]
    names = {"dmc": "DMC", "gym": "Gym"}
    tasks = " and ".join(f"{number} {names[suite]}" for suite, number in tables["tasks"].items())
    return (
        f"The paper's tables, {' and '.join(tables['methods'])} on {tasks} tasks with {tables['seeds']} seeds each: "
        f"about {duration(tables['hours'] * 3600)} on {known['device']} ({known['words']})."
    )


def _distinct(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _error(message: str, code: int) -> int:
    say("error: " + " ".join(message.split()))
    return code
