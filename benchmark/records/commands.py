"""The commands `pack` and `unpack`."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from benchmark import options
from benchmark.records.store import Store
from benchmark.words import count


def pack(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be packed.")] = False,
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
) -> None:
    """Put loose records into one file per task and kind of run; they are read as before."""
    done = import_module("benchmark.records.pack").pack(Store(results, cache), dry_run)
    size = "" if dry_run else f", {done.bytes / 2**20:.1f} MB"
    print(f"{count(done.records, 'record')} in {count(done.packs, 'pack')}{size}")


def unpack(
    task: Annotated[str, typer.Option(help="Task to unpack, such as dmc:hopper-hop; all if left out.")] = "",
    results: options.Results = options.RESULTS,
    cache: options.Cache = options.CACHE,
) -> None:
    """Write packed records as loose folders again, to the same bytes."""
    done = import_module("benchmark.records.pack").unpack(Store(results, cache), task)
    print(f"{count(done.records, 'record')} of {count(done.packs, 'pack')} unpacked")
