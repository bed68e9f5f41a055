"""The bench that probes stand on: R policies, their replays and models, and every share of synthetic rows to try.

Row ``r Q + q`` of a learner is run r at the q-th of Q shares. All randomness comes from a run's seed and the name of a
part, so the arms and shares of a seed have start, draws and episodes in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmark.records.spec import ProbeBudget
from mbpo.buffer import Layout, gather_rows
from mbpo.checkpoint import copy_into
from mbpo.envs import EnvBatch
from mbpo.episodes import Episodes, Trace, play
from mbpo.fast.engine import Engine
from mbpo.nn import StackedMLP
from mbpo.rollouts import BranchNoise, Model, Termination, branch, draw_noise
from mbpo.sac import Sac, act, draw_critics, q_values, sample_action, td_target
from mbpo.streams import Streams

_CHUNK = 1_024


@dataclass(frozen=True)
class Bench:
    """R policies with their replays and models, and how each is probed."""

    task: str
    drop: tuple[str, ...]
    seeds: tuple[int, ...]
    budget: ProbeBudget
    sac: Sac  # (R,) the policies, with the critics and temperatures they were trained with
    model: Model  # (R,) stacked
    real: Tensor  # (R, N, W) replay rows
    terminated: Termination
    engine: Engine

    @property
    def layout(self) -> Layout:
        """Where the fields of the rows lie."""
        return self.sac.layout

    @property
    def row_runs(self) -> list[int]:
        """The run that each of the ``R Q`` rows belongs to."""
        return [r for r in range(len(self.seeds)) for _ in self.budget.shares]

    def streams(self, part: str) -> Streams:
        """All randomness of one part of the probes: by seed alone."""
        return Streams([f"probe/{seed}/{part}" for seed in self.seeds], self.engine.device, self.engine.dtype)

    def blank(self, rows: int) -> Tensor:
        """Room for the synthetic rows of one branching ``(rows, S, W)``."""
        return self.real.new_zeros(rows, self.budget.synthetic, self.real.shape[-1])

    def spread(self, values: Tensor) -> Tensor:
        """``(R, ...)`` for every share alike: ``(R Q, ...)``."""
        return values.repeat_interleave(len(self.budget.shares), 0)


def learners(bench: Bench, source: Sac, index: Sequence[int]) -> Sac:
    """A learner of its own whose row i is row ``index[i]`` of `source`, optimizers included."""
    made = Sac(source.config, source.layout, Streams(["" for _ in index], bench.engine.device, bench.engine.dtype))
    copy_into(made.state(), _picked(source.state(), list(index)))
    return made


def evaluators(bench: Bench) -> Sac:
    """The policies at every share ``(R Q,)``, with the critics that were kept with them and targets that follow faster.

    Untrained critics would not do: the twins disagree until they are trained, and the lesser of both, bootstrapped,
    sinks by that disagreement over ``1 - discount``, which at 0.99 hides all that the rows' rewards could do.
    """
    sac = learners(bench, bench.sac, bench.row_runs)
    sac.config = sac.config.model_copy(update={"tau": bench.budget.critic_tau})
    return sac


def _picked(tree: Any, index: list[int]) -> Any:
    """Rows `index` of every tensor ``(R, ...)``; Adam's step counts ``(1, n)`` are common to all."""
    if isinstance(tree, dict):
        return {name: value.clone() if name == "steps" else _picked(value, index) for name, value in tree.items()}
    return [_picked(value, index) for value in tree] if isinstance(tree, list) else tree[index]


