"""Trainers that make records out of nothing, for tests of everything around training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from benchmark.records.spec import RunSpec
from benchmark.records.store import COLUMNS
from benchmark.running.job import Place, Result


def result(spec: RunSpec) -> Result:
    """Tables whose numbers follow from the run's key."""
    value = int(spec.key, 16) / 3
    curve = pd.DataFrame([dict.fromkeys(COLUMNS[spec.kind], 0)])
    curve.iloc[0, -2:] = [value, 7]
    return Result(curve, pd.DataFrame([{"step": 0, "measure": "q_mean", "dim": -1, "value": value}]))


class Fake:
    """Counts what it trains; `before` may sleep, raise, or look around while the job runs."""

    def __init__(self, before: Callable[[Sequence[RunSpec], Place], None] | None = None) -> None:
        self.jobs: list[list[RunSpec]] = []
        self._before = before

    def __call__(self, specs: Sequence[RunSpec], place: Place) -> list[Result]:
        self.jobs.append(list(specs))
        if self._before is not None:
            self._before(specs, place)
        return [result(spec) for spec in specs]

    @property
    def trained(self) -> list[str]:
        return [spec.key for job in self.jobs for spec in job]


def slow_and_logged(log: Path, seconds: float) -> Callable[[Sequence[RunSpec], Place], None]:
    """Writes one line per trained run into `log`, then takes its time."""

    def before(specs: Sequence[RunSpec], place: Place) -> None:
        with log.open("a") as file:
            file.writelines(f"{spec.key}\n" for spec in specs)
        place.progress(1, 2)
        time.sleep(seconds)

    return before
