"""Options, output and name checks that the commands share."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from benchmark.records.spec import Precision
from mbpo.config import InputError, nearest

RESULTS, CACHE = Path("results"), Path(".cache")


def _count(value: str | int) -> int:
    text = str(value)  # a default is an int already
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def Count(help: str) -> Any:
    """A `typer.Option` for a whole number of at least 1."""
    return typer.Option(parser=_count, metavar="N", help=help)


def Seed(help: str) -> Any:
    """A `typer.Option` for a seed."""
    return typer.Option(parser=_seed, metavar="SEED", help=help)


def _seed(value: str | int) -> int:
    text = str(value)
    if not text.isdecimal() or int(text) >= 2**31:
        raise ValueError(f"{text!r} is not a whole number from 0 to {2**31 - 1}")
    return int(text)


Results = Annotated[Path, typer.Option(help="folder of records")]
Cache = Annotated[Path, typer.Option(help="folder of leases, progress and checkpoints")]
Json = Annotated[bool, typer.Option("--json", help="JSON alone on standard output")]
ProtocolName = Annotated[str, typer.Option(help="smoke, quick, reduced or paper")]


def precision_named(name: str) -> Precision:
    """`name` as a precision. Raises `InputError` that names the nearest one."""
    if name not in get_args(Precision):
        raise InputError(f"unknown precision {name!r}; {nearest(name, get_args(Precision))}")
    return cast(Precision, name)


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    """Print `data` as JSON on standard output."""
    print(json.dumps(data, indent=1))
