"""Transitions to diagnose a task by, and what had to be left out of them to measure at all.

Unlike training, which refuses the first number that is not finite, this looks into a task that may be at fault: broken
dimensions and rows are left out and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmark.records.spec import RunSpec
from benchmark.running import replays
from benchmark.running.fit import random_transitions
from mbpo.buffer import Layout
from mbpo.config import InputError
from mbpo.envs import TaskInfo, agreement, known_tasks, promises, task_info
from mbpo.envs.tasks import group_of
from mbpo.envs.terminations import termination_for

LEAST_STEPS = 300
"""Fewer steps give no holdout worth the name: a third of them is held out."""
BROKEN = 0.01
"""Share of transitions above which an observation that is not finite is left out, rather than the transitions."""


@dataclass(frozen=True)
class Sample:
    """Finite transitions of S seeds, training and held-out episodes apart."""

    info: TaskInfo
    columns: tuple[int, ...]  # the observations kept, O of them, by their index in the task's own
    train: np.ndarray  # (S, N, W) float32
    held: np.ndarray  # (S, M, W)
    varies: np.ndarray  # (O + 1,) bool: observations and, last, the reward vary in every part of every seed
    left_out: tuple[str, ...]  # what was taken out, a sentence each
    notes: tuple[str, ...]  # what else a reader must know
    policy: str = "random"  # who collected

    @property
    def layout(self) -> Layout:
        """Of the rows, without the observations left out."""
        return Layout(len(self.columns), self.info.action_dim)

    @property
    def names(self) -> list[str]:
        """One a kept observation, e.g. 'velocity[3]'."""
        return [group_of(self.info.groups, column) for column in self.columns]

    @property
    def groups(self) -> dict[str, list[int]]:
        """Group -> its kept observations, by their index in the rows."""
        dims: dict[str, list[int]] = {}
        for dim, name in enumerate(self.names):
            dims.setdefault(name.rpartition("[")[0], []).append(dim)
        return dims


def collect(task: str, drop: Sequence[str], steps: int, seeds: int, cache: Path | None = None) -> Sample:
    """`steps` transitions a seed of a uniformly random policy, a third of them held out.

    Only tasks of the suite are kept in `cache`: a user's own may change under the same id. Raises `InputError` for too
    few steps, for what no environment can be made of, and if too little is finite.
    """
    _check_steps(steps)
    info = task_info(task, drop)
    kept = cache if task in known_tasks() else None
    held = steps // 3
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit float32 is named below
        train_rows, held_rows = (
            np.stack([random_transitions(task, drop, seed, n, purpose, kept, finite=False) for seed in range(seeds)])
            for n, purpose in ((steps - held, "train"), (held, "heldout"))
        )
    sample = clean(info, train_rows, held_rows)
    broken = broken_promises(info, np.concatenate([train_rows, held_rows], axis=1))
    return replace(sample, notes=(*broken, *sample.notes))


def broken_promises(info: TaskInfo, rows: np.ndarray) -> list[str]:
    """What training would refuse or tell of the environment: from short trials, and from packed rows ``(S, N, W)``.

    The diagnosis goes on: transitions can be measured one by one even where an episode cannot be repeated.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # as in `collect`
        findings = promises.examine(info.id, info.drop, finite=False)
    notes = [f"Training refuses this: {line}" for line in (*findings.wrong, *findings.unrepeatable)]
    notes += findings.notes
    if info.termination != "never":
        layout, packed = Layout(info.obs_dim, info.action_dim), torch.as_tensor(rows)
        compared = agreement.compare(termination_for(info), layout.next_obs(packed), layout.mask(packed) == 0)
        if sentence := compared.sentence(info):
            notes.append(f"Training refuses this: {sentence}")
    return notes


