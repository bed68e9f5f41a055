"""The dynamics model: an ensemble of Gaussian networks over next_obs and reward, in target space.

    loss = sum over R, E of mean over B, D of [(m - y)^2 exp(-v) + v] + decay + bounds,   v = log variance

after Janner et al. 2019 (jannerm/mbpo, bnn.py). Log-variances are bounded softly, by constants (STFL)
or by learned vectors (jannerm). Inputs ``(obs, action)`` are z-scored, targets go through the
`TargetMap`; both are fitted on the training split at each fit and frozen with the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from mbpo import targets
from mbpo.buffer import Layout, gather_rows
from mbpo.config import ModelConfig, Target
from mbpo.nn import Adam, StackedMLP, TwoHeads, gradients, stacked_mlp
from mbpo.streams import Streams

_HOLDOUT_CHUNK = 4_096
_BLOCK = 64


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
        self.holdout_mse = torch.full((runs, config.ensemble_size), torch.nan, device=device, dtype=dtype)
        self.elites = torch.arange(config.num_elites, device=device).expand(runs, -1).clone()

    @property
    def parameters(self) -> list[Tensor]:
        """All that Adam moves: the networks and, if learned, the bounds."""
        return [*self.net.parameters, *self.bounds]

    def __call__(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance in target space, ``(R, E, B, D)`` each.

        ``inputs`` are raw ``(obs, action)``: ``(R, B, O + A)``, or ``(R, E, B, O + A)`` with rows of
        each member's own.
        """
        return self._bounded(self.net(self.scaled(inputs)), self.min_logvar, self.max_logvar)

    @staticmethod
    def _bounded(out: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance ``(..., D)`` of what a network gives, ``(..., 2 D)``."""
        mean, raw = out.chunk(2, dim=-1)
        logvar = high - softplus(high - raw)
        return mean, low + softplus(logvar - low)

    def scaled(self, inputs: Tensor) -> Tensor:
        """Z-scored inputs ``(R, 1 or E, B, O + A)``."""
        inputs = inputs[:, None] if inputs.dim() == 3 else inputs
        return (inputs - self.input_mean[:, None]) / self.input_std[:, None]

    def sample(self, obs: Tensor, action: Tensor, member: Tensor, noise: Tensor) -> Tensor:
        """One raw ``(next_obs, reward)`` a row, from one elite a row: ``(R, B, D)``.

        Args:
            obs: ``(R, B, O)``.
            action: ``(R, B, A)``.
            member: ``(R, B)`` uniform on [0, 1), picks the elite (jannerm fake_env: i.i.d. a row).
            noise: ``(R, B, D)`` standard normal.
        """
        out = self.net(self.scaled(torch.cat([obs, action], dim=-1)))
        place = (member * self.elites.shape[1]).long().clamp(max=self.elites.shape[1] - 1)
        chosen = self.elites.gather(1, place)[:, None, :, None].expand(-1, 1, -1, out.shape[-1])
        mean, logvar = self._bounded(out.gather(1, chosen)[:, 0], self.min_logvar[:, 0], self.max_logvar[:, 0])
        y = mean + (0.5 * logvar).exp() * noise
        return self.map.decode(obs, y)

    def encode(self, rows: Tensor) -> Tensor:
        """Targets of packed ``rows (R, ..., W)`` in target space: ``(R, ..., D)``."""
        return self.map.encode(self.layout.obs(rows), self.layout.targets(rows))

    def state(self) -> dict[str, object]:
        """Everything a checkpoint needs, by reference."""
        frozen = {
            "input_mean": self.input_mean,
            "input_std": self.input_std,
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

    def made(stream: str, targets_: int) -> StackedMLP:
        sizes, generators = (inputs, *config.hidden_dims, 2 * targets_), streams.generators(stream, "cpu")
        return stacked_mlp(sizes, config.ensemble_size, config.init, silu, generators, streams.device, streams.dtype)

    if config.reward_head == "shared":
        return made("init-dynamics", outputs)
    return TwoHeads(made("init-dynamics", outputs - 1), made("init-dynamics-reward", 1))


def nll(ensemble: GaussianEnsemble, inputs: Tensor, y: Tensor) -> Tensor:
    """The training loss less its decay (which Adam adds to the gradient): a scalar.

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
    """One Adam step on ``rows (R, B, W)``, or ``(R, E, B, W)`` with a batch for each member; nothing to report."""
    ensemble.adam.step(nll_gradients(ensemble, ensemble.layout.inputs(rows), ensemble.encode(rows)), active)
    return {}


def nll_gradients(ensemble: GaussianEnsemble, inputs: Tensor, y: Tensor) -> list[Tensor]:
    """Gradients of `nll` for `ensemble.parameters`."""
    if isinstance(ensemble.net, StackedMLP) and not ensemble.bounds:
        each = y[:, None] if y.dim() == 3 else y
        found = ensemble.net.gaussian_gradients(ensemble.scaled(inputs), each, ensemble.min_logvar, ensemble.max_logvar)
        if found is not None:
            return found
    return gradients(nll(ensemble, inputs, y), ensemble.parameters)


def updates(step: Callable[[Tensor], object], batches: Tensor) -> dict[str, Tensor]:
    """K updates, one after the other, on ``batches (K, R, B, W)`` or ``(K, R, E, B, W)``.

    `step` is `update` of one ensemble.
    """
    for rows in batches:
        step(rows)
    return {}


@dataclass(frozen=True)
class Split:
    """Row indices of one fit: ``train (R, n)`` and ``holdout (R, m)``, disjoint."""

    train: Tensor
    holdout: Tensor


Watch = Callable[[int], None]


def fit(
    ensemble: GaussianEnsemble,
    rows: Tensor,
    streams: Streams,
    watch: Watch | None = None,
    watch_every: int = 0,
    block: Callable[[Tensor], object] | None = None,
) -> Split:
    """Fit statistics, then weights, warm-started, on ``rows (R, N, W)``; then choose the elites.

    One split serves the whole fit, so no holdout row is ever trained on; it is returned. ``watch(updates)`` is called
    every `watch_every` updates. `block` stands in for `updates` of this ensemble, in a fit that neither stops early nor
    is watched.

    Raises:
        ValueError: fewer than two rows, of which none could be held out.
    """
    streams = streams.fork("fit")
    split = make_split(ensemble.config, rows.shape[1], streams)
    _fit_statistics(ensemble, rows, split)
    watch = watch if watch_every else None
    if ensemble.config.stopping == "early":
        _fit_early(ensemble, rows, split, streams, watch, watch_every)
    else:
        _fit_fixed(
            ensemble, rows, split, streams, block or partial(updates, partial(update, ensemble)), watch, watch_every
        )
    ensemble.holdout_mse = holdout_mse(ensemble, rows, split.holdout)
    ranked = ensemble.holdout_mse.nan_to_num(torch.inf).argsort(1)
    ensemble.elites.copy_(ranked[:, : ensemble.config.num_elites])
    return split


def make_split(config: ModelConfig, n: int, streams: Streams) -> Split:
    """A fresh random split of n rows."""
    held = min(config.max_holdout, max(1, int(n * config.holdout_ratio)))
    if n - held < 1:
        raise ValueError(f"{n} rows cannot be split into training and holdout; collect at least 2")
    order = streams.permutation("split", n)
    return Split(train=order[:, held:], holdout=order[:, :held])


def _fit_statistics(ensemble: GaussianEnsemble, rows: Tensor, split: Split) -> None:
    layout = ensemble.layout
    keep = torch.zeros(rows.shape[:2], device=rows.device, dtype=torch.bool).scatter_(1, split.train, True)
    # In place, here and of the elites: what a captured update reads must not move.
    ensemble.map.copy_(targets.fit(ensemble.arms, layout.obs(rows), layout.targets(rows), keep))
    inputs = layout.inputs(rows)
    mean, std = targets.mean_and_std(lambda piece: inputs[:, piece], keep, inputs.dtype)
    ensemble.input_mean.copy_(mean[:, None])
    ensemble.input_std.copy_(std[:, None])


def _batches(rows: Tensor, index: Tensor) -> Tensor:
    """``rows (R, N, W)`` at ``index (R, K, B)`` or ``(R, K, E, B)``: ``(K, R, ..., B, W)``."""
    gathered = gather_rows(rows, index.flatten(1)).view(*index.shape, rows.shape[-1])
    return gathered.transpose(0, 1)


def _fit_fixed(
    ensemble: GaussianEnsemble,
    rows: Tensor,
    split: Split,
    streams: Streams,
    run: Callable[[Tensor], object],
    watch: Watch | None,
    watch_every: int,
) -> None:
    config, n = ensemble.config, split.train.shape[1]
    member_rows = bootstrap(split.train, config, streams)
    shape = (config.batch_size,) if member_rows is None else (config.ensemble_size, config.batch_size)
    for first in range(0, config.updates, _BLOCK):
        block = min(_BLOCK, config.updates - first)
        drawn = streams.below("model-batch", n, block, *shape)
        if member_rows is None:
            index = split.train.gather(1, drawn.flatten(1)).view_as(drawn)
        else:
            index = torch.take_along_dim(member_rows[:, None], drawn, dim=-1)
        batches = _batches(rows, index)
        if watch is None:
            run(batches)
            continue
        for k, batch in enumerate(batches, start=first + 1):
            update(ensemble, batch)
            if k % watch_every == 0:
                watch(k)


def bootstrap(train: Tensor, config: ModelConfig, streams: Streams) -> Tensor | None:
    """Each member's own draw with replacement from ``train (R, n)``: ``(R, E, n)``; None if shared."""
    if config.bootstrap == "shared":
        return None
    n = train.shape[1]
    drawn = streams.below("bootstrap", n, config.ensemble_size, n)
    return torch.take_along_dim(train[:, None], drawn, dim=-1)


def _fit_early(
    ensemble: GaussianEnsemble, rows: Tensor, split: Split, streams: Streams, watch: Watch | None, watch_every: int
) -> None:
    """Epochs until no member of a run has improved for more than `patience` of them; best weights back.

    A run that has stopped is left out of every further update, so its weights, moments and draws are
    those of a solo fit. [C] jannerm bnn.py: improvement of 1 % of the holdout error, best per member;
    learned log-variance bounds, which belong to no member, stay where they are.
    """
    config, runs = ensemble.config, len(rows)
    member_rows = bootstrap(split.train, config, streams)
    table = split.train[:, None] if member_rows is None else member_rows
    batch = min(config.batch_size, table.shape[-1])
    best = torch.full_like(ensemble.holdout_mse, torch.inf)
    keep = [p.detach().clone() for p in ensemble.net.parameters]
    stale, active, updates = [0] * runs, list(range(runs)), 0
    for _ in range(config.max_epochs):
        order = torch.argsort(streams.uniform("epoch", *table.shape[1:]), dim=-1)
        shuffled = torch.take_along_dim(table, order, dim=-1)
        for first in range(0, table.shape[-1] - batch + 1, batch):
            index = shuffled[..., first : first + batch]
            index = index[:, 0] if member_rows is None else index
            update(ensemble, _batches(rows, index[:, None])[0], active)
            updates += 1
            if watch is not None and updates % watch_every == 0:
                watch(updates)
        error = holdout_mse(ensemble, rows, split.holdout)
        improved = (best - error) / best > config.improvement
        improved |= best.isinf() & error.isfinite()
        improved[[r for r in range(runs) if r not in active]] = False
        best = torch.where(improved, error, best)
        for kept, current in zip(keep, ensemble.net.parameters, strict=True):
            kept.copy_(torch.where(improved[:, :, None, None], current.detach(), kept))
        for r in active:
            stale[r] = 0 if bool(improved[r].any()) else stale[r] + 1
        active = [r for r in active if stale[r] <= config.patience]
        if not active:
            break
    with torch.no_grad():
        for kept, current in zip(keep, ensemble.net.parameters, strict=True):
            current.copy_(kept)


@torch.no_grad()
def holdout_mse(ensemble: GaussianEnsemble, rows: Tensor, index: Tensor) -> Tensor:
    """Mean squared error of the mean in target space on ``rows`` at ``index (R, m)``: ``(R, E)``."""
    total = torch.zeros_like(ensemble.holdout_mse)
    for part in index.split(_HOLDOUT_CHUNK, dim=1):
        held = gather_rows(rows, part)
        mean, _ = ensemble(ensemble.layout.inputs(held))
        total += (mean - ensemble.encode(held)[:, None]).square().mean(-1).sum(-1)
    return total / index.shape[1]
