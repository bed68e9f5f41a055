"""What an evaluation measures, on what and with whom, against the same figures put together by hand.

The figures themselves are tested in `test_diagnostics`; here a wrong critic, policy, row or stream is planted around.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers import FTFL, MBPO, parameters, small
from torch import Tensor
from toy_envs import DRIFT

from mbpo import Budget, diagnostics, look, loop, sac
from mbpo.buffer import gather_rows
from mbpo.config import Method, Target
from mbpo.diagnostics import soft_returns
from mbpo.envs import make_env
from mbpo.fast.engine import engine
from mbpo.fitting import Split
from mbpo.look import evaluate
from mbpo.loop import Run
from mbpo.state import Row, TrainState

DISCOUNT, EPISODES = 0.8, 3
LEARNER = {"discount": DISCOUNT, "init_temperature": 0.3}


def method(target: Target = MBPO, **changes: Any) -> Method:
    return small(target, LEARNER, model={"fit_every": 5, "updates": 10}, **changes)


def trained(*methods: Method, steps: int = 60, **budget: int) -> TrainState:
    """Runs after a few fits, with critics drawn apart so that which one is asked shows."""
    granted = {"env_steps": 200, "eval_every": 200, "eval_episodes": 2, "bias_episodes": EPISODES, **budget}
    state = TrainState(
        DRIFT, [Run(m, seed) for seed, m in enumerate(methods)], Budget(**granted), engine("cpu", "fp64")
    )
    while state.env_steps < steps:
        loop.advance(state)
    with torch.no_grad():
        for i, (live, late) in enumerate(
            zip(state.sac.critic.parameters, state.sac.target_critic.parameters, strict=True)
        ):
            noise = torch.Generator().manual_seed(i)
            live += 0.5 * torch.randn(live.shape, dtype=live.dtype, generator=noise)
            late -= 0.3
    return state


@pytest.fixture(scope="module")
def state() -> Iterator[TrainState]:
    made = trained(method(), method(FTFL))
    yield made
    made.close()


@pytest.fixture(scope="module")
def row(state: TrainState) -> Row:
    return evaluate(state)


def step_by_step(
    state: TrainState, r: int, name: str, episodes: int, noise: list[Tensor] | None
) -> list[dict[str, Any]]:
    """Episodes of run r, each in an environment of its own; the stochastic policy if `noise` ``[t] (R, n, A)``."""
    env, played = make_env(DRIFT), []
    for i in range(episodes):
        obs, _ = env.reset(seed=state.env_seed(r, f"{name}/{state.env_steps}/{i}"))
        trace: dict[str, Any] = {"obs": [], "action": [], "reward": [], "log_prob": []}
        over, t = False, 0
        while not over:
            given = torch.as_tensor(np.float32(obs), dtype=torch.float64).expand(len(state.runs), 1, -1)
            with torch.no_grad():
                mean, log_std = (x[r, 0] for x in sac.policy(state.sac, given))
            u = mean if noise is None else mean + log_std.exp() * noise[t][r, i]
            density = torch.distributions.Normal(mean, log_std.exp()).log_prob(u) - (1 - u.tanh().square()).log()
            trace["obs"].append(np.float32(obs))
            trace["action"].append(u.tanh().numpy())
            trace["log_prob"].append(float(density.sum()))
            obs, reward, terminated, truncated, _ = env.step(u.tanh().numpy())
            trace["reward"].append(float(reward))
            over, t = terminated or truncated, t + 1
        trace["terminated"] = terminated
        played.append(trace)
    return played


def test_returns_are_of_the_deterministic_policy(state: TrainState, row: Row) -> None:
    for r in range(2):
        played = step_by_step(state, r, "eval", 2, None)
        np.testing.assert_allclose(row.returns[r], [sum(p["reward"]) for p in played], rtol=1e-6)
        assert row.lengths[r].tolist() == [len(p["reward"]) for p in played]


def test_critic_bias_is_of_the_critics_mean_against_soft_returns_of_the_stochastic_policy(
    state: TrainState, row: Row
) -> None:
    """`evaluate` forks its noise from the run's streams at their state then: the fork is made again from there."""
    before = state.streams.states()
    fresh = evaluate(state)
    state.streams.restore(before)
    forked = state.streams.fork(f"bias/{state.env_steps}")
    noise = [forked.normal("act", EPISODES, 1) for _ in range(25)]
    assert not np.array_equal(fresh.diagnostics["mc_q"], row.diagnostics["mc_q"])  # a fork is of one use
    for r in range(2):
        rows: list[tuple[float, float, float]] = []
        for p in step_by_step(state, r, "bias", EPISODES, noise):
            plain, entropy = soft_returns(
                p["reward"], p["log_prob"], DISCOUNT, float(state.sac.log_alpha.detach()[r].exp())
            )
            joined = torch.as_tensor(np.concatenate([np.stack(p["obs"]), np.stack(p["action"])], 1)).double()
            with torch.no_grad():
                twins = state.sac.critic(joined.expand(2, 1, -1, -1))[r, :, :, 0]
            n = len(plain)
            rows += [
                (float(twins[:, t].mean()), plain[t], entropy[t])
                for t in range(n)
                if p["terminated"] or DISCOUNT ** (n - t) <= 0.05
            ]
        q, plain_part, entropy_part = np.array(rows).T
        error = q - plain_part - entropy_part
        expected = {
            "mc_q": q.mean(),
            "mc_reward_part": plain_part.mean(),
            "mc_entropy_part": entropy_part.mean(),
            "critic_bias": error.mean(),
            "critic_bias_over": error.clip(min=0).mean(),
            "critic_bias_under": error.clip(max=0).mean(),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(fresh.diagnostics[name][r], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_no_bias_is_measured_without_episodes_for_it() -> None:
    state = trained(small(model=None), steps=41, bias_episodes=0)
    assert not any(name.startswith(("critic_bias", "mc_")) for name in evaluate(state).diagnostics)
    state.close()


def test_model_measures_are_of_held_out_rows(state: TrainState, row: Row) -> None:
    assert state.dynamics is not None and state.split is not None
    held = gather_rows(state.real.rows, state.split.holdout)
    for name, value in diagnostics.model_report(state.dynamics, held).items():
        np.testing.assert_allclose(row.diagnostics[name], value.detach(), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(row.diagnostics["model_holdout_mse"], state.dynamics.holdout_mse.mean(1))
    assert row.diagnostics["rollout_length"].tolist() == [1.0, 1.0]


def test_of_a_long_holdout_rows_of_every_age_are_measured(monkeypatch: pytest.MonkeyPatch, state: TrainState) -> None:
    assert state.split is not None
    monkeypatch.setattr(look, "_SAMPLE", 4)
    picked = look._spread(torch.arange(10).expand(2, -1))
    assert picked.tolist() == [[0, 2, 5, 7]] * 2
    assert look._spread(torch.arange(3).expand(2, -1)).tolist() == [[0, 1, 2]] * 2


def test_the_target_map_and_its_last_move(state: TrainState, row: Row) -> None:
    """Run 0 does not normalize; run 1 does, with the statistics of its training rows at the last two fits."""
    assert state.dynamics is not None and state.split is not None
    split = state.split
    found = {name: value for name, value in row.diagnostics.items() if name.startswith("target_")}
    assert {name: float(value[0]) for name, value in found.items()} == {
        "target_shift_reward": 0.0,
        "target_scale_reward": 1.0,
        "target_scale_obs_geomean": 1.0,
        "target_scale_moved": 0.0,
    }
    targets = state.layout.targets(state.real.rows[1, split.train[1]])
    std = targets.std(0, correction=0)
    last = split.train[1] < split.size - 5  # what the fit before, five steps earlier, trained on
    before = targets[last].std(0, correction=0)
    expected = {
        "target_shift_reward": targets[:, -1].mean(),
        "target_scale_reward": std[-1],
        "target_scale_obs_geomean": std[:-1].log().mean().exp(),
        "target_scale_moved": (std / before).log().abs().max(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name][1], float(value), rtol=1e-9, err_msg=name)
    assert found["target_scale_moved"][1] > 1e-3


def test_the_scale_has_not_moved_at_the_first_fit() -> None:
    state = trained(method(FTFL), steps=41)
    assert evaluate(state).diagnostics["target_scale_moved"].tolist() == [0.0]
    state.close()


def test_buffers_are_measured_over_all_their_rows_newest_first(state: TrainState) -> None:
    """2,048 places spread over what a buffer holds; of a full one the spare row and what was overwritten count not."""
    assert state.synthetic is not None
    row = evaluate(state)
    for name, buffer in (("real", state.real), ("synthetic", state.synthetic)):
        for r in range(2):
            size, added = int(buffer.size[r]), int(buffer.added[r])
            ages = (torch.linspace(0, 1, 2048, dtype=torch.float64) * (1 - 1e-6) * size).long()
            reward = state.layout.reward(buffer.rows[r, (added - 1 - ages) % buffer.capacity])
            np.testing.assert_allclose(row.diagnostics[f"{name}_reward_mean"][r], reward.mean(), rtol=1e-9)
            np.testing.assert_allclose(row.diagnostics[f"{name}_reward_std"][r], reward.std(correction=0), rtol=1e-9)


def test_the_temperature_is_alpha_and_not_its_logarithm(state: TrainState, row: Row) -> None:
    np.testing.assert_allclose(row.diagnostics["temperature"], state.sac.log_alpha.detach().exp(), rtol=1e-12)
    for name, value in state.info.items():
        np.testing.assert_array_equal(row.diagnostics[name], value)


def test_measuring_draws_from_no_stream_of_training() -> None:
    """The next steps of a run that was measured are those of one that was not."""
    whole = {"env_steps": 72, "eval_every": 72}  # at whose end every row of the real buffer is in use
    measured, plain = trained(method(FTFL), **whole), trained(method(FTFL), **whole)
    for _ in range(3):
        evaluate(measured)
    for state in (measured, plain):
        for _ in range(12):
            loop.advance(state)
    mine, other = parameters(measured, 0), parameters(plain, 0)
    assert all(torch.equal(a, b) for name in mine for a, b in zip(mine[name], other[name], strict=True))
    measured.close()
    plain.close()


def test_a_row_keeps_its_side_in_training_also_where_the_buffer_is_full() -> None:
    """Refits every five steps on a buffer of 60 rows, 30 of which are overwritten."""
    state = trained(method(real_capacity=60), steps=41)
    sides: list[Split] = []
    while state.env_steps < 90:
        loop.advance(state)
        assert state.split is not None
        sides.append(state.split)
    for old, new in itertools.pairwise(sides):
        assert set(old.holdout[0].tolist()) <= set(new.holdout[0].tolist())
        assert set(old.train[0].tolist()) <= set(new.train[0].tolist())
    assert (sides[-1].size, sides[-1].holdout.shape[1]) == (60, 12)
    state.close()
