"""Policies of training runs, kept under the cache by default: ``cache/policies/<key>/final.safetensors`` and ``best``.

`final` is the policy after the last step. `best` is that of the evaluation whose window, it and the two evaluations
before it, has the highest mean return; it is chosen by the returns that would judge it, so it is for use, not for
claims. What is kept is no part of a record and enters no digest.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache as once
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from mbpo.config import InputError
from mbpo.kept import BEST, ENDING, FINAL

if TYPE_CHECKING:
    from mbpo.state import TrainState

FOLDER = "policies"
WINDOW = 3
"""Evaluations that `best` is chosen by."""
log = logging.getLogger(__name__)


def folder(root: Path, run: RunSpec) -> Path:
    """Where the policies of `run` lie under a cache or results folder."""
    return root / FOLDER / run.key


def has(root: Path, run: RunSpec) -> bool:
    """Whether the final policy of `run` is there."""
    return (folder(root, run) / f"{FINAL}{ENDING}").is_file()


def keeper(specs: Sequence[RunSpec], cache: Path) -> Callable[[TrainState], None]:
    """What `mbpo.train` calls at each evaluation to keep the policies of the runs `specs`.

    What cannot be written is told, and training goes on.
    """
    native, made = once(import_module("mbpo.envs.native").native_of), import_module("mbpo.policies").Policy
    warned: list[bool] = []

    def keep(state: TrainState) -> None:
        last = state.env_steps == state.budget.env_steps
        for r, spec in enumerate(specs):
            kept_in, mean = folder(cache, spec), window_mean(state, r)
            best = bool(state.updates) and mean > _best_so_far(kept_in / f"{BEST}{ENDING}")
            if not (last or best):
                continue
            try:
                policy = made.of(state, r, native(spec.task, spec.drop), spec.arm)
                policy.origin = replace(policy.origin, window_mean=mean)
                for name, wanted in ((BEST, best), (FINAL, last)):
                    if wanted:
                        policy.save(kept_in / f"{name}{ENDING}")
            except Exception as error:  # a by-product must not cost the training that it comes from
                if not warned:
                    log.warning("policies are not kept, training goes on: %s", error)
                warned.append(True)

    return keep


def window_mean(state: TrainState, run: int) -> float:
    """The mean return of the last `WINDOW` evaluations of a run that followed an update; NaN without any."""
    scored = [row.returns[run].mean() for row in state.rows if row.updates][-WINDOW:]
    return float(sum(scored) / len(scored)) if scored else float("nan")


def _best_so_far(path: Path) -> float:
    try:
        best_mean = import_module("mbpo.policies").origin_of(path).window_mean
    except InputError:  # none yet, or torn
        return float("-inf")
    return float("-inf") if best_mean is None else float(best_mean)


def publish(specs: Sequence[RunSpec], store: Store) -> tuple[list[Path], list[RunSpec]]:
    """Copy what the cache has kept of `specs` into the results folder: the files, and the runs that have none."""
    copied, lacking = [], []
    for spec in specs:
        source, target = folder(store.cache, spec), folder(store.results, spec)
        files = sorted(source.glob(f"*{ENDING}"))
        if not files and not has(store.results, spec):
            lacking.append(spec)
        for file in files:
            target.mkdir(parents=True, exist_ok=True)
            draft = target / f"{file.stem}.tmp"
            shutil.copyfile(file, draft)
            copied.append(draft.replace(target / file.name))
    return copied, lacking
