"""Everything that a lockstep job owns between two env steps: built once, saved and restored whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbpo import dynamics, sac
from mbpo.buffer import Layout, ReplayBuffer
from mbpo.checkpoint import copy_into
from mbpo.config import Budget, InputError, Method, numerics_version
from mbpo.dynamics import GaussianEnsemble
from mbpo.envs import EnvBatch
from mbpo.envs.rewards import reward_for
from mbpo.envs.simulators import workers_for
from mbpo.envs.tasks import OWN
from mbpo.envs.terminations import termination_for
from mbpo.fast.engine import Block, Engine
from mbpo.fitting import Split
from mbpo.rollouts import BranchNoise, branch, revised
from mbpo.sac import Sac
from mbpo.streams import Streams, stream_seed


class Run(NamedTuple):
    """One run: what to train and its seed."""

    method: Method
    seed: int

    @property
    def entropy(self) -> str:
        """Root of all of this run's randomness: its seed and its constants, not its companions.

        Constants at their defaults are left out, so a field added later moves no stored number.
        """
        constants = self.method.model_dump_json(exclude_defaults=True)
        return f"{self.seed}/{hashlib.sha256(constants.encode()).hexdigest()}"


@dataclass(frozen=True)
class Row:
    """One evaluation of all runs: returns and lengths ``(R, episodes)``, diagnostics ``(R,)`` each."""

    env_steps: int
    updates: int
    returns: np.ndarray
    lengths: np.ndarray
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict)


def check_runs(runs: Sequence[Run]) -> Method:
    """The method that all runs share.

    Raises:
        InputError: no runs, a negative seed, a run given twice, or constants other than the target
            that differ between runs.
    """
    if not runs:
        raise InputError("runs is empty: give at least one Run(method, seed)")
    shared = runs[0].method.shared()
    for i, run in enumerate(runs):
        if run.seed < 0:
            raise InputError(f"runs[{i}].seed = {run.seed}: seeds must not be negative")
        if run in runs[:i]:
            raise InputError(
                f"runs[{i}] repeats runs[{runs.index(run)}]: one lockstep job holds each (method, seed) once"
            )
        if run.method.shared() != shared:
            mine, first = run.method.model_dump(), runs[0].method.model_dump()
            differ = ", ".join(sorted(k for k in mine if k != "target" and mine[k] != first[k]))
            raise InputError(
                f"runs[{i}] differs from runs[0] in {differ}: only target and seed may differ in one call; "
                "train them in two calls"
            )
    return shared


class TrainState:
    """The learners, buffers, environments and counters of R runs in lockstep."""

    def __init__(
        self,
        task: str,
        runs: Sequence[Run],
        budget: Budget,
        engine: Engine,
        drop: Sequence[str] = (),
        env_workers: int | None = None,
    ) -> None:
        self.runs, self.budget, self.engine = list(runs), budget, engine
        self.method = method = check_runs(runs)
        if env_workers is not None and env_workers < 1:
            raise InputError(f"env_workers = {env_workers}: at least 1 process steps the environments")
        self.env_workers = env_workers
        self.envs = self._env_batch(task, len(runs), drop)
        info = self.envs.info
        self.layout = Layout(info.obs_dim, info.action_dim)
        self.terminated = termination_for(info)
        self.streams = Streams([run.entropy for run in runs], engine.device, engine.dtype)
        self.sac = Sac(method.sac, self.layout, self.streams)
        steps = max(budget.env_steps - method.random_steps, 0)
        sac_step = engine.step(partial(sac.update, self.sac), steps * method.utd)
        self.sac_block = engine.block(partial(sac.updates, sac_step))
        self.real = self._buffer(min(method.real_capacity, budget.env_steps))
        self.dynamics: GaussianEnsemble | None = None
        self.synthetic: ReplayBuffer | None = None
        if method.model is not None:
            self.dynamics = GaussianEnsemble(
                method.model, [run.method.target for run in runs], self.layout, self.streams
            )
            fits = steps // method.model.fit_every
            model_step = engine.step(partial(dynamics.update, self.dynamics), fits * method.model.updates)
            self.model_block = engine.block(partial(dynamics.updates, model_step))
            # Nobody knows what an environment's own rule does; the named ones are made of tensor operations.
            self.branch_block = Block(self._branch) if info.termination == OWN else engine.block(self._branch)
            rollout = method.rollout
            self.reward = reward_for(info) if rollout.reward == "oracle" else None
            self.low = torch.full(
                (len(runs), 1, info.obs_dim + 1), -torch.inf, device=engine.device, dtype=engine.dtype
            )
            self.high = -self.low
            kept = min(rollout.retain, max(budget.env_steps - method.random_steps, 0) + rollout.every)
            self.synthetic = self._buffer(rollout.per_step * rollout.max_length * kept)
        self.split: Split | None = None
        self.env_steps = self.updates = 0
        self.episodes = np.zeros(len(runs), dtype=np.int64)
        self.diverged = np.zeros(len(runs), dtype=bool)
        self.info: dict[str, Tensor] = {}
        self.rows: list[Row] = []
        self.obs = np.zeros((len(runs), info.obs_dim), dtype=np.float32)
        self._eval_envs: dict[int, EnvBatch] = {}
        self.reset(range(len(runs)))

    def _buffer(self, capacity: int) -> ReplayBuffer:
        return ReplayBuffer(len(self.runs), capacity, self.layout, self.engine.device, self.engine.dtype)

    def _branch(self, start: Tensor, *noise: Tensor) -> dict[str, Tensor]:
        """`rows` and `valid` of `branch` under the current policy, from ``start (R, N, O)``."""
        assert self.dynamics is not None
        rows, valid = branch(
            revised(self.dynamics.sample, self.method.rollout, self.low, self.high, self.reward),
            lambda obs, z: sac.act(self.sac, obs, z),
            self.terminated,
            start,
            BranchNoise(*noise),
            self.layout,
        )
        return {"rows": rows, "valid": valid}

    def reset(self, which: Sequence[int]) -> None:
        """Start a new episode in the environments `which`, each from its own run's next seed."""
        seeds = [self.env_seed(r, f"env/{self.episodes[r]}") for r in which]
        self.episodes[list(which)] += 1
        self.obs[list(which)] = self.envs.reset(seeds, list(which))

    def env_seed(self, run: int, name: str) -> int:
        """A 31-bit environment seed from the run's entropy and a name."""
        return stream_seed(self.runs[run].entropy, name) % 2**31

    def eval_envs(self, episodes: int) -> EnvBatch:
        """Environments for `episodes` episodes of every run, kept for the next evaluation."""
        if episodes not in self._eval_envs:
            info = self.envs.info
            self._eval_envs[episodes] = self._env_batch(info.id, len(self.runs) * episodes, info.drop)
        return self._eval_envs[episodes]

    def _env_batch(self, task: str, n: int, drop: Sequence[str]) -> EnvBatch:
        # Torch's threads are this process's share of the CPUs, and they wait while environments are stepped.
        workers = workers_for(n, torch.get_num_threads()) if self.env_workers is None else min(self.env_workers, n)
        return EnvBatch(task, n, drop, workers=workers)

    def fit_range(self, rows: Tensor) -> None:
        """Take least and largest next_obs and reward of packed ``rows (R, N, W)``, in place."""
        seen = self.layout.targets(rows)
        self.low.copy_(seen.amin(1, keepdim=True))
        self.high.copy_(seen.amax(1, keepdim=True))

    def tensor(self, values: np.ndarray) -> Tensor:
        """`values` on the training device, in the engine's dtype."""
        return torch.as_tensor(values, device=self.engine.device, dtype=self.engine.dtype)

    def close(self) -> None:
        """Close all environments."""
        for batch in (self.envs, *self._eval_envs.values()):
            batch.close()

    def _live(self) -> dict[str, Any]:
        live: dict[str, Any] = {"sac": self.sac.state()}
        if self.dynamics is not None:
            live["dynamics"] = self.dynamics.state()
            live["range"] = {"low": self.low, "high": self.high}
        return live

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint and the job that takes it over have in common."""
        return {
            "task": self.envs.info.id,
            "drop": list(self.envs.info.drop),
            "runs": [run.entropy for run in self.runs],
            "budget": self.budget.model_dump(),
            "device": self.engine.device.type,
            "precision": self.engine.precision,
            "numerics_version": numerics_version("train", self.method),
        }

    def state(self) -> dict[str, Any]:
        """All that a resumed job needs to go on as if never interrupted."""
        env = [
            {k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in e.items()} for e in self.envs.state()
        ]
        return {
            "job": self.identity,
            "live": self._live(),
            "real": self.real.state(),
            "synthetic": None if self.synthetic is None else self.synthetic.state(),
            "streams": self.streams.state(),
            "env": env,
            "counters": {"env_steps": self.env_steps, "updates": self.updates},
            "episodes": self.episodes.tolist(),
            "diverged": self.diverged.tolist(),
            "info": dict(self.info),
            "split": None if self.split is None else {"train": self.split.train, "holdout": self.split.holdout},
            "rows": [_row_tree(row) for row in self.rows],
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Take over a state saved by the same job.

        Raises:
            InputError: it was saved by another one.
        """
        differ = [name for name, value in self.identity.items() if saved["job"][name] != value]
        if differ:
            raise InputError(
                f"the checkpoint is of another job: {', '.join(differ)} differ; give this one its own folder"
            )
        copy_into(self._live(), saved["live"])
        self.real.restore(saved["real"])
        if self.synthetic is not None:
            self.synthetic.restore(saved["synthetic"])
        self.streams.restore(saved["streams"])
        self.obs = self.envs.restore(
            [{k: v.numpy() if isinstance(v, Tensor) else v for k, v in e.items()} for e in saved["env"]]
        )
        self.env_steps, self.updates = saved["counters"]["env_steps"], saved["counters"]["updates"]
        self.episodes = np.asarray(saved["episodes"], dtype=np.int64)
        self.diverged = np.asarray(saved["diverged"], dtype=bool)
        device = self.engine.device
        self.info = {k: v.to(device) for k, v in saved["info"].items()}
        self.split = None if saved["split"] is None else Split(**{k: v.to(device) for k, v in saved["split"].items()})
        self.rows = [_row_from(tree) for tree in saved["rows"]]


def _row_tree(row: Row) -> dict[str, Any]:
    arrays = {"returns": row.returns, "lengths": row.lengths}
    tensors = {k: torch.as_tensor(v) for k, v in arrays.items()}
    diagnostics = {k: torch.as_tensor(v) for k, v in row.diagnostics.items()}
    return {"env_steps": row.env_steps, "updates": row.updates, **tensors, "diagnostics": diagnostics}


def _row_from(tree: dict[str, Any]) -> Row:
    diagnostics = {k: v.numpy() for k, v in tree["diagnostics"].items()}
    return Row(tree["env_steps"], tree["updates"], tree["returns"].numpy(), tree["lengths"].numpy(), diagnostics)
