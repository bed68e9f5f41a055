"""Fits of the dynamics model to real rows: a split that only grows, statistics, weights, elites.

After Janner et al. 2019 (jannerm/mbpo, bnn.py), with a fixed number of updates (STFL) or early stopping (jannerm).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from mbpo import dynamics, moments, targets
from mbpo.buffer import gather_rows
from mbpo.config import ModelConfig
from mbpo.dynamics import GaussianEnsemble
from mbpo.streams import Streams

_HOLDOUT_CHUNK = 4_096
_BLOCK = 64


@dataclass(frozen=True)
class Split:
    """Row indices: ``train (R, n)`` and ``holdout (R, m)``, disjoint and together 0 .. n + m - 1."""

    train: Tensor
    holdout: Tensor

    @property
    def size(self) -> int:
        """Number of rows on both sides."""
        return self.train.shape[1] + self.holdout.shape[1]


Watch = Callable[[int], None]


class Keeper(Protocol):
    """Keeps a long fit, so that one that was stopped goes on from there; `live` is a tree of tensors ``(R, ...)``."""

    def restore(self, live: dict[str, Any], streams: Streams) -> int:
        """Put back what was kept, if anything was; the updates that had been made then."""

    def offer(self, updates: int, live: Callable[[], dict[str, Any]], streams: Streams) -> None:
        """Called wherever a fit can go on from."""


def fit(
    ensemble: GaussianEnsemble,
    rows: Tensor,
    streams: Streams,
    watch: Watch | None = None,
    watch_every: int = 0,
    block: Callable[[Tensor], object] | None = None,
    previous: Split | None = None,
    keeper: Keeper | None = None,
) -> Split:
    """Fit statistics, then weights, warm-started, on ``rows (R, N, W)``; then choose the elites.

    The returned split is the `previous` of the next fit, so that a row never changes sides. ``watch(updates)`` is
    called every `watch_every` updates. `block` replaces `dynamics.updates` of this ensemble in fits with a fixed number
    of updates that are not watched. With a `keeper` the fit may go on from where another process was stopped.

    Raises:
        ValueError: fewer than two rows: none could be held out.
    """
    streams = streams.fork("fit")
    split = make_split(ensemble.config, rows.shape[1], streams, previous)
    scored = scored_rows(ensemble.config, split.holdout, streams)
    before = ensemble.map.scale.clone()
    _fit_statistics(ensemble, rows, split)
    # Before the first fit there was no scale that could have moved.
    ensemble.scale_before.copy_(ensemble.map.scale if previous is None else before)
    watch = watch if watch_every else None
    if ensemble.config.stopping == "early":
        _fit_early(ensemble, rows, Split(split.train, scored), streams, watch, watch_every, keeper)
    else:
        run = block or partial(dynamics.updates, partial(dynamics.update, ensemble))
        _fit_fixed(ensemble, rows, split, streams, run, watch, watch_every, keeper)
    ensemble.holdout_mse = holdout_mse(ensemble, rows, scored)
    ranked = ensemble.holdout_mse.nan_to_num(torch.inf).argsort(1)
    ensemble.elites.copy_(ranked[:, : ensemble.config.num_elites])
    return split


def make_split(config: ModelConfig, n: int, streams: Streams, previous: Split | None = None) -> Split:
    """A random split of n rows: those of `previous` keep their side, the later ones are drawn.

    In all ``n * holdout_ratio`` rows, rounded down, are held out, as if all had been split at once.

    Raises:
        ValueError: fewer than two rows, or fewer than `previous` has.
    """
    # A side belongs to a slot of the buffer: in a full buffer a new row takes the side of the row that it overwrites.
    # So the side does not depend on the contents of a row, all runs have equal counts, and no row changes sides.
    old, old_held = (0, 0) if previous is None else (previous.size, previous.holdout.shape[1])
    num_held = max(1, int(n * config.holdout_ratio))
    num_held = num_held if config.holdout_cap is None else min(num_held, config.holdout_cap)
    if n - num_held < 1:
        raise ValueError(f"{n} rows cannot be split into training and holdout; collect at least 2")
    if previous is not None and n == old:
        return previous
    if n < old:
        raise ValueError(f"a split of {old} rows cannot go on to {n} rows")
    order, new_held = old + streams.permutation("split", n - old), min(max(num_held - old_held, 0), n - old)
    new = Split(train=order[:, new_held:], holdout=order[:, :new_held])
    if previous is None:
        return new
    return Split(torch.cat([previous.train, new.train], 1), torch.cat([previous.holdout, new.holdout], 1))


def scored_rows(config: ModelConfig, holdout: Tensor, streams: Streams) -> Tensor:
    """The rows of ``holdout (R, m)`` that members are scored on: all, or `max_holdout` at random ``(R, max_holdout)``.

    STFL draws as many with replacement. Here each row is scored once.
    """
    if holdout.shape[1] <= config.max_holdout:
        return holdout
    order = streams.permutation("scored", holdout.shape[1])
    return holdout.gather(1, order[:, : config.max_holdout])


def _fit_statistics(ensemble: GaussianEnsemble, rows: Tensor, split: Split) -> None:
    layout = ensemble.layout
    keep = torch.zeros(rows.shape[:2], device=rows.device, dtype=torch.bool).scatter_(1, split.train, True)
    # In place, as the elites are: a captured update reads this memory.
    ensemble.map.copy_(targets.fit(ensemble.arms, layout.obs(rows), layout.targets(rows), keep))
    inputs = layout.inputs(rows)
    mean, std = moments.mean_and_std(lambda piece: inputs[:, piece], keep, inputs.dtype)
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
    keeper: Keeper | None,
) -> None:
    config, n = ensemble.config, split.train.shape[1]
    member_rows = bootstrap(split.train, config, streams)
    shape = (config.batch_size,) if member_rows is None else (config.ensemble_size, config.batch_size)
    live = {"ensemble": ensemble.state()}
    begun = 0 if keeper is None else keeper.restore(live, streams)
    for first in range(begun, config.updates, _BLOCK):
        block = min(_BLOCK, config.updates - first)
        picks = streams.below("model-batch", n, block, *shape)
        if member_rows is None:
            index = split.train.gather(1, picks.flatten(1)).view_as(picks)
        else:
            index = torch.take_along_dim(member_rows[:, None], picks, dim=-1)
        batches = _batches(rows, index)
        if watch is None:
            run(batches)
        else:
            for k, batch in enumerate(batches, start=first + 1):
                dynamics.update(ensemble, batch)
                if k % watch_every == 0:
                    watch(k)
        if keeper is not None:
            keeper.offer(first + block, lambda: live, streams)


def bootstrap(train: Tensor, config: ModelConfig, streams: Streams) -> Tensor | None:
    """Each member's own draw with replacement from ``train (R, n)``: ``(R, E, n)``; None if shared."""
    if config.bootstrap == "shared":
        return None
    n = train.shape[1]
    picks = streams.below("bootstrap", n, config.ensemble_size, n)
    return torch.take_along_dim(train[:, None], picks, dim=-1)


