"""Options and output that the commands share: a bad value is refused where it is read, before any work starts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TextIO, get_args

import typer

from benchmark.records.spec import Kind, Precision
from benchmark.suite.load import load_suite
from mbpo.config import nearest

RESULTS, CACHE = Path("results"), Path(".cache")


def Count(help: str, least: int = 1, most: int | None = None) -> Any:
    """A `typer.Option` for a whole number from `least` to `most`."""
    span = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parse(value: str | int) -> int:
        text = str(value)  # a default is an int already
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise ValueError(f"{text!r} is not a whole number {span}")
        return int(text)

    return typer.Option(parser=parse, metavar="N", help=help)


def Named(noun: str, names: Iterable[str], help: str) -> Any:
    """A `typer.Option` for one of `names`, which the help lists; any other is refused with the nearest of them."""
    names = tuple(names)

    def parse(name: str) -> str:
        if name not in names:
            raise ValueError(f"unknown {noun} {name!r}; {nearest(name, names)}")
        return name

    return typer.Option(parser=parse, metavar=noun.upper(), help=f"{help}: {', '.join(names)}.")


Results = Annotated[Path, typer.Option(help="Folder of the records.")]
Cache = Annotated[Path, typer.Option(help="Folder of leases, progress and snapshots.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output.")]
Tasks = Annotated[list[str], typer.Option(help="Task, such as dmc:hopper-hop; may be repeated.")]
Methods = Annotated[list[str], typer.Option(help="Method of methods.yaml, such as ftfl; may be repeated.")]
Drop = Annotated[
    list[str] | None, typer.Option(help="Observation group, or range such as 3:7, to leave out; may be repeated.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Constant in place of the protocol's, as sac.discount=0.995; may be repeated."),
]
Device = Annotated[str, typer.Option(help="Device to compute on: auto, cpu, cuda or cuda:1.")]
ProtocolName = Annotated[str, Named("protocol", load_suite().protocols, "How much evidence there is to be")]
PrecisionName = Annotated[Precision, Named("precision", get_args(Precision), "Precision of matrix products")]
KindName = Annotated[Kind, Named("kind", get_args(Kind), "Online training, fits on a data set, or probes of critics")]
MaxLockstep = Annotated[int, Count("Most runs in one job, as memory allows.")]
MaxEpisodeSteps = Annotated[
    int | None, Count("Cut the episodes of gym: tasks after N env steps, as ?max_episode_steps=N in the id does.")
]


def cut_episodes(task: str, max_episode_steps: int | None) -> str:
    """The id of `task` with its episodes cut after so many env steps. Raises `InputError` if it is no gym: task."""
    if max_episode_steps is None:
        return task
    return str(import_module("mbpo.envs.load").with_episode_steps(task, max_episode_steps))


def distinct(names: Iterable[str]) -> list[str]:
    """The names in order, each once."""
    return list(dict.fromkeys(names))


def say(line: str) -> None:
    """Print a line on standard error."""
    print(line, file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    """Print `data` as JSON on standard output."""
    print(json.dumps(data, indent=1), file=_json[-1] if _json else None, flush=True)


def answer(as_json: bool, data: Any, *lines: str) -> None:
    """Print `data` as JSON, or the lines."""
    if as_json:
        print_json(data)
    else:
        print("\n".join(lines))


_json: list[TextIO] = []
"""Where JSON goes while all else that is printed goes to standard error."""


@contextmanager
def json_alone() -> Iterator[None]:
    """Standard output for JSON alone: what simulators and child processes print goes to standard error.

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
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _json.pop()
        stream.flush()
        if own:
            sys.stderr.flush()
            os.dup2(kept, 1)
            os.close(kept)
            stream.close()
