"""Branched rollouts (Janner et al. 2019, algorithm 2): short synthetic continuations of real states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbpo.buffer import Layout
from mbpo.rollout_config import RolloutConfig
from mbpo.streams import Streams

Model = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(obs (R, N, O), action (R, N, A), member (R, N), noise (R, N, D)) -> raw (next_obs, reward) (R, N, D)."""

Policy = Callable[[Tensor, Tensor], Tensor]
"""(obs (R, N, O), noise (R, N, A)) -> action (R, N, A)."""

Termination = Callable[[Tensor], Tensor]
"""next_obs (..., O) -> bool (...)."""

Reward = Callable[[Tensor, Tensor], Tensor]
"""A task's own reward: (action (..., A), next_obs (..., O)) -> (...)."""

Uncertainty = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(obs (R, N, O), action (R, N, A), member (R, N)) -> uncertainty (R, N) of the rows that the model makes of them."""


@dataclass(frozen=True)
class BranchNoise:
    """The random numbers of one call of `branch`: H steps of N rollouts in R runs."""

    action: Tensor  # (R, H, N, A) standard normal
    member: Tensor  # (R, H, N) uniform on [0, 1)
    model: Tensor  # (R, H, N, D) standard normal


def draw_noise(streams: Streams, length: int, n: int, layout: Layout) -> BranchNoise:
    """Noise for `length` steps of `n` rollouts, from the streams of rollouts alone."""
    return BranchNoise(
        action=streams.normal("rollout-action", length, n, layout.action_dim),
        member=streams.uniform("rollout-member", length, n),
        model=streams.normal("rollout-model", length, n, layout.obs_dim + 1),
    )


def revised(model: Model, config: RolloutConfig, low: Tensor, high: Tensor, reward: Reward | None) -> Model:
    """`model` with the options of `config`: without noise, clipped to the range of the data, with the task's reward.

    Args:
        model: the ensemble's or an oracle's transition.
        config: fields `noise`, `clip` and `reward`.
        low: ``(R, 1, D)`` minimum of real next_obs and reward.
        high: ``(R, 1, D)`` their maximum.
        reward: the task's own reward, if `config` asks for it.
    """

    def transition(obs: Tensor, action: Tensor, member: Tensor, noise: Tensor) -> Tensor:
        raw = model(obs, action, member, torch.zeros_like(noise) if config.noise == "none" else noise)
        if config.clip == "data-range":
            raw = torch.minimum(torch.maximum(raw, low), high)
        if reward is not None:
            raw = torch.cat([raw[..., :-1], reward(action, raw[..., :-1])[..., None]], dim=-1)
        return raw

    return transition


@dataclass(frozen=True)
class Screen:
    """What becomes of uncertain rows: see the fields of `RolloutConfig`."""

    config: RolloutConfig
    uncertainty: Uncertainty

    def limit(self, first: Tensor) -> Tensor | None:
        """Bound ``(R, 1)`` beyond which a rollout ends, from the first rows' uncertainty ``(R, N)``; None without one.

        The most certain of the first rows is never beyond it, so that every call stores a row.
        """
        if self.config.cut is None:
            return None
        bound = self.config.cut * first.quantile(self.config.cut_quantile, dim=1, keepdim=True)
        return torch.maximum(bound, first.amin(dim=1, keepdim=True))

    def stored(self, uncertainty: Tensor, alive: Tensor) -> Tensor:
        """Of the rows ``alive (R, N)`` the share `keep` of each run, rounded up, that is least uncertain."""
        if self.config.keep == 1.0:
            return alive
        order = torch.where(alive, uncertainty, torch.inf).argsort(dim=1, stable=True)
        rank = torch.empty_like(order).scatter_(
            1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
        )
        return alive & (rank < (self.config.keep * alive.sum(1, keepdim=True) - 1e-9).ceil())


@torch.no_grad()
def branch(
    model: Model,
    policy: Policy,
    terminated: Termination,
    start: Tensor,
    noise: BranchNoise,
    layout: Layout,
    screen: Screen | None = None,
) -> tuple[Tensor, Tensor]:
    """Roll the model out from real states under the stochastic policy.

    Args:
        model: one raw transition per row (`GaussianEnsemble.sample`, or an oracle).
        policy: the current stochastic policy.
        terminated: the task's termination function.
        start: ``(R, N, O)`` real states.
        noise: for H steps of N rollouts.
        layout: of the packed rows.
        screen: what becomes of uncertain rows; all are stored as they are without one.

    Returns:
        Packed rows ``(R, H * N, W)``, step by step, and ``valid (R, H * N)`` bool: false for the rows after the one
        that terminates a rollout, and for those that `screen` leaves out.
    """
    obs, alive = start, torch.ones(start.shape[:2], device=start.device, dtype=torch.bool)
    rows, valid = [], []
    limit: Tensor | None = None
    for h in range(noise.action.shape[1]):
        action = policy(obs, noise.action[:, h])
        raw = model(obs, action, noise.member[:, h], noise.model[:, h])
        next_obs, reward = raw[..., :-1], raw[..., -1]
        stored = alive
        if screen is not None:
            uncertainty = screen.uncertainty(obs, action, noise.member[:, h])
            reward = reward - screen.config.penalty * uncertainty
            limit = screen.limit(uncertainty) if h == 0 else limit
            if limit is not None:
                alive = alive & ~(uncertainty > limit)
            stored = screen.stored(uncertainty, alive)
        ended = terminated(next_obs)
        rows.append(layout.pack(obs, action, next_obs, reward, (~ended).to(obs.dtype)))
        valid.append(stored)
        alive = alive & ~ended
        obs = next_obs
    return torch.cat(rows, dim=1), torch.cat(valid, dim=1)
