"""Measures of the model: what it gets wrong, and in which units.

Everything is measured on rows that the fit held out. Predictions are those of the elites, one by one
(a synthetic transition comes from a single elite), so a mean over predictions is a mean over elites
and rows. A *target* figure is in the space that the model regresses; a *raw* one is in units of the
environment. Figures of two target maps are comparable in raw units alone: dividing by a larger scale
lowers a log-variance for free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mbpo.buffer import Layout
from mbpo.dynamics import GaussianEnsemble
from mbpo.moments import slope

REWARD_BINS = 10


@dataclass(frozen=True)
class Prediction:
    """Held-out predictions of the elites, ``n`` of them, against the truth."""

    mean: Tensor  # (R, n, B, D) raw
    logvar: Tensor  # (R, n, B, D) target space
    log_scale: Tensor  # (R, 1, 1, D)
    lower: Tensor  # (R, 1, 1, D) log-variance bounds
    upper: Tensor
    obs: Tensor  # (R, 1, B, O)
    truth: Tensor  # (R, 1, B, D) raw next_obs and, last, reward

    @property
    def error(self) -> Tensor:
        """Raw prediction less truth: ``(R, n, B, D)``."""
        return self.mean - self.truth

    @property
    def logvar_raw(self) -> Tensor:
        """Log-variance in units of the environment: ``(R, n, B, D)``."""
        return self.logvar + 2.0 * self.log_scale

    @property
    def at_floor(self) -> Tensor:
        """1 where the raw output lies beyond the lower soft bound, else 0: ``(R, n, B, D)``."""
        return (self.logvar < self.lower + math.log(2.0)).float()

    @property
    def at_ceiling(self) -> Tensor:
        """1 where the raw output lies beyond the upper soft bound, else 0: ``(R, n, B, D)``."""
        return (self.logvar > self.upper - math.log(2.0)).float()


@torch.no_grad()
def predict(ensemble: GaussianEnsemble, rows: Tensor) -> Prediction:
    """Elite predictions on packed ``rows (R, B, W)``."""
    layout = ensemble.layout
    mean, logvar = ensemble(layout.inputs(rows))
    elites = ensemble.elites[:, :, None, None].expand(-1, -1, *mean.shape[-2:])
    obs = layout.obs(rows)[:, None]
    decoded = ensemble.map.decode(obs.expand(-1, elites.shape[1], -1, -1), mean.gather(1, elites))
    return Prediction(
        mean=decoded,
        logvar=logvar.gather(1, elites),
        log_scale=ensemble.map.scale.log()[:, None, None],
        lower=ensemble.min_logvar.detach(),
        upper=ensemble.max_logvar.detach(),
        obs=obs,
        truth=layout.targets(rows)[:, None],
    )


def reward_collapse(p: Prediction) -> dict[str, Tensor]:
    """How the predicted reward relates to the true one (FTFL, section 4.2), ``(R,)`` each.

    * ``reward_r2``: 1 - mean squared error / variance of the true reward; 0 is a constant guess.
    * ``reward_slope``: regression slope of predicted on true.
    * ``reward_pred_mean``, ``reward_true_mean``, ``reward_pred_std``, ``reward_true_std``.
    * ``reward_noise_std``: root mean predicted variance, raw.
    * ``reward_std_ratio``: std of what enters the synthetic buffer (mean and noise) over the true std.
      A mean alone can look right while this is 20.

    A reward that does not vary has no R2, slope or ratio: those are NaN.
    """
    true, predicted = p.truth[..., -1].double(), p.mean[..., -1].double()
    center = true.mean((1, 2), keepdim=True)
    var = (true - center).square().mean((1, 2))
    var = torch.where(_varies(true[:, 0]), var, torch.full_like(var, math.nan))
    pred_mean = predicted.mean((1, 2))
    pred_var = (predicted - pred_mean[:, None, None]).square().mean((1, 2))
    noise_var = p.logvar_raw[..., -1].double().exp().mean((1, 2))
    return {
        "reward_r2": 1.0 - (predicted - true).square().mean((1, 2)) / var,
        "reward_slope": ((predicted - pred_mean[:, None, None]) * (true - center)).mean((1, 2)) / var,
        "reward_pred_mean": pred_mean,
        "reward_true_mean": center[:, 0, 0],
        "reward_pred_std": pred_var.sqrt(),
        "reward_true_std": var.nan_to_num(0.0).sqrt(),
        "reward_noise_std": noise_var.sqrt(),
        "reward_std_ratio": ((pred_var + noise_var) / var).sqrt(),
    }


def _varies(values: Tensor) -> Tensor:
    """Whether ``values (R, B, ...)`` are not all the same: exact, where a variance may come out at 1e-34."""
    return values.amax(1) > values.amin(1)


def reward_bins(p: Prediction) -> dict[str, Tensor]:
    """Mean true and mean predicted reward in equal-count bins of the true reward: ``(R, bins)`` each."""
    true, predicted = p.truth[:, 0, :, -1], p.mean[..., -1].mean(1)
    order = true.argsort(dim=1, stable=True)
    pieces = [c for c in order.tensor_split(REWARD_BINS, dim=1) if c.shape[1]]
    return {
        "reward_true_bin": torch.stack([true.gather(1, c).mean(1) for c in pieces], 1),
        "reward_pred_bin": torch.stack([predicted.gather(1, c).mean(1) for c in pieces], 1),
    }


def variance(p: Prediction) -> dict[str, Tensor]:
    """Predicted variance in both units, bounds and calibration (FTFL, section 4.3), ``(R,)`` each.

    * ``logvar_target``: mean log-variance over rows and dimensions as the model puts it out.
    * ``logvar_raw``: the same plus 2 log scale, in units of the environment.
    * ``at_floor``, ``at_ceiling``: share of outputs whose raw value lies beyond a soft bound, that is
      within log 2 of it.
    * ``calibration_obs``, ``calibration_reward``: root mean predicted variance over root mean squared
      error (geometric mean over dimensions for obs); 1 is calibrated, above 1 is inflated.
    """
    per_dim = dimensions(p)["dim_calibration"]
    return {
        "logvar_target": p.logvar.mean((1, 2, 3)),
        "logvar_raw": p.logvar_raw.mean((1, 2, 3)),
        "at_floor": p.at_floor.mean((1, 2, 3)),
        "at_ceiling": p.at_ceiling.mean((1, 2, 3)),
        "calibration_obs": per_dim[:, :-1].log().nanmean(1).exp(),
        "calibration_reward": per_dim[:, -1],
    }


def dimensions(p: Prediction) -> dict[str, Tensor]:
    """Per target dimension, ``(R, D)`` each: log-variance in both units, raw error std, calibration, bounds.

    ``dim_at_floor`` and ``dim_at_ceiling`` are shares of outputs, as in `variance`. A dimension predicted
    without error has calibration NaN.
    """
    error = p.error.double().square().mean((1, 2)).sqrt()
    predicted = p.logvar_raw.double().exp().mean((1, 2)).sqrt()
    return {
        "dim_logvar_target": p.logvar.mean((1, 2)),
        "dim_logvar_raw": p.logvar_raw.mean((1, 2)),
        "dim_error_std": error,
        "dim_calibration": predicted / torch.where(error > 0, error, torch.full_like(error, math.nan)),
        "dim_at_floor": p.at_floor.mean((1, 2)),
        "dim_at_ceiling": p.at_ceiling.mean((1, 2)),
    }


def model_error(p: Prediction) -> dict[str, Tensor]:
    """Percent error of next_obs in raw units, with two denominators that do not depend on the map.

    ``error_over_delta``: 100 * mean |error| / mean |next_obs - obs|;
    ``error_over_next_obs``: 100 * mean |error| / mean |next_obs|. Ratios of means, since a zero
    increment would make a mean of ratios infinite. ``(R,)`` each.
    """
    error = p.error[..., :-1].norm(dim=-1).mean((1, 2))
    next_obs = p.truth[..., :-1]
    delta, size = (next_obs - p.obs).norm(dim=-1).mean((1, 2)), next_obs.norm(dim=-1).mean((1, 2))
    return {"error_over_delta": 100.0 * error / delta, "error_over_next_obs": 100.0 * error / size}


def scalars(p: Prediction) -> dict[str, Tensor]:
    """All scalar measures of one prediction: ``(R,)`` each."""
    return reward_collapse(p) | variance(p) | model_error(p)


def target_map(ensemble: GaussianEnsemble) -> dict[str, Tensor]:
    """Shift and scale of the targets, and how far the last fit moved the scale: ``(R,)`` each.

    * ``target_shift_reward``, ``target_scale_reward``: of the reward, in units of the environment.
    * ``target_scale_obs_geomean``: geometric mean of the scale over the dimensions of obs.
    * ``target_scale_moved``: largest |log(scale / scale before the last fit)| over all dimensions. Weights go on
      from fit to fit, so a map that moves under them is a jump of what they predict. 0 after the first fit, and
      wherever targets are not normalized.
    """
    shift, scale = ensemble.map.shift, ensemble.map.scale
    return {
        "target_shift_reward": shift[:, -1].clone(),
        "target_scale_reward": scale[:, -1].clone(),
        "target_scale_obs_geomean": scale[:, :-1].log().mean(1).exp(),
        "target_scale_moved": (scale / ensemble.scale_before).log().abs().amax(1),
    }


def target_geometry(rows: Tensor, layout: Layout) -> dict[str, Tensor]:
    """What the targets look like before any training, from packed ``rows (R, N, W)``.

    Per obs dimension, ``(R, O)``: ``increment_ratio`` Var(s' - s) / Var(s'); ``fitted_carry``, the
    slope of s' on s; ``increment_kurtosis``, excess; ``zero_increments``, the share of exact zeros.
    Per run, ``(R,)``: ``reward_share_delta`` and ``reward_share_next_obs``, the reward's share of the
    summed target variance. Dimensions that do not vary give NaN.
    """
    obs, target = layout.obs(rows), layout.targets(rows)
    keep = torch.ones(rows.shape[:2], device=rows.device, dtype=torch.bool)
    delta = target[..., :-1].double() - obs.double()
    centered = delta - delta.mean(1, keepdim=True)
    delta_var = centered.square().mean(1)
    next_var = target.double().var(1, unbiased=False)
    fourth = centered.pow(4).mean(1)
    nan = torch.full_like(delta_var, math.nan)
    reward_var = next_var[:, -1]
    return {
        "increment_ratio": torch.where(_varies(target)[:, :-1], delta_var / next_var[:, :-1], nan),
        "fitted_carry": torch.where(_varies(obs), slope(obs, target, keep)[:, :-1], nan),
        "increment_kurtosis": torch.where(_varies(delta), fourth / delta_var.square() - 3.0, nan),
        "zero_increments": (delta == 0).double().mean(1),
        "reward_share_delta": reward_var / (delta_var.sum(1) + reward_var),
        "reward_share_next_obs": reward_var / next_var.sum(1),
    }
