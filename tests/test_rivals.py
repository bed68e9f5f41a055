"""Rival explanations as constants: each does what it says, and at its default nothing."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from mbpo import Budget, InputError, Method, ModelConfig, RolloutConfig, Run, SacConfig, sac
from mbpo.buffer import Layout
from mbpo.envs import make_env, task_info
from mbpo.envs.rewards import reward_for
from mbpo.fast.engine import engine
from mbpo.loop import advance
from mbpo.rollouts import revised
from mbpo.sac import Sac
from mbpo.state import TrainState
from mbpo.streams import Streams

LAYOUT = Layout(obs_dim=3, action_dim=2)
TOY = "gym:benchmark.toys:LQR-v0"
SMALL = ModelConfig(
    ensemble_size=2, num_elites=2, hidden_dims=(16,), weight_decay=(0.0, 0.0), updates=20, fit_every=20, batch_size=32
)


def learner(**constants: Any) -> Sac:
    streams = Streams(["a", "b"], torch.device("cpu"), torch.float64)
    return Sac(SacConfig(hidden_dims=(16, 16), **constants), LAYOUT, streams)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(n: int = 32, seed: int = 0) -> torch.Tensor:
    packed = normal(2, n, LAYOUT.width, seed=seed)
    packed[..., -1] = 1.0
    return packed


def train_some(method: Method, steps: int = 60, task: str = TOY) -> TrainState:
    state = TrainState(task, [Run(method, 0), Run(method, 1)], Budget(env_steps=steps), engine("cpu", "fp64"))
    for _ in range(steps):
        advance(state)
    state.close()
    return state


def method(rollout: RolloutConfig | None = None, **constants: Any) -> Method:
    return Method(
        sac=SacConfig(hidden_dims=(16, 16), batch_size=16, **constants),
        model=SMALL,
        rollout=rollout or RolloutConfig(per_step=16),
        utd=2,
        random_steps=20,
        real_capacity=1_000,
    )


# The temperature


def test_a_fixed_temperature_is_a_constant() -> None:
    sac_ = learner(temperature="fixed", init_temperature=0.3)
    for k in range(5):
        sac.update(sac_, rows(seed=k), normal(2, 2, 32, 2, seed=k))
    assert sac_.alpha.tolist() == pytest.approx([0.3, 0.3], rel=1e-12)


def test_a_bounded_temperature_meets_its_bound_and_follows_the_free_one_below_it() -> None:
    free, bound = learner(init_temperature=0.3), learner(init_temperature=0.3, max_temperature=0.3001)
    for net in (free, bound):  # no entropy at all, so the temperature rises
        with torch.no_grad():
            net.actor.biases[-1][..., 2:] -= 50.0
    for k in range(5):
        for net in (free, bound):
            sac.update(net, rows(seed=k), normal(2, 2, 32, 2, seed=k))
    assert (free.alpha > 0.3001).all()
    assert bound.alpha.tolist() == pytest.approx([0.3001, 0.3001], rel=1e-9)


def test_the_temperature_has_a_learning_rate_of_its_own() -> None:
    moved = {}
    for rate in (None, 1e-2):
        net = learner(temperature_learning_rate=rate)
        sac.update(net, rows(), normal(2, 2, 32, 2))
        moved[rate] = net.log_alpha.detach().abs()
    # Adam's first step is its learning rate.
    assert moved[None].tolist() == pytest.approx([3e-4, 3e-4], rel=1e-4)
    assert moved[1e-2].tolist() == pytest.approx([1e-2, 1e-2], rel=1e-4)


def test_a_temperature_that_starts_above_its_bound_is_refused() -> None:
    with pytest.raises(ValueError, match=r"init_temperature = 1.0 exceeds max_temperature = 0.1"):
        SacConfig(max_temperature=0.1)


# The policy's mean


def test_a_bounded_mean_is_bounded_and_its_density_is_that_of_the_bounded_gaussian() -> None:
    net, free = learner(mean_bound=3.0), learner()
    with torch.no_grad():
        for each in (net, free):
            each.actor.biases[-1][..., :2] += 40.0
    scaled_obs, noise = normal(2, 8, 3), normal(2, 8, 2, seed=1)
    mean, log_std = sac.policy(net, scaled_obs)
    raw, _ = sac.policy(free, scaled_obs)
    assert (mean.abs() <= 3.0).all() and (raw.abs() > 3.0).any()
    torch.testing.assert_close(mean, 3.0 * torch.tanh(raw / 3.0))
    action, log_prob = sac.sample_action(net, scaled_obs, noise)
    gaussian = torch.distributions.Normal(mean, log_std.exp())
    squashed = torch.distributions.TransformedDistribution(gaussian, [torch.distributions.TanhTransform()])
    inside = action.abs().amax(-1) < 1 - 1e-6  # its own density cancels near the edge
    assert inside.any()
    torch.testing.assert_close(log_prob[inside], squashed.log_prob(action).sum(-1)[inside], rtol=1e-5, atol=1e-5)


def test_a_penalty_on_the_mean_adds_its_own_gradient_alone() -> None:
    net, free = learner(mean_penalty=0.7), learner()
    batch, noise = rows(), normal(2, 32, 2)
    with_, without = (sac._actor_gradients(each, batch, noise)[0] for each in (net, free))
    mean, _ = sac.policy(free, LAYOUT.obs(batch))
    of_penalty = torch.autograd.grad(0.7 * mean.square().mean((1, 2)).sum(), free.actor.parameters)
    for a, b, c in zip(with_, without, of_penalty, strict=True):
        torch.testing.assert_close(a, b + c)


# The critics


def test_critics_with_layer_norm_are_those_of_torch() -> None:
    net = learner(critic_norm="layer")
    x = normal(2, 2, 5, 5)
    for r in range(2):
        for c in range(2):
            h = x[r, c]
            for layer in range(3):
                h = h @ net.critic.weights[layer][r, c] + net.critic.biases[layer][r, c]
                if layer < 2:
                    h = torch.relu(torch.nn.LayerNorm(16, elementwise_affine=False, dtype=torch.float64)(h))
            torch.testing.assert_close(net.critic(x)[r, c], h)
    assert net.target_critic.activation is net.critic.activation


# Observations of the learner


def test_a_learner_on_z_scored_observations_is_one_that_is_given_them() -> None:
    raw = 5.0 + 100.0 * normal(2, 200, 3, seed=3)
    norm, plain = learner(obs_norm="frozen"), learner()
    norm.fit_obs(raw)
    mean, std = raw.mean(1, keepdim=True), raw.std(1, keepdim=True, unbiased=False)
    batch, noise = rows(), normal(2, 2, 32, 2)
    scaled = batch.clone()
    batch[..., :3], batch[..., 5:8] = raw[:, :32], raw[:, 32:64]
    scaled[..., :3], scaled[..., 5:8] = (raw[:, :32] - mean) / std, (raw[:, 32:64] - mean) / std
    sac.update(norm, batch, noise)
    sac.update(plain, scaled, noise)
    for a, b in zip(norm.actor.parameters + norm.critic.parameters, plain.actor.parameters + plain.critic.parameters,
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(sac.act(norm, batch[..., :3], None), sac.act(plain, scaled[..., :3], None))


@pytest.mark.parametrize(("kind", "rows_read"), [("frozen", 20), ("running", 60)])
def test_observations_are_z_scored_by_the_random_phase_or_by_the_last_fit(kind: str, rows_read: int) -> None:
    state = train_some(method(obs_norm=kind), steps=60)
    obs = state.layout.obs(state.real.filled()[:, :rows_read])
    torch.testing.assert_close(state.sac.obs_shift[:, 0], obs.mean(1))
    torch.testing.assert_close(state.sac.obs_scale[:, 0], obs.std(1, unbiased=False))


# Rollouts


def test_without_noise_the_mean_is_stored() -> None:
    noises = {}

    def model(obs: torch.Tensor, action: torch.Tensor, member: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        noises["noise"] = noise
        return torch.cat([obs, obs[..., :1]], -1) + noise

    obs, noise = normal(2, 4, 3), normal(2, 4, 4, seed=1)
    low = torch.full((2, 1, 4), -math.inf, dtype=torch.float64)
    raw = revised(model, RolloutConfig(noise="none"), low, -low, None)(obs, obs, obs[..., 0], noise)
    assert (noises["noise"] == 0).all()
    torch.testing.assert_close(raw, torch.cat([obs, obs[..., :1]], -1))
    same = revised(model, RolloutConfig(), low, -low, None)(obs, obs, obs[..., 0], noise)
    torch.testing.assert_close(same, raw + noise)


def test_clipped_rollouts_stay_within_the_real_rows_of_the_last_fit() -> None:
    free = train_some(method(RolloutConfig(per_step=16)))
    held = train_some(method(RolloutConfig(per_step=16, clip="data-range")))
    for state, inside in ((free, False), (held, True)):
        assert state.synthetic is not None
        real, synthetic = state.layout.targets(state.real.filled()), state.layout.targets(state.synthetic.filled())
        within = (synthetic >= real.amin(1, keepdim=True)) & (synthetic <= real.amax(1, keepdim=True))
        assert bool(within.all()) is inside


@pytest.mark.parametrize("name", ["quadruped-walk", "quadruped-run", "humanoid-stand", "humanoid-walk", "humanoid-run"])
def test_the_oracle_reward_is_the_simulators(name: str) -> None:
    info = task_info(f"dmc:{name}")
    env, rng = make_env(info.id), np.random.default_rng(1)
    paid, computed = [], []
    for episode in range(3):
        env.reset(seed=episode)
        for _ in range(40):
            action = rng.uniform(-1, 1, info.action_dim).astype(np.float32)
            next_obs, reward, *_ = env.step(action)
            paid.append(reward)
            computed.append(float(reward_for(info)(torch.as_tensor(action), torch.as_tensor(next_obs))))
    env.close()
    assert len(set(paid)) > 50
    np.testing.assert_allclose(computed, paid, rtol=1e-4, atol=1e-5)


def test_an_oracle_reward_that_nobody_knows_or_can_read_is_refused() -> None:
    with pytest.raises(InputError, match="needs a reward that can be read off"):
        TrainState(TOY, [Run(method(RolloutConfig(reward="oracle")), 0)], Budget(env_steps=30), engine("cpu"))
    with pytest.raises(InputError, match="its reward reads torso_velocity, which drop leaves out"):
        reward_for(task_info("dmc:quadruped-walk", ("torso_velocity",)))


def test_an_oracle_reward_takes_the_place_of_the_learned_one() -> None:
    state = train_some(method(RolloutConfig(per_step=16, reward="oracle")), steps=30, task="dmc:quadruped-walk")
    assert state.synthetic is not None and state.reward is not None
    rows, layout = state.synthetic.filled(), state.layout
    torch.testing.assert_close(layout.reward(rows), state.reward(layout.action(rows), layout.next_obs(rows)))


# Length of rollouts and share of synthetic rows


def test_without_synthetic_rows_a_learner_is_soft_actor_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, once both draw from the same seeds: the model trains beside it and is not heard."""
    monkeypatch.setattr(Run, "entropy", property(lambda run: f"seed {run.seed}"))
    states = [
        train_some(method().model_copy(update=changes), steps=40) for changes in ({"real_ratio": 1.0}, {"model": None})
    ]
    for a, b in zip(*(s.sac.actor.parameters + s.sac.critic.parameters for s in states), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("length", [1, 5, 20])
def test_arms_of_every_length_branch_as_many_rows(length: int) -> None:
    rollout = RolloutConfig(per_step=400 // length, schedule=(0, 1, length, length))
    assert [rollout.per_step * rollout.length(step) for step in (0, 1, 1_000)] == [400] * 3
    assert rollout.per_step * rollout.max_length * rollout.retain == 1_000_000
