"""The affine map between what the dynamics model regresses and what the buffers hold.

    y      = (target - carry * obs - shift) / scale        encode: what the ensemble sees
    target = carry * obs + shift + scale * y               decode: what the synthetic buffer stores

``target`` is ``(next_obs, reward)``; the reward is the last column and has carry 0. MBPO is carry 1,
shift 0, scale 1; FTFL is carry 0 with the running mean and standard deviation of each column (FTFL,
section 4: target unit normalization and direct next-state prediction). Every arm between them is a
choice of these three vectors, so arms train together. `fitted` takes for carry the regression slope
of next_obs on obs, of which the two are the extremes.

The map is fitted on the training split at each model fit and frozen with the weights until the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mbpo.config import Target
from mbpo.moments import mean_and_std, slope


@dataclass(frozen=True)
class TargetMap:
    """One affine map per run: carry, shift, scale, each ``(R, D)``."""

    carry: Tensor
    shift: Tensor
    scale: Tensor

    def copy_(self, other: TargetMap) -> None:
        """Overwrite this map with the numbers of `other`, in place."""
        for mine, new in zip(vars(self).values(), vars(other).values(), strict=True):
            mine.copy_(new)

    def base(self, obs: Tensor) -> Tensor:
        """``carry * obs + shift`` for ``obs (R, ..., O) -> (R, ..., D)``."""
        dims = (len(self.carry),) + (1,) * (obs.dim() - 2) + (-1,)
        padded = torch.nn.functional.pad(obs, (0, 1))
        return torch.addcmul(self.shift.view(dims), self.carry.view(dims), padded)

    def encode(self, obs: Tensor, target: Tensor) -> Tensor:
        """Raw ``target (R, ..., D)`` to target space."""
        return (target - self.base(obs)) / self._scale(target)

    def decode(self, obs: Tensor, y: Tensor) -> Tensor:
        """Target space to raw ``(R, ..., D)``: next_obs and, last, the reward."""
        return torch.addcmul(self.base(obs), self._scale(y), y)

    def _scale(self, like: Tensor) -> Tensor:
        return self.scale.view((len(self.scale),) + (1,) * (like.dim() - 2) + (-1,))


def identity(arms: Sequence[Target], obs_dim: int, device: torch.device, dtype: torch.dtype) -> TargetMap:
    """The map before any fit: carry as each arm has it (1 for fitted), shift 0, scale 1."""
    carry = torch.tensor([[float(t.predict != "next_obs")] * obs_dim + [0.0] for t in arms], device=device, dtype=dtype)
    return TargetMap(carry, torch.zeros_like(carry), torch.ones_like(carry))


def fit(arms: Sequence[Target], obs: Tensor, target: Tensor, keep: Tensor | None = None) -> TargetMap:
    """Fit each run's map to its rows.

    Args:
        arms: the target of each run, R of them.
        obs: ``(R, N, O)`` raw observations.
        target: ``(R, N, D)`` raw next_obs and, last, reward.
        keep: ``(R, N)`` bool, the training split; all rows if None.

    A column that does not vary (an all-zero reward, a constant sensor) keeps scale 1.
    """
    if keep is None:
        keep = torch.ones(obs.shape[:2], device=obs.device, dtype=torch.bool)
    carry = identity(arms, obs.shape[-1], obs.device, torch.float64).carry
    fitted = torch.tensor([arm.predict == "fitted" for arm in arms], device=obs.device)
    if fitted.any():
        carry = torch.where(fitted[:, None], slope(obs, target, keep), carry)

    def residual(rows: slice) -> Tensor:
        padded = torch.nn.functional.pad(obs[:, rows].double(), (0, 1))
        return target[:, rows].double() - carry[:, None] * padded

    mean, std = mean_and_std(residual, keep, target.dtype)
    normalized = torch.tensor([_normalized(arm, obs.shape[-1]) for arm in arms], device=obs.device)
    shift = torch.where(normalized, mean, torch.zeros_like(mean))
    scale = torch.where(normalized, std, torch.ones_like(std))
    return TargetMap(carry.to(obs.dtype), shift.to(obs.dtype), scale.to(obs.dtype))


def _normalized(arm: Target, obs_dim: int) -> list[bool]:
    """Which of the D target columns are normalized."""
    return [arm.normalize in ("obs", "both")] * obs_dim + [arm.normalize in ("reward", "both")]
