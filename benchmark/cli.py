"""The command line: `run` trains what is asked for, `status` says what is missing, `report` writes the pages.

Bad input ends in one `error:` line on standard error and exit code 2. With `--json`, standard output holds the JSON
alone; everything else goes to standard error.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Annotated, Any

import typer

from benchmark.cluster import commands as cluster
from benchmark.diagnosis import commands as diagnosis
from benchmark.judging import commands as judging
from benchmark.kit import commands as kit
from benchmark.options import json_alone, say
from benchmark.records import commands as records
from benchmark.report import commands as report
from benchmark.running import commands as running
from benchmark.running.ensure import JobsFailed
from benchmark.running.stopping import Stopped
from benchmark.speed import commands as speed
from benchmark.studies import commands as studies
from benchmark.viewing import commands as viewing
from mbpo.config import InputError

COMMANDS: Mapping[str, Callable[..., None]] = {
    "run": running.run,
    "status": report.status,
    "work": report.work,
    "pilots": report.pilots,
    "submit": cluster.submit,
    "cancel": cluster.cancel,
    "report": report.report,
    "export": judging.export,
    "judge": judging.judge,
    "calibrate": studies.calibrate,
    "pack": records.pack,
    "unpack": records.unpack,
    "play": viewing.play,
    "plot": viewing.plot,
    "compare": viewing.compare,
    "study": studies.study,
    "parity": studies.parity,
    "diagnose": diagnosis.diagnose,
    "why": diagnosis.why,
    "speed": speed.time_parts,
    "precision": speed.compare_precisions,
    "bundle": kit.bundle,
    "gpu": kit.gpu,
    "import": kit.take_in,
    "merge": kit.take_in,
}


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


def _version(asked: bool) -> None:
    if asked:
        print(f"free-lunch-forensics {import_module('mbpo').__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options of all commands."""


for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


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
    except JobsFailed as error:
        return _error(str(error), 2 if error.bad_input else 1)
    except typer.TyperException as error:
        return _error(error.format_message().replace("Value error, ", ""), error.exit_code)
    except _Ended as error:
        say(str(error.stopped))
        return error.stopped.code
    except typer.Abort:
        return _error("interrupted", 130)
    return code if isinstance(code, int) else 0


def _error(message: str, code: int) -> int:
    say("error: " + " ".join(message.split()))
    return code
