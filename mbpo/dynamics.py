"""The dynamics model: an ensemble of Gaussian networks over next_obs and reward, in target space.

    loss = sum over R, E of mean over B, D of [(m - y)^2 exp(-v) + v] + decay + bounds,   v = log variance

after Janner et al. 2019 (jannerm/mbpo, bnn.py). Log-variances are bounded softly, by constants (STFL)
or by learned vectors (jannerm). Inputs ``(obs, action)`` are z-scored, targets go through the
`TargetMap`; both are fitted on the training split at each fit and frozen with the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from mbpo import targets
from mbpo.buffer import Layout
from mbpo.config import ModelConfig, Target
from mbpo.fast import kernels
from mbpo.nn import Adam, StackedMLP, TwoHeads, gradients, stacked_mlp
from mbpo.streams import Streams


class GaussianEnsemble:
    """R x E networks ``(obs, action) -> (mean, log variance)`` of the D target dimensions."""

    def __init__(self, config: ModelConfig, arms: Sequence[Target], layout: Layout, streams: Streams) -> None:
        runs, device, dtype = len(arms), streams.device, streams.dtype
        inputs, outputs = layout.obs_dim + layout.action_dim, layout.obs_dim + 1
        self.config, self.arms, self.layout = config, list(arms), layout
        self.net = _network(config, inputs, outputs, streams)
        bound = torch.ones(runs, 1, 1, outputs, device=device, dtype=dtype)
        self.min_logvar, self.max_logvar = bound * config.min_logvar, bound * config.max_logvar
        learned = config.logvar_bounds == "learned"
        self.bounds = [self.min_logvar.requires_grad_(), self.max_logvar.requires_grad_()] if learned else []
        heads = len(self.net.weights) // len(config.weight_decay)
        decay = [*config.weight_decay * heads, *[0.0] * len(self.net.biases), *[0.0] * len(self.bounds)]
        self.adam = Adam(self.parameters, config.learning_rate, decay, per_run=config.stopping == "early")
        self.input_mean = torch.zeros(runs, 1, inputs, device=device, dtype=dtype)
        self.input_std = torch.ones_like(self.input_mean)
        self.map = targets.identity(arms, layout.obs_dim, device, dtype)
        self.scale_before = self.map.scale.clone()  # (R, D): the map's scale before the last fit
        self.holdout_mse = torch.full((runs, config.ensemble_size), torch.nan, device=device, dtype=dtype)
        self.elites = torch.arange(config.num_elites, device=device).expand(runs, -1).clone()

    @property
    def parameters(self) -> list[Tensor]:
        """What Adam trains: the networks and, if learned, the bounds."""
        return [*self.net.parameters, *self.bounds]

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance in target space, ``(R, E, B, D)`` each.

        ``inputs`` are raw ``(obs, action)``: ``(R, B, O + A)``, or ``(R, E, B, O + A)`` if each member has
        rows of its own.
        """
        return self.bounded(self.net(self.scaled(inputs)), self.min_logvar, self.max_logvar)

    @staticmethod
    def bounded(out: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and bounded log-variance ``(..., D)`` from network outputs ``(..., 2 D)``."""
        mean, raw = out.chunk(2, dim=-1)
        logvar = high - softplus(high - raw)
        return mean, low + softplus(logvar - low)

    def scaled(self, inputs: Tensor) -> Tensor:
        """Z-scored inputs ``(R, 1 or E, B, O + A)``."""
        inputs = inputs[:, None] if inputs.dim() == 3 else inputs
        return (inputs - self.input_mean[:, None]) / self.input_std[:, None]

    def sample(self, obs: Tensor, action: Tensor, member: Tensor, noise: Tensor) -> Tensor:
        """A sample of raw ``(next_obs, reward)`` for each row, from one elite per row: ``(R, B, D)``.

        Args:
            obs: ``(R, B, O)``.
            action: ``(R, B, A)``.
            member: ``(R, B)`` uniform on [0, 1), picks the elite (jannerm fake_env: i.i.d. per row).
            noise: ``(R, B, D)`` standard normal.
        """
        out = self.net.forward_members(self.scaled(torch.cat([obs, action], dim=-1)), self.elite(member))
        mean, logvar = self.bounded(out, self.min_logvar[:, 0], self.max_logvar[:, 0])
        y = mean + (0.5 * logvar).exp() * noise
        return self.map.decode(obs, y)

    def all_members(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Every member's mean and variance in target space, ``(R, E, B, D)`` each, of ``obs (R, B, O)`` and ``action``.

        Without gradients; a row's numbers do not depend on the other rows.
        """
        out = self.net.forward_all(self.scaled(torch.cat([obs, action], dim=-1))).to(obs.dtype)
        mean, logvar = self.bounded(out, self.min_logvar, self.max_logvar)
        return mean, logvar.exp()

    def elite(self, member: Tensor) -> Tensor:
        """The elite ``(R, B)`` of 0..E-1 that a number ``member (R, B)`` uniform on [0, 1) picks."""
        rank = (member * self.elites.shape[1]).long().clamp(max=self.elites.shape[1] - 1)
        return self.elites.gather(1, rank)

    def encode(self, rows: Tensor) -> Tensor:
        """Targets of packed ``rows (R, ..., W)`` in target space: ``(R, ..., D)``."""
        return self.map.encode(self.layout.obs(rows), self.layout.targets(rows))

    def state(self) -> dict[str, object]:
        """Everything a checkpoint needs, by reference."""
        frozen = {
            "input_mean": self.input_mean,
            "input_std": self.input_std,
            "scale_before": self.scale_before,
            "holdout_mse": self.holdout_mse,
            "elites": self.elites,
        }
        affine = {"carry": self.map.carry, "shift": self.map.shift, "scale": self.map.scale}
        return {
            "parameters": [p.detach() for p in self.parameters],
            "adam": self.adam.state(),
            "frozen": frozen,
            "map": affine,
        }


def _network(config: ModelConfig, inputs: int, outputs: int, streams: Streams) -> StackedMLP | TwoHeads:
    """The untrained network from `inputs` to mean and raw log-variance of `outputs` targets."""

    def mlp(stream: str, num_targets: int) -> StackedMLP:
        sizes, generators = (inputs, *config.hidden_dims, 2 * num_targets), streams.generators(stream, "cpu")
        return stacked_mlp(sizes, config.ensemble_size, config.init, silu, generators, streams.device, streams.dtype)

    if config.reward_head == "shared":
        return mlp("init-dynamics", outputs)
    return TwoHeads(mlp("init-dynamics", outputs - 1), mlp("init-dynamics-reward", 1))


def nll(ensemble: GaussianEnsemble, inputs: Tensor, y: Tensor) -> Tensor:
    """The training loss as a scalar, without weight decay, which Adam adds to the gradient.

    Args:
        ensemble: the networks.
        inputs: ``(R, B, O + A)`` or ``(R, E, B, O + A)`` raw.
        y: ``(R, B, D)`` or ``(R, E, B, D)`` in target space.
    """
    mean, logvar = ensemble(inputs)
    error = mean - (y[:, None] if y.dim() == 3 else y)
    loss = (error.square() * (-logvar).exp() + logvar).mean((-2, -1)).sum()
    if ensemble.bounds:
        loss = loss + ensemble.config.bound_weight * (ensemble.max_logvar.sum() - ensemble.min_logvar.sum())
    return loss


def update(ensemble: GaussianEnsemble, rows: Tensor, active: Sequence[int] | None = None) -> dict[str, Tensor]:
    """One Adam step on ``rows (R, B, W)``, or ``(R, E, B, W)`` with a batch per member. Returns an empty dict."""
    ensemble.adam.step(nll_gradients(ensemble, ensemble.layout.inputs(rows), ensemble.encode(rows)), active)
    return {}


def nll_gradients(ensemble: GaussianEnsemble, inputs: Tensor, y: Tensor) -> list[Tensor]:
    """Gradients of `nll` for `ensemble.parameters`; the arguments are those of `nll`."""
    exact = kernels.exact_gaussian(ensemble.config.min_logvar, ensemble.config.max_logvar)
    if isinstance(ensemble.net, StackedMLP) and exact and not ensemble.bounds:
        member_y = y[:, None] if y.dim() == 3 else y
        grads = ensemble.net.gaussian_gradients(
            ensemble.scaled(inputs), member_y, ensemble.min_logvar, ensemble.max_logvar
        )
        if grads is not None:
            return grads
    return gradients(nll(ensemble, inputs, y), ensemble.parameters)


def updates(step: Callable[[Tensor], object], batches: Tensor) -> dict[str, Tensor]:
    """K updates in sequence on ``batches (K, R, B, W)`` or ``(K, R, E, B, W)``; `step` is `update` of one ensemble.

    Returns an empty dict.
    """
    for rows in batches:
        step(rows)
    return {}
