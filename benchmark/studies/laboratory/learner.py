"""Soft actor-critic, the project's own, on synthetic rows of the laboratory's system.

No environment is stepped and no model is fitted: a synthetic row starts at a state of a random policy's data, takes an
action of the current policy, and its next state is exact but for a displacement of known size. The rest of a batch is
the random policy's own transitions. Arms that share the learner's constants train in lockstep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from benchmark.studies.laboratory.arms import BATCH, SYSTEM, Arm, constants, data
from mbpo import sac
from mbpo.buffer import Layout
from mbpo.diagnostics import policy_summary
from mbpo.sac import Sac
from mbpo.streams import Streams

LAYOUT = Layout(SYSTEM.obs_dim, SYSTEM.masses)
_CPU, _FP32 = torch.device("cpu"), torch.float32
_STATES, _HORIZON = 16, 400
"""Start states of Monte-Carlo returns, and their steps: what lies beyond weighs 2 %."""


@dataclass
class Bench:
    """The arms and seeds of one lockstep job, R runs: arm by arm, seed by seed."""

    runs: Sequence[tuple[Arm, int]]

    def __post_init__(self) -> None:
        self.streams = Streams([f"laboratory/{arm.name}/{seed}" for arm, seed in self.runs], _CPU, _FP32)
        states, actions = data()
        self.states, self.actions = (torch.as_tensor(x, dtype=_FP32) for x in (states, actions))
        self.low, self.high, self.std = self.states.amin(0), self.states.amax(0), self.states.std(0)
        self.A, self.B = (torch.as_tensor(x.T.copy(), dtype=_FP32) for x in (SYSTEM.A, SYSTEM.B))
        self.learner = Sac(constants(self.runs[0][0]), LAYOUT, self.streams)

    def vector(self, of: Callable[[Arm], float]) -> Tensor:
        """A number of each run's arm: ``(R, 1, 1)``."""
        return torch.tensor([of(arm) for arm, _ in self.runs], dtype=_FP32)[:, None, None]

    def rows(self) -> Tensor:
        """A batch for every run: packed rows ``(R, B, W)``, real ones first."""
        n, m, scale = SYSTEM.obs_dim, SYSTEM.masses, self.vector(lambda arm: arm.obs_scale)
        number = torch.arange(BATCH)[:, None]
        synthetic = number >= self.vector(lambda arm: arm.real_rows)
        drawn = (self.streams.uniform("rows", BATCH) * len(self.states)).long()
        noise = self.streams.normal("displacement", 2, BATCH, n)
        reach = self.vector(lambda arm: arm.displacement) * self.std
        moved = synthetic & (number % 2 == 0) & (self.vector(lambda arm: arm.displaced_starts) > 0)
        state = self.states[drawn] + moved * reach * noise[:, 0]
        chosen = sac.act(self.learner, state * scale, self.streams.normal("act", BATCH, m))
        action = torch.where(synthetic, chosen, self.actions[drawn])
        after = state @ self.A + action @ self.B + synthetic * reach * noise[:, 1]
        clipped = synthetic & (self.vector(lambda arm: arm.clip) > 0)
        after = torch.where(clipped, torch.minimum(torch.maximum(after, self.low), self.high), after)
        paid = reward(state, action) * self.vector(lambda arm: arm.reward)[..., 0]
        return LAYOUT.pack(state * scale, action, after * scale, paid, torch.ones_like(paid))

    @torch.no_grad()
    def adjusted(self, rows: Tensor, noise: Tensor) -> Tensor:
        """`rows` whose rewards make the critics' target what each arm wants it to be.

        The learner adds the lesser critic of its own next action and that action's entropy; a reward takes out what an
        arm leaves out, to the last bit but rounding. `noise` ``(R, B, A)`` is that of the next action.
        """
        soft, pessimist, own = (
            self.vector(of)[..., 0]
            for of in (lambda arm: arm.soft, lambda arm: arm.pessimist, lambda arm: arm.own_action)
        )
        if bool((soft * pessimist * own).all()):
            return rows
        learner, next_obs = self.learner, LAYOUT.next_obs(rows)
        action, log_prob = sac.sample_action(learner, next_obs, noise)
        q = sac.q_values(learner.target_critic, next_obs, action)
        least = q.amin(1)
        elsewhere = 2.0 * self.streams.uniform("random-next-action", BATCH, SYSTEM.masses) - 1.0
        q = torch.where(own[:, None] > 0, q, sac.q_values(learner.target_critic, next_obs, elsewhere))
        wanted = torch.where(pessimist > 0, q.amin(1), q.mean(1))
        rows = rows.clone()
        rows[..., -2] += SYSTEM.discount * (wanted - least + (1.0 - soft) * learner.alpha[:, None] * log_prob)
        return rows

    def update(self) -> dict[str, Tensor]:
        """One update of every run."""
        noise = self.streams.normal("sac", 2, BATCH, SYSTEM.masses)
        return sac.update(self.learner, self.adjusted(self.rows(), noise[:, 0]), noise)


