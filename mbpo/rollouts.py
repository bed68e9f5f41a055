"""Branched rollouts (Janner et al. 2019, algorithm 2): short synthetic continuations of real states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mbpo.buffer import Layout
from mbpo.streams import Streams

Model = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(obs (R, N, O), action (R, N, A), member (R, N), noise (R, N, D)) -> raw (next_obs, reward) (R, N, D)."""

Policy = Callable[[Tensor, Tensor], Tensor]
"""(obs (R, N, O), noise (R, N, A)) -> action (R, N, A)."""

Termination = Callable[[Tensor], Tensor]
"""next_obs (..., O) -> bool (...)."""


@dataclass(frozen=True)
class BranchNoise:
    """All randomness of one call of `branch`: H steps of N rollouts in R runs."""

    action: Tensor  # (R, H, N, A) standard normal
    member: Tensor  # (R, H, N) uniform on [0, 1)
    model: Tensor  # (R, H, N, D) standard normal


def draw_noise(streams: Streams, length: int, n: int, layout: Layout) -> BranchNoise:
    """The noise of one branching, from the streams of rollouts alone."""
    return BranchNoise(
        action=streams.normal("rollout-action", length, n, layout.action_dim),
        member=streams.uniform("rollout-member", length, n),
        model=streams.normal("rollout-model", length, n, layout.obs_dim + 1),
    )


@torch.no_grad()
def branch(
    model: Model, policy: Policy, terminated: Termination, start: Tensor, noise: BranchNoise, layout: Layout
) -> tuple[Tensor, Tensor]:
    """Roll the model out from real states under the stochastic policy.

    Args:
        model: one raw transition a row (`GaussianEnsemble.sample`, or an oracle).
        policy: the current stochastic policy.
        terminated: the task's termination function.
        start: ``(R, N, O)`` real states.
        noise: for H steps.
        layout: of the packed rows.

    Returns:
        Packed rows ``(R, H * N, W)``, step by step, and ``valid (R, H * N)``: a rollout's last valid
        row is the one that terminates it.
    """
    obs, alive = start, torch.ones(start.shape[:2], device=start.device, dtype=torch.bool)
    rows, valid = [], []
    for h in range(noise.action.shape[1]):
        action = policy(obs, noise.action[:, h])
        raw = model(obs, action, noise.member[:, h], noise.model[:, h])
        next_obs, reward = raw[..., :-1], raw[..., -1]
        ended = terminated(next_obs)
        rows.append(layout.pack(obs, action, next_obs, reward, (~ended).to(obs.dtype)))
        valid.append(alive)
        alive = alive & ~ended
        obs = next_obs
    return torch.cat(rows, dim=1), torch.cat(valid, dim=1)
