"""The measurements: what the model gets wrong, in which units, and what the critic makes of it.

Everything is measured on rows that the fit held out. Predictions are those of the elites, one by one
(a synthetic transition comes from a single elite), so a mean over predictions is a mean over elites
and rows. A *target* figure is in the space that the model regresses; a *raw* one is in units of the
environment. Figures of two target maps are comparable in raw units alone: dividing by a larger scale
lowers a log-variance for free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mbpo.buffer import Layout
from mbpo.dynamics import GaussianEnsemble
from mbpo.episodes import Trace
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


def reward_error(p: Prediction, spread: Tensor) -> dict[str, Tensor]:
    """The reward's root mean squared error in units of a `spread` of rewards ``(R,)``, and that spread: ``(R,)`` each.

    R2 divides by the variance of the held-out rewards, and explodes where these hardly vary; the spread of all rewards
    that the model was shown does not. NaN where no reward ever varied.
    """
    error = (p.mean[..., -1].double() - p.truth[..., -1].double()).square().mean((1, 2)).sqrt()
    nan = torch.full_like(spread, math.nan)
    return {"reward_error_over_replay": error / torch.where(spread > 0, spread, nan), "real_reward_std": spread}


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
        "at_floor": _at_floor(p).mean((1, 2, 3)),
        "at_ceiling": _at_ceiling(p).mean((1, 2, 3)),
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
        "dim_at_floor": _at_floor(p).mean((1, 2)),
        "dim_at_ceiling": _at_ceiling(p).mean((1, 2)),
    }


def _at_floor(p: Prediction) -> Tensor:
    return (p.logvar < p.lower + math.log(2.0)).float()


def _at_ceiling(p: Prediction) -> Tensor:
    return (p.logvar > p.upper - math.log(2.0)).float()


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


def model_report(ensemble: GaussianEnsemble, rows: Tensor) -> dict[str, Tensor]:
    """All scalar model measures on held-out packed ``rows (R, B, W)``: ``(R,)`` each."""
    return scalars(predict(ensemble, rows))


def scalars(p: Prediction) -> dict[str, Tensor]:
    """All scalar model measures of one prediction: ``(R,)`` each."""
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


def reward_summary(reward: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of ``reward (R, N)``: ``(R,)`` each."""
    wide = reward.double()
    return wide.mean(1), wide.std(1, unbiased=False)


SATURATED = 0.99


def policy_summary(mean: Tensor, log_std: Tensor, log_prob: Tensor) -> dict[str, Tensor]:
    """Where the Gaussian before tanh lies, over rows and action dimensions: ``(R,)`` each.

    * ``pre_tanh_mean_abs``, ``pre_tanh_mean_max``: mean and largest size of its mean. A density after tanh grows like
      twice that size a dimension, and nothing bounds it.
    * ``log_std_mean``: its log std, bounded, in nats.
    * ``log_prob_mean``: log density of a sampled action, summed over dimensions, in nats; minus the entropy.
    * ``saturated_share``: share of the dimensions of the mean's action beyond +-0.99.

    Args:
        mean: ``(R, B, A)``.
        log_std: ``(R, B, A)``.
        log_prob: ``(R, B)`` of one action a row.
    """
    size = mean.double().abs()
    return {
        "pre_tanh_mean_abs": size.mean((1, 2)),
        "pre_tanh_mean_max": size.amax((1, 2)),
        "log_std_mean": log_std.double().mean((1, 2)),
        "log_prob_mean": log_prob.double().mean(1),
        "saturated_share": (size.tanh() > SATURATED).double().mean((1, 2)),
    }


def soft_returns(
    reward: Sequence[float], log_prob: Sequence[float], discount: float, alpha: float
) -> tuple[list[float], list[float]]:
    """Monte-Carlo value of each visited (s, a): the reward part and the entropy part apart.

    ``Q(s_t, a_t) = r_t + sum_{k>0} discount^k (r_{t+k} - alpha log pi(a_{t+k}|s_{t+k}))``: the entropy
    of the action taken at t itself is not in Q. Values after the last step count as zero.
    """
    plain, entropy = [0.0] * len(reward), [0.0] * len(reward)
    future_reward = future_entropy = 0.0
    for t in range(len(reward) - 1, -1, -1):
        plain[t] = reward[t] + discount * future_reward
        entropy[t] = discount * future_entropy
        future_reward, future_entropy = plain[t], entropy[t] - alpha * log_prob[t]
    return plain, entropy


@dataclass(frozen=True)
class CriticBias:
    """Means over visited states of one run: critic, Monte-Carlo reward part, entropy part, and the bias by its sign.

    `over` is the mean of the positive part of a state's bias, `under` that of the negative one (never above 0):
    together they are the bias, of which errors of both signs may leave nothing.
    """

    q: float
    reward_part: float
    entropy_part: float
    over: float
    under: float

    @property
    def bias(self) -> float:
        """Q minus the Monte-Carlo soft value; negative is underestimation."""
        return self.q - self.reward_part - self.entropy_part


def critic_bias(
    traces: Sequence[Trace], q: Sequence[Sequence[float]], discount: float, alpha: float, tail: float = 0.05
) -> CriticBias:
    """Bias of ``q[i][t]``, the critic's value at step t of trace i, under the policy that made the traces.

    A time limit hides the rest of the return, so only states are counted from which the hidden rest
    weighs at most `tail` (``discount^steps_left``); an episode that terminated has no hidden rest. If
    none qualifies, all means are NaN.
    """
    rows: list[tuple[float, float, float]] = []
    for trace, values in zip(traces, q, strict=True):
        plain, entropy = soft_returns(trace.reward, trace.log_prob, discount, alpha)
        length = len(plain)
        rows += [
            (values[t], plain[t], entropy[t])
            for t in range(length)
            if trace.terminated or discount ** (length - t) <= tail
        ]
    if not rows:
        return CriticBias(math.nan, math.nan, math.nan, math.nan, math.nan)
    q_mean, reward_part, entropy_part = (sum(column) / len(rows) for column in zip(*rows, strict=True))
    errors = [q - reward - entropy for q, reward, entropy in rows]
    # Comparisons with NaN are false: a critic that is not finite must not count as one without bias.
    over = sum(0.0 if e < 0 else e for e in errors) / len(rows)
    under = sum(0.0 if e > 0 else e for e in errors) / len(rows)
    return CriticBias(q_mean, reward_part, entropy_part, over, under)
