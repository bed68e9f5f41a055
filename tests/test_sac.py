"""Soft actor-critic against torch.distributions, against sums done by hand, and against a second implementation."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from helpers import CPU
from torch import Tensor, nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from mbpo import sac as learner
from mbpo.buffer import Layout
from mbpo.config import SacConfig
from mbpo.nn import StackedMLP
from mbpo.sac import Sac
from mbpo.streams import Streams

LAYOUT = Layout(obs_dim=3, action_dim=2)
PAPER = SacConfig(hidden_dims=(16, 12))
JANNER = SacConfig(
    hidden_dims=(16, 12),
    init="glorot-uniform",
    target_entropy=-1.0,
    temperature_loss="log-alpha",
    log_std="clip",
    log_std_head="joint",
    min_log_std=-20.0,
    critic_loss_scale=0.5,
)
FAMILIES = pytest.mark.parametrize("config", [PAPER, JANNER], ids=["paper", "janner"])


def new_sac(config: SacConfig, runs: int = 2) -> Sac:
    return Sac(config, LAYOUT, Streams([f"run {r}" for r in range(runs)], CPU, torch.float64))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transitions(runs: int, batch: int, seed: int = 0) -> Tensor:
    """Random packed rows, a third of them terminated."""
    obs, next_obs = 3.0 * normal(runs, batch, 3, seed=seed), 3.0 * normal(runs, batch, 3, seed=seed + 1)
    action, reward = normal(runs, batch, 2, seed=seed + 2).tanh(), normal(runs, batch, seed=seed + 3)
    return LAYOUT.pack(obs, action, next_obs, reward, (normal(runs, batch, seed=seed + 4) < 0.4).double())


# The actor's last layer


@pytest.mark.parametrize(("head", "gain"), [("own", 1.0), ("joint", math.sqrt(2.0))])
def test_log_std_is_a_layer_of_its_own_with_gain_1_or_shares_the_means(head: str, gain: float) -> None:
    sac = Sac(SacConfig(log_std_head=head), Layout(78, 12), Streams(["a", "b"], CPU, torch.float64))
    mean, log_std = sac.actor.weights[-1].detach().chunk(2, dim=-1)
    eye = torch.eye(12, dtype=torch.float64).expand(2, 12, 12)
    torch.testing.assert_close(mean.mT @ mean, 2.0 * eye, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_std.mT @ log_std, gain**2 * eye, rtol=0, atol=1e-5)
    across = (mean.mT @ log_std).abs().amax((1, 2))
    assert (across > 0.01).all() if head == "own" else (across < 1e-5).all()


def test_glorot_blocks_of_their_own_have_bounds_of_their_own() -> None:
    wide, narrow = math.sqrt(6.0 / (256 + 12)), math.sqrt(6.0 / (256 + 24))
    for head, bound in (("own", wide), ("joint", narrow)):
        config = SacConfig(init="glorot-uniform", log_std_head=head)
        for block in Sac(config, Layout(78, 12), Streams(["a"], CPU, torch.float64)).actor.weights[-1].chunk(2, -1):
            assert 0.99 * bound < float(block.detach().abs().max()) <= bound


def test_an_untrained_log_std_of_its_own_is_far_less_often_at_a_bound() -> None:
    """On quadruped's sizes, by hand: within 0.5 of a bound a raw log std is beyond 1.57.

    An orthogonal relu layer of gain sqrt 2 keeps a row's size, so that raw log stds have std gain * |obs| / 16, which
    is 1.6 for a layer of their own at |obs| = 2.9 sqrt(78).
    """
    obs, share = 2.9 * normal(4, 500, 78), {}
    for head in ("own", "joint"):
        sac = Sac(SacConfig(log_std_head=head), Layout(78, 12), Streams(list("abcd"), CPU, torch.float64))
        with torch.no_grad():
            log_std = learner.policy(sac, obs)[1]
        share[head] = float(((log_std < -9.5) | (log_std > 1.5)).double().mean())
    assert share["own"] == pytest.approx(0.33, abs=0.06)
    assert share["joint"] == pytest.approx(0.49, abs=0.06)


# The policy


@FAMILIES
def test_log_prob_is_that_of_a_tanh_transformed_normal(config: SacConfig) -> None:
    sac, obs, noise = new_sac(config), 3.0 * normal(2, 50, 3), normal(2, 50, 2, seed=1)
    action, log_prob = learner.sample_action(sac, obs, noise)
    mean, log_std = learner.policy(sac, obs)
    squash = TanhTransform(cache_size=1)  # remembers u, so that no atanh costs precision
    expected = squash(mean + log_std.exp() * noise)
    density = TransformedDistribution(Normal(mean, log_std.exp()), [squash]).log_prob(expected).sum(-1)
    torch.testing.assert_close(action, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(log_prob, density, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("config", "expected"),
    [(PAPER, [-10.0, -4.0 - 6.0 * math.tanh(0.5), -4.0, 2.0]), (JANNER, [-20.0, -0.5, 0.0, 2.0])],
    ids=["tanh", "clip"],
)
def test_log_std_is_kept_in_its_bounds(config: SacConfig, expected: list[float]) -> None:
    sac = new_sac(config, runs=1)
    constant_output(sac.actor, [0.3, 0.3, 0.0, 0.0])
    for raw, bounded in zip([-60.0, -0.5, 0.0, 60.0], expected, strict=True):
        with torch.no_grad():
            sac.actor.biases[-1][..., 2:] = raw
        mean, log_std = learner.policy(sac, normal(1, 4, 3))
        torch.testing.assert_close(log_std, torch.full_like(log_std, bounded))
        torch.testing.assert_close(mean, torch.full_like(mean, 0.3))


@FAMILIES
def test_the_deterministic_action_is_the_tanh_of_the_mean(config: SacConfig) -> None:
    sac, obs = new_sac(config), normal(2, 20, 3)
    mean, log_std = learner.policy(sac, obs)
    torch.testing.assert_close(learner.act(sac, obs, None), mean.tanh(), rtol=0, atol=0)
    noise = normal(2, 20, 2, seed=1)
    torch.testing.assert_close(learner.act(sac, obs, noise), (mean + log_std.exp() * noise).tanh(), rtol=0, atol=0)


# The critics' target


def constant_output(net: StackedMLP, values: list[float]) -> None:
    """Make `net` say `values` whatever it is asked."""
    with torch.no_grad():
        net.weights[-1].zero_()
        net.biases[-1].copy_(torch.tensor(values, dtype=torch.float64).expand_as(net.biases[-1]))


@pytest.mark.parametrize("higher", [0, 1], ids=["first", "second"])
def test_td_target_by_hand(higher: int) -> None:
    """Y = r + 0.9 mask (min(7, 5) - alpha log pi), with log std -4 and no noise, so a' = tanh 0 = 0."""
    sac = new_sac(PAPER.model_copy(update={"discount": 0.9}))
    constant_output(sac.actor, [0.0] * 4)
    constant_output(sac.critic, [1000.0])  # the target comes from the target critics, not from these
    with torch.no_grad():
        sac.log_alpha.copy_(torch.tensor([0.5, 2.0]).log())
        sac.target_critic.weights[-1].zero_()
        sac.target_critic.biases[-1][:, higher], sac.target_critic.biases[-1][:, 1 - higher] = 7.0, 5.0
    reward, mask = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64), torch.tensor([1.0, 1.0, 0.0])
    rows = LAYOUT.pack(
        normal(2, 3, 3), normal(2, 3, 2), normal(2, 3, 3), reward.expand(2, 3), mask.expand(2, 3).double()
    )
    log_pi = 2 * (4.0 - 0.5 * math.log(2 * math.pi))
    expected = [[1 + 0.9 * (5 - a * log_pi), -2 + 0.9 * (5 - a * log_pi), 3.0] for a in (0.5, 2.0)]
    found = learner.td_target(sac, rows, torch.zeros(2, 3, 2, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-7)


def test_a_time_limit_does_not_cut_the_bootstrap() -> None:
    """Equal transitions, one ended by its time limit (mask 1), one by failure (mask 0)."""
    sac, rows, noise = new_sac(PAPER), transitions(2, 6), normal(2, 6, 2, seed=9)
    ended = [rows.clone(), rows.clone()]
    ended[0][..., -1], ended[1][..., -1] = 1.0, 0.0
    truncated, terminated = (learner.td_target(sac, r, noise) for r in ended)
    torch.testing.assert_close(terminated, LAYOUT.reward(rows), rtol=0, atol=0)
    assert ((truncated - terminated).abs() > 1e-3).all()


# One update


class Plain:
    """One run of soft actor-critic by the book: torch's own modules, optimizer and distributions, and no stack."""

    def __init__(self, sac: Sac, run: int) -> None:
        self.config, self.target_entropy = sac.config, sac.target_entropy
        self.actor = plain_mlp(sac.actor, run)
        self.critics = [plain_mlp(sac.critic, run, i) for i in (0, 1)]
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = nn.Parameter(sac.log_alpha[run].detach().clone())
        critic_parameters = [*self.critics[0].parameters(), *self.critics[1].parameters()]
        groups = (self.actor.parameters(), critic_parameters, [self.log_alpha])
        self.optimizers = [torch.optim.Adam(group, lr=sac.config.learning_rate) for group in groups]

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = self.actor(obs).split(2, dim=-1)
        low, high = self.config.min_log_std, self.config.max_log_std
        log_std = (
            torch.clamp(raw, low, high)
            if self.config.log_std == "clip"
            else low + (high - low) * (torch.tanh(raw) + 1) / 2
        )
        squash = TanhTransform(cache_size=1)
        action = squash(mean + log_std.exp() * noise)
        return action, TransformedDistribution(Normal(mean, log_std.exp()), [squash]).log_prob(action).sum(-1)

    def step(self, which: int, loss: Tensor) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        self.optimizers[which].step()

    def update(self, rows: Tensor, noise: Tensor) -> None:
        obs, action, next_obs, reward, mask = rows.split([3, 2, 3, 1, 1], dim=-1)
        with torch.no_grad():
            next_action, log_prob = self.sample(next_obs, noise[0])
            q = torch.minimum(*(net(torch.cat([next_obs, next_action], -1))[:, 0] for net in self.targets))
            y = reward[:, 0] + self.config.discount * mask[:, 0] * (q - self.log_alpha.exp() * log_prob)
        losses = [nn.functional.mse_loss(net(torch.cat([obs, action], -1))[:, 0], y) for net in self.critics]
        self.step(1, self.config.critic_loss_scale * (losses[0] + losses[1]))
        with torch.no_grad():
            for old, new in zip(self.targets, self.critics, strict=True):
                for p, q in zip(old.parameters(), new.parameters(), strict=True):
                    p.copy_((1 - self.config.tau) * p + self.config.tau * q)
        action, log_prob = self.sample(obs, noise[1])
        q = torch.minimum(*(net(torch.cat([obs, action], -1))[:, 0] for net in self.critics))
        self.step(0, (self.log_alpha.exp().detach() * log_prob - q).mean())
        multiplier = self.log_alpha if self.config.temperature_loss == "log-alpha" else self.log_alpha.exp()
        self.step(2, -(multiplier * (log_prob.detach() + self.target_entropy)).mean())


def plain_mlp(stack: StackedMLP, *member: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in zip(stack.weights, stack.biases, strict=True):
        linear = nn.Linear(*weight.shape[-2:], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(weight[member].T)
            linear.bias.copy_(bias[member][0])
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def assert_net(stack: StackedMLP, plain: nn.Sequential, *member: int) -> None:
    pairs = zip(stack.weights, stack.biases, [m for m in plain if isinstance(m, nn.Linear)], strict=True)
    for weight, bias, linear in pairs:
        torch.testing.assert_close(weight[member].T, linear.weight, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(bias[member][0], linear.bias, rtol=1e-9, atol=1e-11)


@FAMILIES
def test_ten_updates_equal_a_second_implementation(config: SacConfig) -> None:
    sac = new_sac(config.model_copy(update={"learning_rate": 1e-2, "tau": 0.1}))
    plain = [Plain(sac, r) for r in range(2)]
    if config.log_std == "clip":
        raw = sac.actor(LAYOUT.obs(transitions(2, 32)))[..., 2:]
        assert (raw > config.max_log_std).any() and (raw < config.max_log_std).any(), "the bound is not at work here"
    for k in range(10):
        rows, noise = transitions(2, 32, seed=10 * k), normal(2, 2, 32, 2, seed=10 * k + 5)
        learner.update(sac, rows, noise)
        for r in range(2):
            plain[r].update(rows[r], noise[r])
    for r in range(2):
        assert_net(sac.actor, plain[r].actor, r)
        for i in range(2):
            assert_net(sac.critic, plain[r].critics[i], r, i)
            assert_net(sac.target_critic, plain[r].targets[i], r, i)
        torch.testing.assert_close(sac.log_alpha[r], plain[r].log_alpha, rtol=1e-9, atol=1e-11)


def test_an_update_reports_what_it_minimized() -> None:
    """Losses, Q and entropy of the state before the update, by hand from its own functions."""
    sac, rows, noise = new_sac(PAPER), transitions(2, 32), normal(2, 2, 32, 2, seed=5)
    q = learner.q_values(sac.critic, LAYOUT.obs(rows), LAYOUT.action(rows)).detach()
    y = learner.td_target(sac, rows, noise[:, 0])
    entropy = -learner.sample_action(sac, LAYOUT.obs(rows), noise[:, 1])[1].mean(-1)
    info = learner.update(sac, rows, noise)
    torch.testing.assert_close(info["critic_loss"], ((q[:, 0] - y) ** 2 + (q[:, 1] - y) ** 2).mean(-1))
    torch.testing.assert_close(info["q_mean"], (q[:, 0] + q[:, 1]).mean(-1) / 2)
    torch.testing.assert_close(info["entropy"], entropy.detach())


def test_the_actors_gradient_passes_the_critic_and_does_not_enter_it() -> None:
    sac, obs = new_sac(PAPER), normal(2, 8, 3)
    action, _ = learner.sample_action(sac, obs, normal(2, 8, 2, seed=1))
    value = learner.q_values(sac.critic.frozen(), obs, action).amin(1).mean()
    into = torch.autograd.grad(value, [*sac.actor.parameters, *sac.critic.parameters], allow_unused=True)
    actor, critic = into[: len(sac.actor.parameters)], into[len(sac.actor.parameters) :]
    assert all(g is not None and g.abs().sum() > 0 for g in actor)
    assert all(g is None for g in critic)


def test_an_update_leaves_the_critic_where_its_own_loss_put_it() -> None:
    """Two learners that differ in the actor's noise alone: their actors part, their critics stay equal to the bit."""
    rows, noise = transitions(2, 32), normal(2, 2, 32, 2)
    other = torch.stack([noise[:, 0], -noise[:, 1]], dim=1)
    left, right = new_sac(PAPER), new_sac(PAPER)
    learner.update(left, rows, noise)
    learner.update(right, rows, other)
    assert all(torch.equal(a, b) for a, b in zip(left.critic.parameters, right.critic.parameters, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(left.actor.weights, right.actor.weights, strict=True))


@pytest.mark.parametrize("form", ["alpha", "log-alpha"])
@pytest.mark.parametrize("wanted", [20.0, -20.0])
def test_temperature_moves_towards_the_target_entropy(form: str, wanted: float) -> None:
    """An entropy below the wanted one raises the price of certainty, one above lowers it."""
    config = SacConfig(hidden_dims=(8,), target_entropy=wanted, temperature_loss=form, learning_rate=1e-2)
    sac = new_sac(config)
    entropies, temperatures = [], []
    for k in range(30):
        temperatures.append(sac.alpha.clone())
        entropies.append(learner.update(sac, transitions(2, 16, seed=k), normal(2, 2, 16, 2, seed=k))["entropy"])
    assert (torch.stack(entropies).abs() < 20.0).all()
    moved = torch.stack(temperatures).diff(dim=0)
    assert (moved > 0).all() if wanted > 0 else (moved < 0).all()


def test_target_networks_follow_by_tau() -> None:
    sac = new_sac(PAPER.model_copy(update={"tau": 0.25}))
    before = [p.clone() for p in sac.target_critic.parameters]
    learner.update(sac, transitions(2, 32), normal(2, 2, 32, 2))
    for old, new, live in zip(before, sac.target_critic.parameters, sac.critic.parameters, strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * live.detach())
        assert not new.requires_grad