def batch(bench: Bench, streams: Streams, synthetic: Tensor, size: int) -> Tensor:
    """B = `size` rows for each share ``(R Q, B, W)``: real rows first, as many as the share leaves, rounded up.

    All shares draw the same B rows of the replay and of ``synthetic (R or R Q, S, W)`` and differ in which they use.
    """
    real = bench.spread(gather_rows(bench.real, streams.below("batch-real", bench.real.shape[1], size)))
    drawn = streams.below("batch-synthetic", synthetic.shape[1], size)
    if len(synthetic) == len(bench.seeds):
        imagined = bench.spread(gather_rows(synthetic, drawn))
    else:
        imagined = gather_rows(synthetic, bench.spread(drawn))
    kept = torch.tensor([-(-size * (100 - share) // 100) for share in bench.budget.shares], device=real.device)
    is_real = torch.arange(size, device=real.device) < kept[:, None]
    return torch.where(is_real.repeat(len(bench.seeds), 1)[..., None], real, imagined)


@torch.no_grad()
def settle(bench: Bench, sac: Sac, streams: Streams, synthetic: Tensor) -> None:
    """Shift all critics of ``sac (R Q,)`` at once to where their mean TD error on mixed batches is nil.

    Bootstrapping learns the level of Q last, over some ``1 / (tau (1 - discount))`` updates. In the level alone TD is
    linear, so one Newton step finds it: mean error over ``1 - discount mean(mask)``. Where critics have converged their
    mean error is nil already (the gradient of the last bias), so what they converge to stays as it is.
    """
    _copy_tensors(sac.target_critic.parameters, sac.critic.parameters)
    errors = masks = torch.zeros(len(sac.alpha), device=sac.alpha.device, dtype=sac.alpha.dtype)
    pieces = -(-bench.budget.synthetic // _CHUNK)
    for _ in range(pieces):
        rows = batch(bench, streams, synthetic, _CHUNK)
        noise = bench.spread(streams.normal("settle", _CHUNK, bench.layout.action_dim))
        q = q_values(sac.critic, sac.scaled(bench.layout.obs(rows)), bench.layout.action(rows)).mean(1)
        draw = [bench.spread(numbers) for numbers in draw_critics(sac.config, streams)]
        errors = errors + (td_target(sac, rows, noise, *draw) - q).mean(1) / pieces
        masks = masks + bench.layout.mask(rows).mean(1) / pieces
    shift = (errors / (1.0 - sac.config.discount * masks))[:, None, None, None]
    for critic in (sac.critic, sac.target_critic):
        critic.biases[-1].detach().add_(shift)


def _copy_tensors(to: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    for mine, other in zip(to, source, strict=True):
        mine.copy_(other)


@torch.no_grad()
def imagine(bench: Bench, sac: Sac, streams: Streams) -> Tensor:
    """Synthetic rows of one step ``(R or R Q, S, W)``, from states of the replay under the policies of `sac`."""
    runs, copies = len(bench.seeds), len(sac.log_alpha) // len(bench.seeds)

    def model(*given: Tensor) -> Tensor:
        raw = bench.model(*(x.reshape(runs, -1, *x.shape[2:]) for x in given))
        return raw.reshape(runs * copies, -1, raw.shape[-1])

    pieces = []
    for first in range(0, bench.budget.synthetic, _CHUNK):
        n = min(_CHUNK, bench.budget.synthetic - first)
        start = gather_rows(bench.real, streams.below("start", bench.real.shape[1], n))
        drawn = draw_noise(streams, 1, n, bench.layout)
        given = (bench.layout.obs(start), drawn.action, drawn.member, drawn.model)
        obs, *noise = (x.repeat_interleave(copies, 0) for x in given)
        rows, _ = branch(
            model, lambda obs, z: act(sac, obs, z), bench.terminated, obs, BranchNoise(*noise), bench.layout
        )
        pieces.append(rows)
    return torch.cat(pieces, dim=1)


def deterministic(bench: Bench, sac: Sac) -> Episodes:
    """Episodes ``(R, n)`` of the mean actions of R policies, from the same starts at every call."""
    return _episodes(bench, sac, bench.seeds, bench.budget.eval_episodes, "eval")


def traces(bench: Bench) -> list[list[Trace]]:
    """Episodes of each run's stochastic policy ``[R][n]``, played once a seed: its arms have that policy in common."""
    seeds = list(dict.fromkeys(bench.seeds))
    policies = learners(bench, bench.sac, [bench.seeds.index(seed) for seed in seeds])
    played = _episodes(bench, policies, seeds, bench.budget.bias_episodes, "bias")
    return [played.traces[seeds.index(seed)] for seed in bench.seeds]


def _episodes(bench: Bench, sac: Sac, seeds: Sequence[int], n: int, purpose: str) -> Episodes:
    """``n`` episodes of each policy of `sac`, whose row i belongs to ``seeds[i]``; those for "bias" are stochastic."""
    streams = replace(bench, seeds=tuple(seeds)).streams(purpose)

    @torch.no_grad()
    def actor(obs: Tensor) -> tuple[Tensor, Tensor | None]:
        if purpose != "bias":
            return act(sac, obs, None), None
        return sample_action(sac, sac.scaled(obs), streams.normal("action", n, bench.layout.action_dim))

    envs, used = EnvBatch(bench.task, len(seeds) * n, bench.drop), bench.engine
    played = play(envs, actor, streams.seeds("starts", n), used.device, used.dtype, record=purpose == "bias")
    envs.close()
    return played


@torch.no_grad()
def critics_along(bench: Bench, critic: StackedMLP, run: int, episodes: Sequence[Trace]) -> list[list[np.ndarray]]:
    """What the critics of one run at every share say of the steps of its episodes: ``[Q][n]`` arrays, twins averaged.

    ``critic`` has all ``R Q`` rows.
    """
    shares = len(bench.budget.shares)
    rows = slice(run * shares, (run + 1) * shares)
    mine = StackedMLP(
        [w[rows] for w in critic.weights], [b[rows] for b in critic.biases], critic.activation, critic.last
    )
    obs, action = (
        torch.as_tensor(np.concatenate([np.stack(getattr(trace, name)) for trace in episodes])).to(bench.real)
        for name in ("obs", "action")
    )
    q = q_values(mine, obs.expand(shares, -1, -1), action.expand(shares, -1, -1)).mean(1).double().cpu().numpy()
    ends = np.cumsum([len(trace.reward) for trace in episodes])[:-1]
    return [np.split(values, ends) for values in q]