def lived(runs: Sequence[RunSpec], steps: int | None, cache: Path, usual: int = LEAST_STEPS) -> Sample:
    """`steps` transitions of the kept replay of each of `runs`, evenly from all of its life, a third of them held out.

    The runs are of one task and differ in their seeds. With `steps` None, `usual` or as many as their episodes give.
    Raises `InputError` for too few steps and for more than there are, with a number that works.
    """
    first = runs[0]
    if steps is not None:
        _check_steps(steps)
    info = task_info(first.task, first.drop)
    layout = Layout(info.obs_dim, info.action_dim)
    assert first.budget is not None
    most = _most(runs, min(max(steps or usual, LEAST_STEPS), first.budget.env_steps), layout, cache)
    if most < LEAST_STEPS:
        raise InputError(
            f"{first.label} lived {first.budget.env_steps} steps, of which no {LEAST_STEPS} can be used with a third "
            "of them held out in whole episodes; diagnose a longer run"
        )
    if steps is not None and steps > most:
        raise InputError(
            f"--steps {steps}: of {first.label}, which lived {first.budget.env_steps} steps, {LEAST_STEPS} to {most} "
            f"can be used with a third of them held out in whole episodes; give --steps {max(LEAST_STEPS, most)}"
        )
    length = steps or most
    parts = [replays.split(cache, run, run.length, layout, length - length // 3, length // 3) for run in runs]
    sample = clean(info, *(np.stack([part[i] for part in parts]) for i in (0, 1)))
    return replace(sample, policy=f"{first.method} replay of {first.budget.env_steps:,} steps")


def check_length(run: RunSpec) -> None:
    """Raise `InputError` for a run too short to be diagnosed by, whatever its episodes are."""
    if run.length < LEAST_STEPS:
        raise InputError(
            f"{run.label} lived {run.length} steps, too few to hold a third out and judge by it; diagnose one of "
            f"at least {LEAST_STEPS}"
        )


def _most(runs: Sequence[RunSpec], steps: int, layout: Layout, cache: Path) -> int:
    """The most transitions up to `steps` that every run's episodes give; less than `LEAST_STEPS` where none does."""
    for run in runs:
        while steps >= LEAST_STEPS:
            try:
                replays.split(cache, run, run.length, layout, steps - steps // 3, steps // 3)
                break
            except InputError as error:
                if "give" not in str(error):
                    raise  # a damaged replay
                steps = steps * 19 // 20
    return steps


def _check_steps(steps: int) -> None:
    if steps < LEAST_STEPS:
        raise InputError(f"--steps {steps}: too few to hold a third out and judge by it; give at least {LEAST_STEPS}")


def clean(info: TaskInfo, train: np.ndarray, held: np.ndarray) -> Sample:
    """Leave out what is not finite, and say what does not vary, from packed rows ``(S, N, W)`` and ``(S, M, W)``."""
    layout = Layout(info.obs_dim, info.action_dim)
    left_out: list[str] = []
    every = np.concatenate([train, held], axis=1).reshape(-1, layout.width)
    columns = _finite_columns(info, layout, every, left_out)
    if len(columns) < info.obs_dim:
        start = layout.obs_dim + layout.action_dim
        wanted = [*columns, *range(layout.obs_dim, start), *(start + c for c in columns), -2, -1]
        train, held = train[..., wanted], held[..., wanted]
    shares = 1 - np.isfinite(np.concatenate([train, held], axis=1)).all(-1).mean()
    if shares > 0:
        reward = float((~np.isfinite(every[:, -2])).mean())
        what = f"the reward is not finite in {reward:.1%}" if reward else "an observation is not finite"
        left_out.append(f"{shares:.1%} of the transitions ({what})")
        train, held = (_finite_rows(info, rows, what) for rows in (train, held))
    varies = _varies(train, len(columns), info) & _varies(held, len(columns), info)
    sample = Sample(info, columns, train, held, varies, (), ())
    return replace(sample, left_out=(*left_out, *_constant(sample)), notes=tuple(_notes(sample)))


def _finite_columns(info: TaskInfo, layout: Layout, rows: np.ndarray, left_out: list[str]) -> tuple[int, ...]:
    start = layout.obs_dim + layout.action_dim
    bad = ~np.isfinite(rows[:, : layout.obs_dim]) | ~np.isfinite(rows[:, start : start + layout.obs_dim])
    shares = bad.mean(0)
    broken = np.flatnonzero(shares > BROKEN)
    if len(broken) == layout.obs_dim:
        raise InputError(
            f"task {info.id!r}: no observation is finite often enough to measure; {group_of(info.groups, 0)} "
            f"is NaN or infinite in {shares[0]:.0%} of the transitions"
        )
    for dim in map(int, broken):
        left_out.append(f"{group_of(info.groups, dim)}: NaN or infinite in {shares[dim]:.0%} of the transitions")
    return tuple(int(dim) for dim in np.flatnonzero(shares <= BROKEN))


def _finite_rows(info: TaskInfo, rows: np.ndarray, what: str) -> np.ndarray:
    """The finite rows of each seed, cut to the shortest."""
    good = np.isfinite(rows).all(-1)
    least = int(good.sum(1).min())
    if least < LEAST_STEPS // 3:
        raise InputError(
            f"task {info.id!r}: only {least} of {rows.shape[1]} transitions can be measured ({what}); "
            "mend the environment or give more --steps"
        )
    return np.stack([seed[fine][:least] for seed, fine in zip(rows, good, strict=True)])


def _varies(rows: np.ndarray, obs_dim: int, info: TaskInfo) -> np.ndarray:
    """Which of the targets vary in every seed ``(D,)``."""
    target = rows[..., obs_dim + info.action_dim : -1]
    return np.asarray((target.max(1) > target.min(1)).all(0))


def _constant(sample: Sample) -> list[str]:
    fixed = [name for name, varies in zip(sample.names, sample.varies[:-1], strict=True) if not varies]
    if not fixed:
        return []
    some = ", ".join(fixed[:6]) + (f" and {len(fixed) - 6} more" if len(fixed) > 6 else "")
    return [f"constant, so the models see them but nothing is judged by them: {some}"]


def _notes(sample: Sample) -> list[str]:
    notes = []
    rows = np.concatenate([sample.train, sample.held], axis=1)
    reward = rows[..., -2]
    if not sample.varies[-1]:
        every = f"is {reward.flat[0]:g} in every transition" if reward.min() == reward.max() else "is all but constant"
        notes.append(f"The reward {every}: what concerns it cannot be judged, and no learner could start from it.")
    ended = float((rows[..., -1] == 0).mean())
    if ended > 0 and sample.info.termination == "never":
        notes.append(
            f"Episodes terminate ({ended:.2%} of the steps), but the task has no termination rule: synthetic rollouts "
            "would run on where real ones end. Give the environment a method `termination(next_obs)`, a torch function "
            "from (..., O) to bool (...)."
        )
    return notes
