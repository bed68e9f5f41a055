"""The order of things in `train`: what is drawn, stored, fitted and yielded when, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from helpers import FTFL, MBPO, drive, small, small_janner
from toy_envs import DRIFT, ENDLESS, LQR

import mbpo
from mbpo import Budget, InputError, Method, loop, sac
from mbpo import state as state_module
from mbpo.config import build
from mbpo.loop import Run
from mbpo.state import TrainState


def test_the_package_offers_train() -> None:
    from mbpo import Row, Run, train

    assert (Row, Run) == (loop.Row, loop.Run)
    assert mbpo.train is train and train.__module__ == "mbpo.api"


# Steps, updates and rows


def test_rows_come_untrained_at_every_period_and_at_the_end() -> None:
    method = small(utd=3, random_steps=40)
    rows, state = drive(DRIFT, [Run(method, 0), Run(method, 1)], Budget(env_steps=100, eval_every=30, eval_episodes=4))
    assert [row.env_steps for row in rows] == [0, 30, 60, 90, 100]
    # The block of updates that follows the last random step is the first one.
    assert [row.updates for row in rows] == [0, 0, 3 * 21, 3 * 51, 3 * 61]
    assert state.updates == 3 * 61 and float(state.sac.critic_adam.steps[0, 0]) == 3 * 61
    for row in rows:
        assert row.returns.shape == row.lengths.shape == (2, 4)
        assert all(values.shape == (2,) for values in row.diagnostics.values())


def test_diagnostics_appear_with_what_they_measure() -> None:
    budget = Budget(env_steps=60, eval_every=30, eval_episodes=1)
    (first, second, third), _ = drive(DRIFT, [Run(small(), 0)], budget)
    assert first.diagnostics.keys() == {"temperature", "diverged"}
    policy = {"pre_tanh_mean_abs", "pre_tanh_mean_max", "log_std_mean", "log_prob_mean", "saturated_share"}
    real = {"real_reward_mean", "real_reward_std", "real_reward_low", "real_reward_high", "real_terminated_share"}
    assert second.diagnostics.keys() == {"temperature", "diverged"} | policy | real
    learner = {"q_mean", "critic_loss", "actor_loss", "entropy", "feature_rank", "feature_norm"}
    learner |= {"critic_gradient_norm", "actor_gradient_norm", "eval_q", "eval_reward_part", "eval_entropy_part"}
    learner |= {"eval_bias_over", "eval_bias_under"}
    model = {"model_holdout_mse", "reward_r2", "logvar_target", "logvar_raw", "rollout_length"}
    assert third.diagnostics.keys() >= learner | model | {"synthetic_reward_mean", "synthetic_reward_std"}
    (*_, last), _ = drive(DRIFT, [Run(small(model=None), 0)], budget)
    assert last.diagnostics.keys() == second.diagnostics.keys() | learner


def test_reported_rewards_are_those_of_the_buffers() -> None:
    rows, state = drive(
        DRIFT, [Run(small(), 0), Run(small(FTFL), 1)], Budget(env_steps=90, eval_every=90, eval_episodes=1)
    )
    assert state.synthetic is not None
    for name, buffer in (("real", state.real), ("synthetic", state.synthetic)):
        for r in range(2):
            reward = state.layout.reward(buffer.rows[r, : int(buffer.size[r])])
            # 2,048 rows spread over the buffer stand for all of it.
            np.testing.assert_allclose(rows[-1].diagnostics[f"{name}_reward_mean"][r], reward.mean(), atol=0.02)
            np.testing.assert_allclose(rows[-1].diagnostics[f"{name}_reward_std"][r], reward.std(), rtol=0.1)


@pytest.mark.parametrize(("every", "expected"), [(30, [40, 70, 100, 130]), (45, [40, 85, 130])])
def test_the_model_is_fitted_when_learning_starts_and_then_periodically(
    monkeypatch: pytest.MonkeyPatch, every: int, expected: list[int]
) -> None:
    """On all real data so far, and before the rollouts and updates of that step."""
    events: list[tuple[str, int, int]] = []

    def spy(name: str) -> None:
        original: Callable[[TrainState], None] = getattr(loop, name)

        def wrapped(state: TrainState) -> None:
            events.append((name, state.env_steps, int(state.real.size.min())))
            original(state)

        monkeypatch.setattr(loop, name, wrapped)

    for name in ("fit_model", "branch_rollouts", "update_block"):
        spy(name)
    method = small(model={"fit_every": every, "updates": 2}, utd=1)
    drive(DRIFT, [Run(method, 0)], Budget(env_steps=130, eval_every=130, eval_episodes=1))
    assert all(step == size for _, step, size in events)
    assert [step for name, step, _ in events if name == "fit_model"] == expected
    for name in ("branch_rollouts", "update_block"):
        assert [step for kind, step, _ in events if kind == name] == list(range(40, 131))
    at_70 = [name for name, step, _ in events if step == expected[1]]
    assert at_70 == ["fit_model", "branch_rollouts", "update_block"]


# What enters the buffers and the batches


def test_the_random_phase_acts_uniformly_whatever_the_policy() -> None:
    method = small(model=None, random_steps=2_000)
    _, state = drive(LQR, [Run(method, 0), Run(method, 1)], Budget(env_steps=1_999, eval_every=1_999, eval_episodes=1))
    actions = state.layout.action(state.real.rows[:, :1_999])[..., 0].numpy()
    for run in actions:
        assert scipy.stats.kstest(run, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3
        assert abs(np.corrcoef(run[1:], run[:-1])[0, 1]) < 0.1
    assert abs(np.corrcoef(actions)[0, 1]) < 0.1


def test_after_the_random_phase_the_policy_acts() -> None:
    """A policy that stands still and has next to no noise: its actions are the tanh of its mean."""
    frozen = {"learning_rate": 1e-12, "min_log_std": -20.0, "max_log_std": -18.0}
    method = small(model=None, sac=frozen)
    _, state = drive(DRIFT, [Run(method, 0), Run(method, 1)], Budget(env_steps=100, eval_every=100, eval_episodes=1))
    rows = state.real.rows[:, :100]
    gap = (state.layout.action(rows) - sac.act(state.sac, state.layout.obs(rows), None)).abs()[..., 0]
    assert (gap[:, 40:] < 1e-5).all(), "the policy does not act from step 41 on"
    assert (gap[:, :40] > 1e-3).float().mean() > 0.95 and (gap[:, 39] > 1e-3).all(), "fewer than 40 random steps"


def test_policy_actions_are_noisy_in_training() -> None:
    """The same frozen policy with log std 0 explores."""
    frozen = {"learning_rate": 1e-12, "min_log_std": -0.01, "max_log_std": 0.01}
    _, state = drive(
        DRIFT, [Run(small(model=None, sac=frozen), 0)], Budget(env_steps=240, eval_every=240, eval_episodes=1)
    )
    rows = state.real.rows[0, 40:240]
    mean = sac.policy(state.sac, state.layout.obs(rows)[None])[0][0]
    z = (torch.atanh(state.layout.action(rows)) - mean)[:, 0].detach().numpy()
    assert scipy.stats.kstest(z, scipy.stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("task", [ENDLESS, DRIFT])
def test_a_time_limit_leaves_the_mask_at_one(task: str) -> None:
    """Truncation after 5 steps never masks; leaving the walls does, and only that."""
    method = small(model=None, random_steps=1_000)
    _, state = drive(task, [Run(method, 0), Run(method, 1)], Budget(env_steps=300, eval_every=300, eval_episodes=1))
    rows = state.real.rows[:, :300]
    next_obs, mask = state.layout.next_obs(rows), state.layout.mask(rows)
    out = next_obs[..., 0].abs() > 0.6
    if task == ENDLESS:
        assert (mask == 1).all()
        assert state.episodes.tolist() == [61, 61]
    else:
        assert torch.equal(mask, 1.0 - out.double()) and (mask == 0).any()
    # A transition's next_obs is where its own episode went, not where the next one starts.
    continued = (state.layout.obs(rows)[:, 1:] == next_obs[:, :-1]).all(-1)
    if task == ENDLESS:
        expected = torch.arange(1, 300) % 5 != 0
        assert torch.equal(continued, expected.expand(2, -1))
    else:
        assert not (continued & out[:, :-1]).any() and continued.double().mean() > 0.8


@pytest.mark.parametrize(("ratio", "real"), [(0.0, 0), (0.05, 2), (0.5, 16), (1.0, 32)])
def test_batches_mix_real_and_synthetic_rows_by_their_ratio(
    monkeypatch: pytest.MonkeyPatch, ratio: float, real: int
) -> None:
    """5 % of 32 rows round up to 2. Synthetic rows are told by their reward."""
    update, seen = sac.update, []

    def spy(learner: Any, rows: torch.Tensor, noise: torch.Tensor) -> Any:
        seen.append((rows[..., -2] == 7.0).sum(1).tolist())
        return update(learner, rows, noise)

    def paid_seven(self: Any, obs: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(obs, (0, 1), value=7.0)

    monkeypatch.setattr(loop.sac, "update", spy)
    monkeypatch.setattr("mbpo.dynamics.GaussianEnsemble.sample", paid_seven)
    method = small(real_ratio=ratio)
    drive(DRIFT, [Run(method, 0), Run(method, 1)], Budget(env_steps=45, eval_every=45, eval_episodes=1))
    assert seen == [[32 - real] * 2] * 12


def test_every_update_has_a_batch_and_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    update, batches, noises = sac.update, [], []

    def spy(learner: Any, rows: torch.Tensor, noise: torch.Tensor) -> Any:
        batches.append(rows.clone())
        noises.append(noise.clone())
        return update(learner, rows, noise)

    monkeypatch.setattr(loop.sac, "update", spy)
    method = small(model=None, utd=4)
    drive(DRIFT, [Run(method, 0), Run(method, 1)], Budget(env_steps=50, eval_every=50, eval_episodes=1))
    assert len(batches) == 44
    drawn = torch.stack(noises)
    assert drawn.unique().numel() == drawn.numel()
    rewards = torch.stack([b[..., -2] for b in batches])  # (44, R, B)
    assert all(not torch.equal(a, b) for a, b in zip(rewards[1:], rewards[:-1], strict=True))
    assert not torch.equal(rewards[:, 0], rewards[:, 1])
    held = set(drive(DRIFT, [Run(method, 0)], Budget(env_steps=50))[1].real.rows[0, :50, -2].tolist())
    assert set(rewards[:, 0].flatten().tolist()) == held, "some real row is never replayed"


def test_progress_is_told_the_env_steps() -> None:
    told: list[int] = []
    budget = Budget(env_steps=7, eval_every=7, eval_episodes=1)
    drive(DRIFT, [Run(small(model=None), 0)], budget, progress=told.append)
    assert told == [1, 2, 3, 4, 5, 6, 7]


# Tasks


def test_dropped_groups_leave_observations_and_models_smaller() -> None:
    runs, budget = [Run(small(random_steps=20), 0)], Budget(env_steps=22, eval_every=22, eval_episodes=1)
    rows, state = drive("dmc:hopper-hop", runs, budget, drop=["touch"])
    assert (state.layout.obs_dim, state.layout.action_dim) == (13, 4)
    assert state.dynamics is not None and state.dynamics.net.weights[0].shape == (1, 3, 17, 16)
    assert rows[-1].lengths.tolist() == [[1000]]
    assert state.terminated(torch.full((2, 3, 13), 1e9)).sum() == 0


# What is refused


class Forbidden:
    def __init__(self, *args: object) -> None:
        raise AssertionError("an environment was built")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "runs is empty"),
        ([Run(small(), 0), Run(small(utd=3), 1)], r"runs\[1\] differs from runs\[0\] in utd: only target and seed"),
        ([Run(small(), 0), Run(small_janner(), 0)], r"runs\[1\] differs .* in model, rollout, sac: "),
        ([Run(small(), 0), Run(small(FTFL), 0), Run(small(MBPO), 0)], r"runs\[2\] repeats runs\[0\]"),
        ([Run(small(), 0), Run(small(), -1)], r"runs\[1\].seed = -1: seeds must not be negative"),
    ],
    ids=["empty", "utd", "family", "repeated", "negative"],
)
def test_unusable_runs_are_refused_before_an_environment_is_built(
    monkeypatch: pytest.MonkeyPatch, runs: list[Run], message: str
) -> None:
    monkeypatch.setattr(state_module, "EnvBatch", Forbidden)
    with pytest.raises(InputError, match=message):
        next(iter(loop.train(DRIFT, runs, Budget())))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "dmc:hopper-hopp"}, "hopper-hopp.*hopper-hop"),
        ({"task": "hopper"}, "hopper"),
        ({"drop": ["wings"]}, "wings"),
        ({"device": "tpu"}, "tpu"),
        ({"precision": "fp31"}, "fp31.*fp32"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_unusable_options_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    given = {"task": "dmc:hopper-hop", "device": "cpu", **options}
    with pytest.raises(InputError, match=message):
        next(iter(loop.train(given.pop("task"), [Run(small(), 0)], Budget(), **given)))


@pytest.mark.parametrize("name", ["random_steps", "real_capacity"])
def test_a_model_cannot_be_asked_to_learn_from_one_row(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} = 1: a model needs 2 rows"):
        build(Method, {name: 1})
    assert build(Method, {name: 1, "model": None}).model is None
    method = small(random_steps=2)
    (*_, last), _ = drive(DRIFT, [Run(method, 0)], Budget(env_steps=5, eval_every=5, eval_episodes=1))
    assert np.isfinite(last.diagnostics["model_holdout_mse"]).all()


def test_defaults_are_the_papers() -> None:
    """What a caller who names nothing gets."""
    assert Method().utd == 20 and Budget().env_steps == 500_000
