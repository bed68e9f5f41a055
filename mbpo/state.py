"""Everything that a lockstep job owns between two env steps: built once, saved and restored whole."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mbpo import dynamics, sac
from mbpo.buffer import Layout, Plain, ReplayBuffer
from mbpo.config import Budget, InputError, Method
from mbpo.dynamics import GaussianEnsemble
from mbpo.envs import EnvBatch
from mbpo.envs.pool import Pool, pool_workers
from mbpo.envs.rewards import reward_for
from mbpo.envs.simulators import workers_for
from mbpo.envs.tasks import OWN
from mbpo.envs.terminations import termination_for
from mbpo.fast.engine import Block, Engine
from mbpo.fitting import Split
from mbpo.rollouts import BranchNoise, branch, revised
from mbpo.sac import Sac
from mbpo.simulator_model import SimulatorModel, model_of
from mbpo.streams import Streams, stream_seed
from mbpo.uncertainty import screen_of

log = logging.getLogger(__name__)


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

    @property
    def name(self) -> str:
        """A folder's name: 16 hex digits of the entropy."""
        return hashlib.sha256(self.entropy.encode()).hexdigest()[:16]


class Failure(NamedTuple):
    """Why a run counts as lost, the env steps it had made, and the last evaluation before, if one followed an update.

    A run that `ended` trains no further: its later rows repeat the returns of that evaluation.
    """

    step: int
    cause: str
    ended: bool
    scored_at: int | None


@dataclass(frozen=True)
class Row:
    """One evaluation of all runs: returns and lengths ``(R, episodes)``, diagnostics ``(R,)`` each.

    `failures` are those of the runs that are lost by now.
    """

    env_steps: int
    updates: int
    returns: np.ndarray
    lengths: np.ndarray
    diagnostics: dict[str, np.ndarray] = field(default_factory=dict)
    failures: Mapping[int, Failure] = field(default_factory=dict)


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
        # States are read where they are lived, so those environments are stepped here: rollouts cost far more.
        self.envs = self._env_batch(task, len(runs), drop, here=method.simulated)
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
        self.simulator: SimulatorModel | None = None
        self.states: ReplayBuffer | None = None  # of the simulator before each real step, slot by slot with `real`
        if method.model is not None:
            if method.fits_model:
                self.dynamics = GaussianEnsemble(
                    method.model, [run.method.target for run in runs], self.layout, self.streams
                )
                fits = steps // method.model.fit_every
                model_step = engine.step(partial(dynamics.update, self.dynamics), fits * method.model.updates)
                self.model_block = engine.block(partial(dynamics.updates, model_step))
            if method.simulated:
                workers = pool_workers(torch.get_num_threads()) if env_workers is None else env_workers
                self.simulator = SimulatorModel(Pool(task, drop, workers))
                rows = Plain(self.simulator.pool.state_size)
                self.states = ReplayBuffer(len(runs), self.real.capacity, rows, torch.device("cpu"), torch.float64)
            # Nobody knows what an environment's own rule does; the named ones are made of tensor operations.
            eager = info.termination == OWN or method.simulated
            self.branch_block = Block(self._branch) if eager else engine.block(self._branch)
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
        self.failures: dict[int, Failure] = {}
        self.info: dict[str, Tensor] = {}
        self.rows: list[Row] = []
        self.obs = np.zeros((len(runs), info.obs_dim), dtype=np.float32)
        self._eval_envs: dict[int, EnvBatch] = {}
        self.reset(range(len(runs)))
        self.take_failures()

    def _buffer(self, capacity: int) -> ReplayBuffer:
        return ReplayBuffer(len(self.runs), capacity, self.layout, self.engine.device, self.engine.dtype)

    def _branch(self, start: Tensor, *noise: Tensor) -> dict[str, Tensor]:
        """`rows` and `valid` of `branch` under the current policy, from ``start (R, N, O)``."""
        learned, rollout = None, self.method.rollout
        if self.dynamics is not None:
            learned = revised(self.dynamics.sample, rollout, self.low, self.high, self.reward)
        model, terminated = model_of(rollout, learned, self.simulator, self.terminated, self.reward)
        rows, valid = branch(
            model,
            lambda obs, z: sac.act(self.sac, obs, z),
            terminated,
            start,
            BranchNoise(*noise),
            self.layout,
            screen_of(rollout, self.dynamics),
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

    def _env_batch(self, task: str, n: int, drop: Sequence[str], here: bool = False) -> EnvBatch:
        if here:
            return EnvBatch(task, n, drop, isolate=True, here=True)
        # Torch's threads are this process's share of the CPUs, and they wait while environments are stepped.
        workers = workers_for(n, torch.get_num_threads()) if self.env_workers is None else min(self.env_workers, n)
        return EnvBatch(task, n, drop, workers=workers, isolate=True)

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
        if self.simulator is not None:
            self.simulator.pool.close()

    def fail(self, run: int, cause: str, ended: bool = True) -> None:
        """Mark `run` as failed at this step, the first time; it `ended` if its environment cannot go on.

        Its companions are as if it had lived: it keeps its place in every batch, with an environment that gives zeros.
        """
        self.diverged[run] = True
        if run not in self.failures:
            scored = [row.env_steps for row in self.rows if row.updates]
            failure = Failure(self.env_steps, cause, ended, scored[-1] if scored else None)
            self.failures[run] = failure
            log.warning("seed %d failed at env step %d: %s", self.runs[run].seed, *failure[:2])

    @property
    def ended(self) -> list[int]:
        """The runs whose environments cannot go on."""
        return [run for run, failure in self.failures.items() if failure.ended]

    def take_failures(self) -> None:
        """Mark the runs whose training environment, or simulator in a rollout, has failed since the last look."""
        in_rollouts = self.simulator.failures if self.simulator is not None else {}
        for run, cause in (*self.envs.failed.items(), *in_rollouts.items()):
            self.fail(run, cause)
        self.check_any_score()

    def check_any_score(self) -> None:
        """Raise `InputError` once every run has ended before it had a score."""
        if len(self.ended) == len(self.runs) and all(f.scored_at is None for f in self.failures.values()):
            raise InputError(self.failures[0].cause)

    @property
    def buffers(self) -> dict[str, ReplayBuffer]:
        """The buffers by their names in a snapshot."""
        named = {"real": self.real, "synthetic": self.synthetic, "states": self.states}
        return {name: buffer for name, buffer in named.items() if buffer is not None}

    def live(self) -> dict[str, Any]:
        """The tensors that are written in place as training goes on."""
        live: dict[str, Any] = {"sac": self.sac.state()}
        if self.dynamics is not None:
            live["dynamics"] = self.dynamics.state()
            live["range"] = {"low": self.low, "high": self.high}
        return live
