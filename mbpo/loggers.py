"""Where the rows of `train` go: CSV, JSON lines, TensorBoard, Weights & Biases, or anything that is a `Logger`.

train(task, runs, budget, logger="log.csv")                # also log.jsonl, tensorboard:FOLDER or wandb:FOLDER
train(task, runs, budget, logger=["log.jsonl", TensorBoardLogger("events")])
"""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

import numpy as np

from mbpo.config import InputError
from mbpo.state import Row, Run
from mbpo.views import names

TENSORBOARD, WANDB = "tensorboard:", "wandb:"
COLUMNS = ("run", "seed", "env_steps", "updates", "measure", "value")


@runtime_checkable
class Logger(Protocol):
    """Takes every row of a training job, then is closed, also where training breaks off."""

    def log(self, row: Row, runs: Sequence[Run]) -> None:
        """One evaluation of all `runs`, in the order of the row's first axis."""

    def close(self) -> None:
        """Nothing more comes."""


def _measures(row: Row, run: int) -> Iterator[tuple[str, float]]:
    """Name and value of everything in a row about one run: mean, least and largest return, length, diagnostics."""
    returns = row.returns[run]
    yield from (("return_mean", float(returns.mean())), ("return_min", float(returns.min())))
    yield from (("return_max", float(returns.max())), ("length_mean", float(row.lengths[run].mean())))
    yield from ((name, float(values[run])) for name, values in row.diagnostics.items())


class CsvLogger:
    """One line per evaluation, run and measure: ``run, seed, env_steps, updates, measure, value``; never appends."""

    def __init__(self, path: Path | str) -> None:
        self._file = _fresh(Path(path))
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(COLUMNS)

    def log(self, row: Row, runs: Sequence[Run]) -> None:
        """See `Logger`."""
        for r, (run, name) in enumerate(zip(runs, names(runs), strict=True)):
            for measure, value in _measures(row, r):
                self._writer.writerow((name, run.seed, row.env_steps, row.updates, measure, repr(value)))
        self._file.flush()

    def close(self) -> None:
        """See `Logger`."""
        self._file.close()


class JsonLinesLogger:
    """One JSON object per evaluation and run, with all returns and lengths and a table of diagnostics; never appends.

    Numbers that are not finite are null, which JSON has no other word for.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = _fresh(Path(path))

    def log(self, row: Row, runs: Sequence[Run]) -> None:
        """See `Logger`."""
        for r, (run, name) in enumerate(zip(runs, names(runs), strict=True)):
            failure = row.failures.get(r)
            line = {
                "run": name,
                "seed": run.seed,
                "env_steps": row.env_steps,
                "updates": row.updates,
                "returns": _finite(row.returns[r].tolist()),
                "lengths": row.lengths[r].tolist(),
                "diagnostics": {name: _finite(float(values[r])) for name, values in row.diagnostics.items()},
                "failure": None if failure is None else failure.cause,
            }
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """See `Logger`."""
        self._file.close()


class TensorBoardLogger:
    """Event files, a folder per run, which TensorBoard shows as one curve each. Needs the package tensorboard."""

    def __init__(self, folder: Path | str) -> None:
        try:
            self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError:
            raise InputError(
                "TensorBoard event files need the package tensorboard: pip install tensorboard, or log to a .csv or "
                "a .jsonl"
            ) from None
        self._folder = Path(folder)
        self._writers: dict[str, Any] = {}

    def log(self, row: Row, runs: Sequence[Run]) -> None:
        """See `Logger`."""
        for r, name in enumerate(names(runs)):
            if name not in self._writers:
                self._writers[name] = self._writer(str(self._folder / name))
            for measure, value in _grouped(row, r):
                self._writers[name].add_scalar(measure, value, row.env_steps)
            self._writers[name].flush()

    def close(self) -> None:
        """See `Logger`."""
        for writer in self._writers.values():
            writer.close()


class WandbLogger:
    """Offline runs of Weights & Biases, one for each run; ``wandb sync FOLDER/wandb/*`` uploads them. Needs wandb.

    Nothing is sent and no account is needed. `settings` go to ``wandb.init``, such as ``project="mine"``.
    """

    def __init__(self, folder: Path | str, **settings: Any) -> None:
        try:
            self._wandb = importlib.import_module("wandb")
        except ImportError:
            raise InputError(
                "Weights & Biases files need the package wandb: pip install wandb, or log to a .csv or a .jsonl"
            ) from None
        self._folder = Path(folder)
        self._settings = {"project": "mbpo", "mode": "offline", "reinit": "create_new", **settings}
        self._runs: dict[str, Any] = {}

    def log(self, row: Row, runs: Sequence[Run]) -> None:
        """See `Logger`."""
        for r, (run, name) in enumerate(zip(runs, names(runs), strict=True)):
            if name not in self._runs:
                self._folder.mkdir(parents=True, exist_ok=True)
                config = {"seed": run.seed, **run.method.model_dump(mode="json")}
                self._runs[name] = self._wandb.init(dir=str(self._folder), name=name, config=config, **self._settings)
            self._runs[name].log({"updates": row.updates, **dict(_grouped(row, r))}, step=row.env_steps)

    def close(self) -> None:
        """See `Logger`."""
        for run in self._runs.values():
            run.finish()


def _grouped(row: Row, run: int) -> Iterator[tuple[str, float]]:
    """`_measures` with the group that a dashboard shows each in before its name."""
    for measure, value in _measures(row, run):
        group = "evaluation" if measure.startswith(("return_", "length_")) else "diagnostics"
        yield f"{group}/{measure}", value


def loggers(given: Any) -> list[Logger]:
    """What ``train(logger=...)`` takes as a list of loggers: None, a logger, a path, or a list of these.

    Raises `InputError` for anything else, and for a file that exists.
    """
    if given is None:
        return []
    if isinstance(given, list | tuple):
        return [one for each in given for one in loggers(each)]
    if isinstance(given, str) and given.startswith(TENSORBOARD):
        return [TensorBoardLogger(given.removeprefix(TENSORBOARD))]
    if isinstance(given, str) and given.startswith(WANDB):
        return [WandbLogger(given.removeprefix(WANDB))]
    if isinstance(given, str | Path):
        kinds: dict[str, type[CsvLogger] | type[JsonLinesLogger]] = {".csv": CsvLogger, ".jsonl": JsonLinesLogger}
        if Path(given).suffix not in kinds:
            raise InputError(
                f"logger = {str(given)!r}: give a .csv, a .jsonl, '{TENSORBOARD}FOLDER' or '{WANDB}FOLDER'"
            )
        return [kinds[Path(given).suffix](given)]
    if isinstance(given, Logger) and not isinstance(given, type):
        return [given]
    raise InputError(
        f"logger = {given!r:.60}: give a .csv or .jsonl path, '{TENSORBOARD}FOLDER', '{WANDB}FOLDER', or an object "
        "with log(row, runs) and close()"
    )


def _fresh(path: Path) -> TextIO:
    """A new file; one that exists is never overwritten nor mixed with another training's rows."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "x", encoding="utf-8", newline="\n")
    except FileExistsError:
        raise InputError(f"logger: the file {str(path)!r} exists; give another name, or remove it") from None
    except OSError as error:
        raise InputError(f"logger: {str(path)!r} cannot be written: {(error.strerror or str(error)).lower()}") from None


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value if np.isfinite(value) else None
