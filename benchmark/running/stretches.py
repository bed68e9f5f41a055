"""The stretches of a run: every process that worked on it, under what conditions, from which step to which.

A run that is stopped and resumed was computed by several processes, which may differ in all that decides whether it may
be pooled with others. Each writes down its conditions beside the snapshots before it computes anything, so that a
process that is killed is on record too; what is known of its end is filled in by the next one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmark.records.spec import digest
from benchmark.records.store import DAMAGE, replace_file
from mbpo.config import InputError

PAGE = "stretches.json"
ENGINE = ("engine", "mujoco", "device", "means")
"""What must not change within a run, beside the packages: the simulator, where it ran, and how it was made fast."""


class Stretches:
    """The stretches of the run whose snapshots lie in `folder`, oldest first; the last one is this process's.

    Raises `InputError` where they cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._page = folder / PAGE
        self._rows = _read(self._page) if self._page.exists() else []

    def differ(self, conditions: Mapping[str, Any]) -> list[str]:
        """What of the engine is another one now than when the run was last worked on."""
        return changed(self._rows[-1], conditions) if self._rows else []

    def begin(self, conditions: Mapping[str, Any], snapshot: Path | None, companions: Sequence[str] = ()) -> None:
        """Open this process's stretch, which goes on from `snapshot` (None: from the start), and write it down.

        The one before, if it was stopped, has led to that snapshot; all that it did afterwards is done again.
        """
        step = 0 if snapshot is None else int(snapshot.name.removeprefix("step-"))
        if self._rows:
            last = self._rows[-1]
            last["steps"][1] = max(step, last["steps"][0])
            if snapshot is not None and step > last["steps"][0]:  # else it left no snapshot and came to nothing
                last["wall_seconds"] = round(snapshot.stat().st_mtime - last["began"], 3)
        row = {**conditions, "steps": [step, None], "wall_seconds": None}
        self._rows.append({**row, "began": time.time(), "company": list(companions)})
        replace_file(self._page, json.dumps({"rows": self._rows, "seal": digest(self._rows)}))

    def ended(self, step: int, seconds: float) -> list[dict[str, Any]]:
        """All stretches as a record holds them, this process's at its end: at `step`, after `seconds`."""
        first, _ = self._rows[-1]["steps"]
        rows = [*self._rows[:-1], {**self._rows[-1], "steps": [first, step], "wall_seconds": round(seconds, 3)}]
        return [{name: value for name, value in row.items() if name not in ("began", "company")} for row in rows]


def changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The parts of the engine in which two stretches differ; of packages, their releases."""
    differing = [name for name in ENGINE if one.get(name) != other.get(name)]
    packages = [{k: str(v).split("+")[0] for k, v in row.get("versions", {}).items()} for row in (one, other)]
    names = sorted(set(packages[0]) | set(packages[1]) - {"python"})
    return differing + [name for name in names if name != "python" and packages[0].get(name) != packages[1].get(name)]


def mixed(stretches: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parts of the engine that changed over a run's life: none, unless that was asked for."""
    rows = [row for row in stretches if row["steps"][1] is None or row["steps"][1] > row["steps"][0]]
    return sorted({name for one, other in pairwise(rows) for name in changed(one, other)})


def company(folder: Path) -> list[str]:
    """The keys of the runs that the run of `folder` last trained with, in their order; none where that is unknown."""
    try:
        return [str(key) for key in _read(folder / PAGE)[-1]["company"]]
    except (InputError, LookupError, TypeError):
        return []


def _read(page: Path) -> list[dict[str, Any]]:
    try:
        rows, sound = json.loads(page.read_text(encoding="utf-8")), True
        if isinstance(rows, dict):  # earlier versions wrote the rows alone
            rows, sound = rows["rows"], digest(rows["rows"]) == rows["seal"]
        ok = sound and all(len(row["steps"]) == 2 and row["began"] > 0 for row in rows)
    except DAMAGE:
        ok = False
    if not ok:
        raise InputError(f"{str(page)!r} does not hold a run's stretches; delete its folder to train from the start")
    return list(rows)
