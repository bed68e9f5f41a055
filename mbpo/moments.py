"""Averages over rows in float64: means, standard deviations, regression slopes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_CHUNK = 65_536


def average(term: Callable[[slice], Tensor], keep: Tensor) -> Tensor:
    """Mean of ``term(rows) (R, rows, C)`` over the rows marked by `keep (R, N)`, in float64: ``(R, C)``."""
    count = keep.sum(1, dtype=torch.float64)[:, None]
    pieces = [slice(i, i + _CHUNK) for i in range(0, keep.shape[1], _CHUNK)]
    return torch.stack([(term(rows).double() * keep[:, rows, None]).sum(1) for rows in pieces]).sum(0) / count


def mean_and_std(column: Callable[[slice], Tensor], keep: Tensor, stored: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation ``(R, C)`` of the kept rows; a column that does not vary has std 1.

    Two passes in float64: a variance as a difference of squares would lose a small reward beside a
    large offset. A column varies if its std exceeds the resolution of the format `stored`.
    """
    resolution = max(8.0 * torch.finfo(stored).eps, 1e-12)
    mean = average(column, keep)
    std = average(lambda rows: (column(rows).double() - mean[:, None]).square(), keep).sqrt()
    return mean, torch.where(std > 1e-12 + resolution * mean.abs(), std, torch.ones_like(std))


def slope(obs: Tensor, target: Tensor, keep: Tensor) -> Tensor:
    """Regression slope ``(R, D)`` of ``target (R, N, D)`` on the same column of ``obs (R, N, O)``; 0 for the reward."""

    def padded(rows: slice) -> Tensor:
        return torch.nn.functional.pad(obs[:, rows].double(), (0, 1))

    obs_mean, target_mean = average(padded, keep)[:, None], average(lambda rows: target[:, rows], keep)[:, None]
    cov = average(lambda rows: (padded(rows) - obs_mean) * (target[:, rows] - target_mean), keep)
    var = average(lambda rows: (padded(rows) - obs_mean).square(), keep)
    varies = var > 1e-12 * (1 + obs_mean[:, 0].square())
    return torch.where(varies, cov / torch.where(varies, var, torch.ones_like(var)), torch.zeros_like(var))
