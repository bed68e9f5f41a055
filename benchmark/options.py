"""Options, output and name checks that the commands share."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO, cast, get_args

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
ProtocolName = Annotated[str, typer.Option(help="such as quick, onset, mature or paper: see protocols.yaml")]


def precision_named(name: str) -> Precision:
    """`name` as a precision. Raises `InputError` that names the nearest one."""
    if name not in get_args(Precision):
        raise InputError(f"unknown precision {name!r}; {nearest(name, get_args(Precision))}")
    return cast(Precision, name)


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


_json: list[TextIO] = []
"""Where JSON goes while all else that is printed goes to standard error."""


@contextmanager
def json_alone() -> Iterator[None]:
    """Standard output for `print_json` alone: what simulators and child processes print goes to standard error.

    Descriptor 1 is redirected too, where it is standard output's, for what is written past Python.
    """
    out = sys.stdout
    out.flush()
    try:
        own = out.fileno() == 1
    except (OSError, ValueError):  # a stream in memory
        own = False
    kept = os.dup(1) if own else -1
    stream = os.fdopen(os.dup(kept), "w", encoding="utf-8") if own else out
    if own:
        os.dup2(2, 1)
    _json.append(stream)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        _json.pop()
        sys.stdout = out
        stream.flush()
        if own:
            sys.stderr.flush()
            os.dup2(kept, 1)
            os.close(kept)
            stream.close()


def print_json(data: Any) -> None:
    """Print `data` as JSON on standard output."""
    print(json.dumps(data, indent=1), file=_json[-1] if _json else None, flush=True)
