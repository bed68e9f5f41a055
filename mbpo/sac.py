"""Soft actor-critic (Haarnoja et al. 2018) for R runs at once; `update` is pure in its randomness.

    y          = r + discount mask (min_i Q'_i(s', a') - alpha log pi(a'|s')),        a' ~ pi(s')
    L_critic   = mean_B sum_i (Q_i(s, a) - y)^2
    L_actor    = mean_B alpha log pi(a|s) - min_i Q_i(s, a),                          a ~ pi(s)
    L_alpha    = mean_B -alpha (log pi(a|s) + target entropy)       (or log alpha in place of alpha)

in the order critic, target, actor, temperature (STFL, after jaxrl). Losses are means over B and sums
over R: the gradient of a run is its own.

`SacConfig` has other critics than the twins' minimum: more of them, some of them drawn for each target, their mean.

Actor and critics may read z-scored observations (`SacConfig.obs_norm`). Functions with an argument
`scaled_obs` take observations as the networks read them, ``sac.scaled(obs)``; `obs` and `rows` are raw.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mbpo.config import SacConfig
from mbpo.fast import sac_kernels
from mbpo.learner import Sac as Sac
from mbpo.nn import StackedMLP, gradients
from mbpo.streams import Streams

Info = dict[str, Tensor]


def policy(sac: Sac, scaled_obs: Tensor, actor: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Mean and log std of the Gaussian before tanh: ``scaled_obs (R, B, O) -> (R, B, A)`` each."""
    config = sac.config
    mean, raw = (actor or sac.actor)(scaled_obs).chunk(2, dim=-1)
    if config.mean_bound is not None:
        mean = config.mean_bound * (mean / config.mean_bound).tanh()
    if config.log_std == "clip":
        return mean, raw.clamp(config.min_log_std, config.max_log_std)
    share = 0.5 * (raw.tanh() + 1.0)
    return mean, config.min_log_std + (config.max_log_std - config.min_log_std) * share


def act(sac: Sac, obs: Tensor, noise: Tensor | None) -> Tensor:
    """Actions in [-1, 1] for ``obs (R, B, O)``: sampled with ``noise (R, B, A)``, else the mean's tanh."""
    with torch.no_grad():
        mean, log_std = policy(sac, sac.scaled(obs))
        return torch.tanh(mean if noise is None else mean + log_std.exp() * noise)


