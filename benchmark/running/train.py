"""Online training of one job, as the two tables of a record."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pandas as pd

from benchmark.records.spec import RunSpec
from benchmark.records.store import COLUMNS, DIAGNOSTICS
from benchmark.running.job import Place, Result


def train_job(specs: Sequence[RunSpec], place: Place) -> list[Result]:
    """Train online: the rows of `mbpo.train`, one pair of tables per run."""
    loop = import_module("mbpo.loop")
    names = ["policies", *(["replays"] if place.keep_replay else [])]
    keepers = [import_module(f"benchmark.running.{name}").keeper(specs, place.cache) for name in names]

    def keep(state: Any) -> None:
        for each in keepers:
            each(state)

    first = specs[0]
    assert first.budget is not None
    total = first.budget.env_steps
    rows = loop.train(
        first.task,
        [loop.Run(spec.constants, spec.seed) for spec in specs],
        first.budget,
        drop=first.drop,
        device=place.device,
        precision=first.precision,
        checkpoint=place.checkpoints,
        checkpoint_seconds=place.checkpoint_seconds,
        keep_last=True,  # a kill between the last step and the record costs nothing then
        stop=place.stop,
        progress=lambda step: place.progress(step, total),
        keep=keep,
    )
    curves: list[list[tuple[int, int, float, int]]] = [[] for _ in specs]
    diagnostics: list[list[tuple[int, str, int, float]]] = [[] for _ in specs]
    for row in rows:
        for r in range(len(specs)):
            pairs = zip(row.returns[r].tolist(), row.lengths[r].tolist(), strict=True)
            curves[r] += [(row.env_steps, episode, value, length) for episode, (value, length) in enumerate(pairs)]
            measures = {"updates": float(row.updates), **{name: float(v[r]) for name, v in row.diagnostics.items()}}
            diagnostics[r] += [(row.env_steps, name, -1, value) for name, value in measures.items()]
        for r, failure in row.failures.items():
            fields = {"step": failure.step, "seed": specs[r].seed, "arm": specs[r].arm, "cause": failure.cause}
            place.failures[specs[r].key] = {**fields, "ended": failure.ended, "scored_at": failure.scored_at}
    return [
        Result(pd.DataFrame(curve, columns=COLUMNS["train"]), pd.DataFrame(measured, columns=DIAGNOSTICS))
        for curve, measured in zip(curves, diagnostics, strict=True)
    ]
