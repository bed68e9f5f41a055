"""What a callback may see of a training job: a view that gives copies and numbers, and lets nothing be changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mbpo.config import Budget, InputError
from mbpo.envs import TaskInfo
from mbpo.models import Dynamics
from mbpo.policies import Policy
from mbpo.state import Row, Run, TrainState


class View:
    """A training job at one evaluation.

    Everything here is a copy or is frozen, so a callback can change no number of the training that it watches.
    """

    def __init__(self, state: TrainState) -> None:
        self._state = state

    @property
    def task(self) -> TaskInfo:
        """Id, sizes O and A, observation groups and termination rule of the task."""
        return self._state.envs.info

    @property
    def runs(self) -> tuple[Run, ...]:
        """The R runs, in the order of the first axis of all shapes."""
        return tuple(self._state.runs)

    @property
    def budget(self) -> Budget:
        """Length of training and cadence of evaluation."""
        return self._state.budget

    @property
    def env_steps(self) -> int:
        """Env steps that every run has made."""
        return self._state.env_steps

    @property
    def updates(self) -> int:
        """SAC updates that every run has made."""
        return self._state.updates

    @property
    def row(self) -> Row:
        """This evaluation: returns and lengths ``(R, episodes)``, diagnostics ``(R,)``."""
        return _copy(self._state.rows[-1])

    @property
    def rows(self) -> tuple[Row, ...]:
        """All evaluations so far, the untrained one first."""
        return tuple(_copy(row) for row in self._state.rows)

    def policy(self, run: int = 0) -> Policy:
        """A copy of a run's policy as it is now, to act with or to save."""
        return Policy.of(self._state, self._which(run))

    def dynamics(self, run: int = 0) -> Dynamics:
        """A copy of a run's dynamics model as it is now. Raises `InputError` for a method without one."""
        return Dynamics.of(self._state, self._which(run))

    def transitions(self, run: int = 0, last: int | None = None) -> dict[str, np.ndarray]:
        """Real transitions of a run, oldest first; the last N of them if `last` is given.

        ``obs (N, O), action (N, A) in [-1, 1], next_obs (N, O), reward (N,), terminated (N,)``.
        """
        state, layout = self._state, self._state.layout
        run = self._which(run)
        added = int(state.real.added[run])
        first = max(state.real.oldest(run), 0 if last is None else added - last)
        pieces = [piece.float().numpy() for piece in state.real.numbered(run, first)]
        rows = np.concatenate(pieces) if pieces else np.empty((0, layout.width), np.float32)
        o, a = layout.obs_dim, layout.action_dim
        return {
            "obs": rows[:, :o].copy(),
            "action": rows[:, o : o + a].copy(),
            "next_obs": rows[:, o + a : -2].copy(),
            "reward": rows[:, -2].copy(),
            "terminated": rows[:, -1] == 0.0,
        }

    def _which(self, run: int) -> int:
        if not 0 <= run < len(self._state.runs):
            raise InputError(f"run = {run}: this job has runs 0 to {len(self._state.runs) - 1}")
        return run


def _copy(row: Row) -> Row:
    diagnostics = {name: values.copy() for name, values in row.diagnostics.items()}
    return Row(row.env_steps, row.updates, row.returns.copy(), row.lengths.copy(), diagnostics, dict(row.failures))


def names(runs: Sequence[Run]) -> list[str]:
    """Short distinct names of runs for logs: the seed where that is enough, else its folder's name."""
    seeds = [f"seed-{run.seed}" for run in runs]
    return seeds if len(set(seeds)) == len(seeds) else [f"seed-{run.seed}-{run.name[:6]}" for run in runs]
