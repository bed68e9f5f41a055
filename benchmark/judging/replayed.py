"""Whether the agents whose replays models were fitted on had learned anything by then.

A mechanism on the data of an agent that never learned is a mechanism on random data by another name.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from benchmark.judging.gate import not_learned
from benchmark.records.spec import Replay, RunSpec
from benchmark.records.store import RETURN, Record
from benchmark.suite.load import load_suite

WINDOW = 0.8
"""Evaluations from this share of the replay's steps on count."""


def final_return(record: Record, step: int) -> float:
    """The mean return of a training run over the last fifth of its first `step` env steps; NaN without evaluations."""
    steps = record.curve["env_steps"]
    rows = record.curve[(steps >= WINDOW * step) & (steps <= step)]
    return float(rows[RETURN].mean()) if len(rows) else math.nan


def unlearned(fits: Sequence[RunSpec], agents: Sequence[Record]) -> str:
    """Why no verdict is given on these fits of one task, as a clause; empty where their agents had learned.

    `agents` are the records of the runs whose replays they were made on. Fits on random data have none and pass.
    """
    sources = {spec.fit.source.step for spec in fits if spec.fit is not None and isinstance(spec.fit.source, Replay)}
    if not sources:
        return ""
    seeds = {spec.seed for spec in fits}
    lacking = sorted(seeds - {record.spec.seed for record in agents})
    if lacking:
        return (
            f"the returns of the agents whose replays these are have no record (seeds {', '.join(map(str, lacking))})"
        )
    step = max(sources)
    values = [final_return(record, step) for record in agents]
    if not all(map(math.isfinite, values)):
        return f"the agents whose replays these are were not evaluated before {step:,} steps"
    method, task = agents[0].spec.method, fits[0].task
    reason = not_learned(load_suite().task(task), values)
    if not reason:
        return ""
    return f"the {method} whose replays these are returns {statistics.fmean(values):.4g} by {step:,} steps: {reason}"