def _fit_early(
    ensemble: GaussianEnsemble,
    rows: Tensor,
    split: Split,
    streams: Streams,
    watch: Watch | None,
    watch_every: int,
    keeper: Keeper | None,
) -> None:
    """Train until no member of a run has improved for more than `patience` epochs, then restore the best weights.

    A run that has stopped is left out of all further updates, so its weights, moments and draws are those of a solo
    fit. [C] jannerm bnn.py: an improvement is 1 % of the holdout error, and the best weights are kept per member.
    Learned log-variance bounds belong to no member and stay as they are. An epoch covers all rows: its last batch may
    be smaller and counts as one update.
    """
    config, runs = ensemble.config, len(rows)
    member_rows = bootstrap(split.train, config, streams)
    epoch_rows = split.train[:, None] if member_rows is None else member_rows
    best = torch.full_like(ensemble.holdout_mse, torch.inf)
    best_parameters = [p.detach().clone() for p in ensemble.net.parameters]
    stale = torch.zeros(runs, dtype=torch.int64)
    live = {"ensemble": ensemble.state(), "best": best, "best_parameters": best_parameters, "stale": stale}
    updates = 0 if keeper is None else keeper.restore(live, streams)
    active = [r for r in range(runs) if stale[r] <= config.patience]
    per_epoch = -(-epoch_rows.shape[-1] // config.batch_size)
    for _ in range(updates // per_epoch, config.max_epochs if active else 0):
        order = torch.argsort(streams.uniform("epoch", *epoch_rows.shape[1:]), dim=-1)
        shuffled = torch.take_along_dim(epoch_rows, order, dim=-1)
        for index in shuffled.split(config.batch_size, dim=-1):
            index = index[:, 0] if member_rows is None else index
            dynamics.update(ensemble, _batches(rows, index[:, None])[0], active)
            updates += 1
            if watch is not None and updates % watch_every == 0:
                watch(updates)
        error = holdout_mse(ensemble, rows, split.holdout)
        improved = (best - error) / best > config.improvement
        improved |= best.isinf() & error.isfinite()
        improved[[r for r in range(runs) if r not in active]] = False
        best.copy_(torch.where(improved, error, best))
        for best_p, current in zip(best_parameters, ensemble.net.parameters, strict=True):
            best_p.copy_(torch.where(improved[:, :, None, None], current.detach(), best_p))
        for r in active:
            stale[r] = 0 if bool(improved[r].any()) else stale[r] + 1
        active = [r for r in active if stale[r] <= config.patience]
        if keeper is not None:
            keeper.offer(updates, lambda: live, streams)
        if not active:
            break
    with torch.no_grad():
        for best_p, current in zip(best_parameters, ensemble.net.parameters, strict=True):
            current.copy_(best_p)


@torch.no_grad()
def holdout_mse(ensemble: GaussianEnsemble, rows: Tensor, index: Tensor) -> Tensor:
    """Mean squared error of the mean in target space on ``rows`` at ``index (R, m)``: ``(R, E)``."""
    total = torch.zeros_like(ensemble.holdout_mse)
    for part in index.split(_HOLDOUT_CHUNK, dim=1):
        held = gather_rows(rows, part)
        mean, _ = ensemble(ensemble.layout.inputs(held))
        total += (mean - ensemble.encode(held)[:, None]).square().mean(-1).sum(-1)
    return total / index.shape[1]