def reward(state: Tensor, action: Tensor) -> Tensor:
    """``(...)`` of ``state (..., 2 m), action (..., m)``."""
    return -SYSTEM.dt * (state.square().sum(-1) + action.square().sum(-1))


@torch.no_grad()
def measure(bench: Bench, info: dict[str, Tensor]) -> dict[str, Tensor]:
    """Where every run stands, ``(R,)`` each.

    * ``temperature, entropy, q_mean`` of the last batch; ``saturated_on, saturated_off``: share of action dimensions
      beyond 0.99 at states of the data and at next states of synthetic rows.
    * ``reward_part, entropy_part``: of the Monte-Carlo soft value of the policy in the true system, from states of the
      data.
    * ``cost``: discounted cost of the mean action from the same states over the least possible.
    """
    learner, scale = bench.learner, bench.vector(lambda arm: arm.obs_scale)
    rows = bench.rows()
    shares = []
    for seen in (LAYOUT.obs(rows), LAYOUT.next_obs(rows)):
        mean, log_std = sac.policy(learner, seen)
        shares.append(policy_summary(mean, log_std, mean[..., 0])["saturated_share"])
    state = bench.states[:: len(bench.states) // _STATES][:_STATES].expand(len(bench.runs), -1, -1)
    reward_part, entropy_part = torch.zeros(2, *state.shape[:2])
    returned = torch.zeros(state.shape[:2])
    sampled, by_mean, weight = state, state, 1.0
    noise = bench.streams.fork("measure")
    for step in range(_HORIZON):
        action, log_prob = sac.sample_action(learner, sampled * scale, noise.normal("act", _STATES, SYSTEM.masses))
        reward_part += weight * reward(sampled, action)
        entropy_part -= weight * learner.alpha[:, None] * log_prob * (step > 0)
        best = sac.act(learner, by_mean * scale, None)
        returned += weight * reward(by_mean, best)
        sampled, by_mean = sampled @ bench.A + action @ bench.B, by_mean @ bench.A + best @ bench.B
        weight *= SYSTEM.discount
    start = state[0].double().numpy()
    parts = {"reward_part": reward_part.mean(1), "entropy_part": entropy_part.mean(1)}
    at_batch = {"temperature": learner.alpha, **{name: info[name] for name in ("entropy", "q_mean")}}
    saturated = {"saturated_on": shares[0], "saturated_off": shares[1]}
    return at_batch | saturated | parts | {"cost": returned.mean(1) / SYSTEM.optimum(start).mean()}


def train(arms: Sequence[Arm], seeds: int | Sequence[int], updates: int, looks: int = 10) -> pd.DataFrame:
    """Every arm and seed, looked at `looks` times: ``arm, form, seed, updates`` and what `measure` says.

    `seeds` are so many from 0 on, or the seeds themselves.
    """
    found = []
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    for group in lockstep(arms):
        bench = Bench([(arm, seed) for arm in group for seed in numbers])
        for done in range(1, updates + 1):
            info = bench.update()
            if done % max(updates // looks, 1) == 0 or done == updates:
                columns = {name: value.double().numpy() for name, value in measure(bench, info).items()}
                names = {
                    "arm": [arm.name for arm, _ in bench.runs],
                    "form": [arm.form for arm, _ in bench.runs],
                    "seed": [seed for _, seed in bench.runs],
                }
                found.append(pd.DataFrame({**names, "updates": done, **columns}))
    return pd.concat(found, ignore_index=True)


def lockstep(arms: Sequence[Arm]) -> list[list[Arm]]:
    """Arms by the learner's constants."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        groups.setdefault(constants(arm).model_dump_json(), []).append(arm)
    return list(groups.values())
