"""A job's state as one snapshot a run, and back: any runs that stand at one step make a job again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbpo import checkpoint
from mbpo.checkpoint import copy_into, of_run, own, same_keys
from mbpo.config import InputError, numerics_version
from mbpo.envs import sources
from mbpo.fitting import Split
from mbpo.state import Failure, Row, Run, TrainState

log = logging.getLogger(__name__)


def folders_of(place: Path | Sequence[Path] | None, runs: Sequence[Run]) -> list[Path]:
    """The folder of each run's snapshots, from what `train` is given. Raises `InputError` for too many or too few."""
    if place is None:
        return []
    if isinstance(place, Path):
        return [place / run.name for run in runs]
    if len(place) != len(runs):
        raise InputError(f"checkpoint: {len(place)} folders for {len(runs)} runs; give one a run")
    return list(place)


def save(state: TrainState, folders: Sequence[Path]) -> bool:
    """Snapshots of all runs; only when all are whole do the older ones go. A disk that is full stops no training."""
    try:
        made = [
            checkpoint.save(folder, state.env_steps, tree, state.buffers, r, keep_older=True)
            for r, (folder, tree) in enumerate(zip(folders, trees(state), strict=True))
        ]
        for snapshot in made:
            checkpoint.keep_only(snapshot)
    except (OSError, InputError) as error:
        log.warning("no snapshot at env step %d, training goes on: %s", state.env_steps, error)
        return False
    return bool(made)


def identity(state: TrainState, run: int) -> dict[str, Any]:
    """What a snapshot and the run that takes it over have in common; the budget may have grown.

    Of a user's own environment the digest of its source belongs to it.
    """
    source = sources.digest(state.envs.info.id)
    return {
        **({} if source is None else {"source of its environment": source}),
        "task": state.envs.info.id,
        "drop": list(state.envs.info.drop),
        "run": state.runs[run].entropy,
        "budget": {k: v for k, v in state.budget.model_dump().items() if k != "env_steps"},
        "device": state.engine.device.type,
        "precision": state.engine.precision,
        "numerics_version": numerics_version("train", state.method),
    }


def trees(state: TrainState) -> Iterator[dict[str, Any]]:
    """What each run needs, beside the rows of its buffers, to go on as if never interrupted."""
    env = [
        {k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in e.items()} for e in state.envs.state()
    ]
    live, streams, runs = state.live(), state.streams.states(), len(state.runs)
    split = None if state.split is None else {"train": state.split.train, "holdout": state.split.holdout}
    for r in range(runs):
        failure = state.failures.get(r)
        yield {
            "run": identity(state, r),
            "live": own(of_run(live, r, runs)),
            "added": {name: int(buffer.added[r]) for name, buffer in state.buffers.items()},
            "streams": streams[r],
            "env": env[r],
            "counters": {"env_steps": state.env_steps, "updates": state.updates},
            "episodes": int(state.episodes[r]),
            "diverged": bool(state.diverged[r]),
            "failure": None if failure is None else failure._asdict(),
            "info": own(of_run(state.info, r, runs)),
            "split": None if split is None else own(of_run(split, r, runs)),
            "rows": [_row_tree(row, r) for row in state.rows],
        }


def restore(state: TrainState, folders: Sequence[Path], step: int) -> None:
    """Take over the snapshots at `step` of the same runs, each from its own folder.

    Raises:
        InputError: a snapshot is of another run, or damaged.
    """
    saved = [checkpoint.load(folder, step) for folder in folders]
    parts = [part for part in saved if part is not None]
    assert len(parts) == len(state.runs), "every run has a snapshot at that step"
    runs, live = len(parts), state.live()
    for r, part in enumerate(parts):
        differ = [name for name, value in identity(state, r).items() if part["run"].get(name) != value]
        if differ or part["counters"]["env_steps"] > state.budget.env_steps:
            what = ", ".join(differ or ["budget"])
            raise InputError(f"the checkpoint in {folders[r]} is of another job: {what} differ; give it another folder")
        copy_into(of_run(live, r, runs), part["live"])
        checkpoint.load_rows(folders[r], step, state.buffers, r, part["added"])
        if part["failure"] is not None:
            state.failures[r] = Failure(**part["failure"])
    state.streams.restore([part["streams"] for part in parts])
    state.obs = state.envs.restore(
        [{k: v.numpy() if isinstance(v, Tensor) else v for k, v in part["env"].items()} for part in parts]
    )
    first, device = parts[0], state.engine.device
    state.env_steps, state.updates = first["counters"]["env_steps"], first["counters"]["updates"]
    state.episodes = np.asarray([part["episodes"] for part in parts], dtype=np.int64)
    state.diverged = np.asarray([part["diverged"] for part in parts], dtype=bool)
    names = same_keys(part["info"] for part in parts)
    state.info = {k: torch.cat([part["info"][k] for part in parts]).to(device) for k in names}
    if first["split"] is not None:
        sides = {k: torch.cat([part["split"][k] for part in parts]).to(device) for k in ("train", "holdout")}
        state.split = Split(**sides)
    rows = [_row(state, [part["rows"][i] for part in parts]) for i in range(len(first["rows"]))]
    # A shorter budget ended with an evaluation of its own, which is not on the grid of the longer one.
    every, end = state.budget.eval_every, state.budget.env_steps
    state.rows = [row for row in rows if row.env_steps % every == 0 or row.env_steps == end]


def _row(state: TrainState, trees: Sequence[dict[str, Any]]) -> Row:
    diagnostics = {
        k: np.array([tree["diagnostics"][k] for tree in trees])
        for k in same_keys(tree["diagnostics"] for tree in trees)
    }
    step = trees[0]["env_steps"]
    failures = {r: failure for r, failure in state.failures.items() if diagnostics["diverged"][r]}
    returns, lengths = (np.stack([tree[name].numpy() for tree in trees]) for name in ("returns", "lengths"))
    return Row(step, trees[0]["updates"], returns, lengths, diagnostics, failures)


def _row_tree(row: Row, run: int) -> dict[str, Any]:
    tensors = {name: torch.as_tensor(getattr(row, name)[run].copy()) for name in ("returns", "lengths")}
    diagnostics = {name: float(values[run]) for name, values in row.diagnostics.items()}
    return {"env_steps": row.env_steps, "updates": row.updates, **tensors, "diagnostics": diagnostics}
