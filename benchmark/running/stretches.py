"""The stretches of a job: every process that worked on it, under what conditions, from which step to which.

A job that is stopped and resumed was computed by several processes, which may differ in all that decides whether its
runs may be pooled with others. Each writes down its conditions beside the snapshots before it computes anything, so
that a process that is killed is on record too; what is known of its end is filled in by the next one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbpo.config import InputError

PAGE = "stretches.json"


class Stretches:
    """The stretches of the job whose snapshots lie in `folder`, oldest first; the last one is this process's."""

    def __init__(self, folder: Path) -> None:
        self._page = folder / PAGE
        self._rows = _read(self._page) if self._page.exists() else []

    def begin(self, conditions: Mapping[str, Any], snapshot: Path | None) -> None:
        """Open this process's stretch, which goes on from `snapshot` (None: from the start), and write it down.

        The one before, if it was stopped, has led to that snapshot; all that it did afterwards is done again.
        """
        step = 0 if snapshot is None else int(snapshot.name.removeprefix("step-"))
        if self._rows:
            last = self._rows[-1]
            last["steps"][1] = max(step, last["steps"][0])
            if snapshot is not None and step > last["steps"][0]:  # else it left no snapshot and came to nothing
                last["wall_seconds"] = round(snapshot.stat().st_mtime - last["began"], 3)
        self._rows.append({**conditions, "steps": [step, None], "wall_seconds": None, "began": time.time()})
        draft = self._page.with_name(f".{PAGE}.{os.getpid()}.tmp")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(self._rows, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._page)

    def ended(self, step: int, seconds: float) -> list[dict[str, Any]]:
        """All stretches as a record holds them, this process's at its end: at `step`, after `seconds`."""
        first, _ = self._rows[-1]["steps"]
        rows = [*self._rows[:-1], {**self._rows[-1], "steps": [first, step], "wall_seconds": round(seconds, 3)}]
        return [{name: value for name, value in row.items() if name != "began"} for row in rows]


def _read(page: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(page.read_text(encoding="utf-8"))
        ok = all(len(row["steps"]) == 2 and row["began"] > 0 for row in rows)
    except (ValueError, KeyError, TypeError):
        ok = False
    if not ok:
        raise InputError(f"{str(page)!r} does not hold a job's stretches; delete its folder to train from the start")
    return list(rows)
