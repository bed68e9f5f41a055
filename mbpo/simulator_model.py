"""The task's own simulator in the place of the dynamics model, or of the half of it that says next_obs or reward.

    next_obs, terminated   `rollout.dynamics`: the ensemble's and the termination rule's, or the simulator's
    reward                 `rollout.reward`:   the ensemble's, the task's rule of (action, next_obs), or the simulator's

A rollout starts at a state of the real buffer, whose simulator state is kept with it, and the simulator takes as many
steps from there as the rollout is long. With both halves the simulator's the model is perfect; with one it is a crossed
oracle.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from mbpo.config import RolloutConfig
from mbpo.envs.pool import Pool
from mbpo.rollouts import Model, Reward, Termination


class SimulatorModel:
    """Rollouts of the simulator: `begin` puts them at their states, every `step` is one of all of them."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.failures: dict[int, str] = {}
        """Runs in whose rollouts the simulator has failed, each with its cause."""

    def begin(self, states: Tensor, skip: Collection[int] = ()) -> None:
        """Put rollouts at ``states (R, N, S)``; those of the runs in `skip` are rows of zeros."""
        self._states = states.cpu().numpy().copy()
        self._live = np.ones(states.shape[:2], bool)
        self._live[list(skip)] = False
        self._ended = ~self._live

    def step(self, action: Tensor) -> Tensor:
        """One step of ``action (R, N, A)`` of every rollout that has not ended: raw ``(R, N, D)``, else zeros."""
        live = self._live
        runs, _ = np.nonzero(live)
        actions = np.nan_to_num(action.detach().cpu().numpy()[live].astype(np.float32))
        after = self.pool.step(self._states[live], actions)
        for row, why in after.failures.items():
            self.failures.setdefault(int(runs[row]), f"in a rollout of the simulator: {why}")
        raw = np.zeros((*live.shape, after.next_obs.shape[1] + 1), np.float64)
        raw[live] = np.concatenate([after.next_obs, after.reward[:, None]], axis=1)
        self._states[live] = after.states
        self._ended = ~live
        self._ended[live] = after.terminated
        self._live = live & ~self._ended
        return torch.as_tensor(raw).to(action)

    def terminated(self, next_obs: Tensor) -> Tensor:
        """Whether the last step ended each rollout: ``(R, N)``."""
        return torch.as_tensor(self._ended, device=next_obs.device)


def model_of(
    config: RolloutConfig,
    learned: Model | None,
    simulator: SimulatorModel | None,
    rule: Termination,
    reward: Reward | None = None,
) -> tuple[Model, Termination]:
    """What `branch` rolls out, and when that ends: the ensemble's, the simulator's, or one half of each.

    Args:
        config: fields `dynamics` and `reward`.
        learned: the ensemble's transition, with its options; needed where either half is its own.
        simulator: needed where either half is the simulator's.
        rule: the task's termination rule.
        reward: the task's own reward, if `config` asks for it; `learned` has it already.
    """
    if simulator is None:
        assert learned is not None
        return learned, rule

    def transition(obs: Tensor, action: Tensor, member: Tensor, noise: Tensor) -> Tensor:
        stepped = simulator.step(action)
        if learned is None and reward is None:
            return stepped
        if learned is None:
            assert reward is not None
            return torch.cat([stepped[..., :-1], reward(action, stepped[..., :-1])[..., None]], dim=-1)
        raw = learned(obs, action, member, noise)
        if config.dynamics == "simulator":
            return torch.cat([stepped[..., :-1], raw[..., -1:]], dim=-1)
        return torch.cat([raw[..., :-1], stepped[..., -1:]], dim=-1)

    return transition, simulator.terminated if config.dynamics == "simulator" else rule