def sample_action(sac: Sac, scaled_obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reparameterized action ``(R, B, A)`` and log density ``(R, B)`` of ``scaled_obs (R, B, O), noise (R, B, A)``."""
    return _squashed(*policy(sac, scaled_obs), noise)


def _squashed(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    u = mean + log_std.exp() * noise
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    # log(1 - tanh(u)^2) without cancellation for large |u|.
    volume = 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))
    return torch.tanh(u), (gaussian - volume).sum(-1)


def q_values(critic: StackedMLP, scaled_obs: Tensor, action: Tensor) -> Tensor:
    """All critics: ``scaled_obs (R, B, O), action (R, B, A) -> (R, N, B)``."""
    return critic(torch.cat([scaled_obs, action], dim=-1)[:, None])[..., 0]


def draw_critics(config: SacConfig, streams: Streams, *shape: int) -> tuple[Tensor, ...]:
    """Random numbers ``(R, *shape, N)`` that choose the critics of each target; none where all critics are taken."""
    return (streams.uniform("target-critics", *shape, config.critics),) if config.draws_critics else ()


def _chosen(config: SacConfig, q: Tensor, draw: Tensor | None) -> Tensor:
    """The values ``(R, M, B)`` of the critics that a target is computed from, of ``q (R, N, B)``."""
    if not config.draws_critics:
        return q
    if draw is None:
        raise ValueError(f"target_critics = {config.target_critics}: an update needs the numbers of `draw_critics`")
    first = draw.argsort(1)[:, : config.target_critics]
    return q.gather(1, first[..., None].expand(-1, -1, q.shape[-1]))


VALUES: dict[str, Callable[[Tensor], Tensor]] = {"min": lambda q: q.amin(1), "mean": lambda q: q.mean(1)}
"""`SacConfig.target_value` and `actor_value` -> the value ``(R, B)`` of critics ``(R, N, B)``."""


def td_target(sac: Sac, rows: Tensor, noise: Tensor, draw: Tensor | None = None) -> Tensor:
    """Regression target of the critics ``(R, B)`` for packed ``rows (R, B, W)`` of ``sac.scaled_rows``.

    ``noise (R, B, A)`` makes the next action, ``draw (R, N)`` is of `draw_critics`.
    """
    layout, config = sac.layout, sac.config
    with torch.no_grad():
        next_obs = layout.next_obs(rows)
        next_action, log_prob = sample_action(sac, next_obs, noise)
        q = q_values(sac.target_critic, next_obs, next_action)
        value = VALUES[config.target_value](_chosen(config, q, draw))
        if config.backup == "soft":
            value = value - sac.alpha[:, None] * log_prob
        return layout.reward(rows) + config.discount * layout.mask(rows) * value


def update(sac: Sac, rows: Tensor, noise: Tensor, draw: Tensor | None = None) -> Info:
    """One update of critics, targets, actor and temperature.

    Args:
        sac: the learner; its parameters change in place.
        rows: ``(R, B, W)`` packed transitions, real and synthetic mixed.
        noise: ``(R, 2, B, A)`` standard normal, for next action and action.
        draw: ``(R, N)`` of `draw_critics`, where targets are computed from some of the critics.

    Returns:
        Losses, mean Q, entropy and temperature, ``(R,)`` each, detached.
    """
    rows = sac.scaled_rows(rows)
    info = _update_critic(sac, rows, noise[:, 0], draw)
    info |= _update_actor(sac, rows, noise[:, 1])
    _update_temperature(sac, info["entropy"])
    return info


def updates(step: Callable[..., Info], batches: Tensor, *random: Tensor) -> Info:
    """K updates in sequence on ``batches (R, K, B, W)``; returns the last one's info.

    `step` is `update` of one learner, and `random` its random numbers for K updates: ``noise (R, K, 2, B, A)`` and,
    where it needs it, ``draw (R, K, N)``.
    """
    info: Info = {}
    for k in range(batches.shape[1]):
        info = step(batches[:, k], *(numbers[:, k] for numbers in random))
    return info


def update_critic(sac: Sac, rows: Tensor, noise: Tensor, draw: Tensor | None = None) -> Info:
    """One update of critics and targets alone: evaluation of the current policy.

    Args:
        sac: the learner; its critics and their targets change in place.
        rows: ``(R, B, W)`` packed transitions.
        noise: ``(R, B, A)`` standard normal, for the next action.
        draw: as for `update`.

    Returns:
        Loss and mean Q, ``(R,)`` each, detached.
    """
    return _update_critic(sac, sac.scaled_rows(rows), noise, draw)


def gradient_norms(sac: Sac, rows: Tensor, noise: Tensor, draw: Tensor | None = None) -> Info:
    """Length ``(R,)`` of the gradients of critics and actor on one batch; the arguments are those of `update`.

    Nothing changes.
    """
    rows = sac.scaled_rows(rows)
    of_critic, of_actor = _critic_step(sac, rows, noise[:, 0], draw)[0], _actor_step(sac, rows, noise[:, 1])[0]
    return {"critic_gradient_norm": _length(of_critic), "actor_gradient_norm": _length(of_actor)}


def _length(grads: list[Tensor]) -> Tensor:
    return torch.stack([g.double().flatten(1).square().sum(1) for g in grads]).sum(0).sqrt()


def _critic_step(sac: Sac, rows: Tensor, noise: Tensor, draw: Tensor | None) -> sac_kernels.LossGradients:
    return sac_kernels.critic_gradients(sac, rows, noise) or _critic_gradients(sac, rows, noise, draw)


def _actor_step(sac: Sac, rows: Tensor, noise: Tensor) -> sac_kernels.LossGradients:
    return sac_kernels.actor_gradients(sac, rows, noise) or _actor_gradients(sac, rows, noise)


def _update_critic(sac: Sac, rows: Tensor, noise: Tensor, draw: Tensor | None) -> Info:
    grads, loss, mean = _critic_step(sac, rows, noise, draw)
    sac.critic_adam.step(grads)
    sac.target_critic.lerp_(sac.critic, sac.config.tau)
    return {"critic_loss": loss, "q_mean": mean}


def _critic_gradients(sac: Sac, rows: Tensor, noise: Tensor, draw: Tensor | None = None) -> sac_kernels.LossGradients:
    y = td_target(sac, rows, noise, draw)
    q = sac.critic(sac.layout.inputs(rows)[:, None])[..., 0]
    per_run = sac.config.critic_loss_scale * (q - y[:, None]).square().mean(-1).sum(-1)
    return gradients(per_run.sum(), sac.critic.parameters), per_run.detach(), q.detach().mean((1, 2))


def _update_actor(sac: Sac, rows: Tensor, noise: Tensor) -> Info:
    grads, loss, entropy = _actor_step(sac, rows, noise)
    sac.actor_adam.step(grads)
    return {"actor_loss": loss, "entropy": entropy}


def _actor_gradients(sac: Sac, rows: Tensor, noise: Tensor) -> sac_kernels.LossGradients:
    scaled_obs = sac.layout.obs(rows)
    mean, log_std = policy(sac, scaled_obs)
    action, log_prob = _squashed(mean, log_std, noise)
    q = VALUES[sac.config.actor_value](q_values(sac.critic.frozen(), scaled_obs, action))
    per_run = (sac.alpha[:, None] * log_prob - q).mean(-1)
    if sac.config.mean_penalty:
        per_run = per_run + sac.config.mean_penalty * mean.square().mean((1, 2))
    return gradients(per_run.sum(), sac.actor.parameters), per_run.detach(), -log_prob.detach().mean(-1)


def _update_temperature(sac: Sac, entropy: Tensor) -> None:
    """One step of the temperature; its loss is linear in the entropy gap, so the gradient is written out."""
    if sac.config.temperature == "fixed":
        return
    gap = entropy - sac.target_entropy
    grad = gap * sac.alpha if sac.config.temperature_loss == "alpha" else gap
    sac.alpha_adam.step([grad])
    if sac.config.max_temperature is not None:
        with torch.no_grad():
            sac.log_alpha.clamp_(max=math.log(sac.config.max_temperature))
