"""Rivals in the critics, their targets and the life of a learner: known answers, and nothing at the default."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers import FTFL, MBPO, assert_same_run, drive, parameters, small
from tape import Tape
from toy_envs import DRIFT

from mbpo import Budget, SacConfig, loop, sac
from mbpo import state as state_module
from mbpo.buffer import Layout
from mbpo.fast import engine as accelerate
from mbpo.fast import kernels, sac_kernels
from mbpo.fast.engine import engine
from mbpo.loop import Run
from mbpo.sac import Sac
from mbpo.streams import Streams

LAYOUT = Layout(obs_dim=3, action_dim=2)
REDQ: dict[str, Any] = {"critics": 4, "target_critics": 2, "actor_value": "mean"}
RIVALS: dict[str, dict[str, Any]] = {
    "features": {"critic_norm": "features"},
    "redq": REDQ,
    "mean": {"target_value": "mean", "actor_value": "mean"},
    "backup": {"backup": "reward"},
}
MIXED: dict[str, Any] = {
    **REDQ,
    **{"critic_norm": "features", "backup": "reward", "reset_every": 30, "obs_norm": "running", "obs_clip": 1.0},
    **{"init_temperature_unit": "reward-std"},
}
"""All of them at once."""


def streams(dtype: torch.dtype = torch.float64) -> Streams:
    return Streams(["a", "b"], torch.device("cpu"), dtype)


def learner(dtype: torch.dtype = torch.float64, **constants: Any) -> Sac:
    return Sac(SacConfig(hidden_dims=(16, 16), **constants), LAYOUT, streams(dtype))


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Packed rows ``(2, 32, W)`` and noise ``(2, 2, 32, A)``."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(2, 32, LAYOUT.width, generator=generator, dtype=torch.float64)
    rows[..., -1] = 1.0
    return rows.to(dtype), torch.randn(2, 2, 32, 2, generator=generator, dtype=torch.float64).to(dtype)


# Features of length 1


def test_critics_with_normalized_features_are_those_of_torch() -> None:
    net, x = learner(critic_norm="features"), batch()[0][..., :5]
    q = net.critic(x[:, None])[..., 0]
    for r in range(2):
        for c in range(2):
            h = x[r]
            for layer in range(2):
                h = torch.relu(h @ net.critic.weights[layer][r, c] + net.critic.biases[layer][r, c])
            h = h / h.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            torch.testing.assert_close(q[r, c], (h @ net.critic.weights[2][r, c] + net.critic.biases[2][r, c])[:, 0])
    torch.testing.assert_close(net.critic.features(x[:, None]).norm(dim=-1), torch.ones(2, 2, 32, dtype=torch.float64))
    for other in (net.target_critic, net.critic.frozen(), net.critic.clone()):
        assert torch.equal(other(x[:, None])[..., 0], q)
    bound = (net.critic.weights[2].norm(dim=-2) + net.critic.biases[2].abs()[..., 0, :]).amax()
    assert (net.critic(1e6 * x[:, None]).abs() <= bound).all(), "values are bounded however far the input"


# Critics in the targets and in the actor's loss


def test_two_critics_of_two_are_the_twin_minimum_to_the_bit() -> None:
    twins, redq = learner(), learner(critics=2, target_critics=2)
    assert sac.draw_critics(redq.config, streams(), 3) == ()
    for k in range(3):
        for net in (twins, redq):
            sac.update(net, *batch(k))
    for a, b in zip(twins.actor.parameters + twins.critic.parameters, redq.actor.parameters + redq.critic.parameters,
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)


def test_a_target_takes_the_least_of_the_critics_that_were_drawn() -> None:
    net, (rows, noise) = learner(**REDQ), batch()
    next_obs = LAYOUT.next_obs(rows)
    action, log_prob = sac.sample_action(net, next_obs, noise[:, 0])
    q = sac.q_values(net.target_critic, next_obs, action)
    draw = torch.tensor([[0.9, 0.1, 0.5, 0.2], [0.3, 0.8, 0.1, 0.9]], dtype=torch.float64)
    least = torch.stack([torch.minimum(q[0, 1], q[0, 3]), torch.minimum(q[1, 2], q[1, 0])])
    expected = LAYOUT.reward(rows) + 0.99 * (least - log_prob)
    torch.testing.assert_close(sac.td_target(net, rows, noise[:, 0], draw), expected)
    with pytest.raises(ValueError, match="an update needs the numbers of `draw_critics`"):
        sac.td_target(net, rows, noise[:, 0])


def test_every_critic_is_drawn_as_often_as_another() -> None:
    (draw,) = sac.draw_critics(SacConfig(**REDQ), streams(), 2_000)
    first = draw.argsort(-1)[..., :2]
    counts = first.flatten().bincount(minlength=4) / first.numel()
    assert draw.shape == (2, 2_000, 4) and torch.allclose(counts, torch.full((4,), 0.25), atol=0.02)


def test_means_in_place_of_minima() -> None:
    net, (rows, noise) = learner(target_value="mean", actor_value="mean"), batch()
    next_obs, obs = LAYOUT.next_obs(rows), LAYOUT.obs(rows)
    action, log_prob = sac.sample_action(net, next_obs, noise[:, 0])
    value = sac.q_values(net.target_critic, next_obs, action).mean(1) - log_prob
    torch.testing.assert_close(sac.td_target(net, rows, noise[:, 0]), LAYOUT.reward(rows) + 0.99 * value)
    _, loss, _ = sac._actor_gradients(net, rows, noise[:, 1])
    action, log_prob = sac.sample_action(net, obs, noise[:, 1])
    torch.testing.assert_close(loss, (log_prob - sac.q_values(net.critic, obs, action).mean(1)).mean(1).detach())


def test_targets_of_rewards_alone_hold_no_entropy() -> None:
    net, (rows, noise) = learner(backup="reward", init_temperature=50.0), batch()
    next_obs = LAYOUT.next_obs(rows)
    action, _ = sac.sample_action(net, next_obs, noise[:, 0])
    least = sac.q_values(net.target_critic, next_obs, action).amin(1)
    torch.testing.assert_close(sac.td_target(net, rows, noise[:, 0]), LAYOUT.reward(rows) + 0.99 * least)


def test_more_critics_in_a_target_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="target_critics = 3 exceeds critics = 2"):
        SacConfig(target_critics=3)


# Observations and temperature


def test_clipped_observations_are_clipped_for_actor_and_critics() -> None:
    net, plain, (rows, noise) = learner(obs_clip=0.5), learner(), batch()
    clipped = rows.clone()
    for columns in (slice(0, 3), slice(5, 8)):
        clipped[..., columns] = rows[..., columns].clamp(-0.5, 0.5)
    sac.update(net, rows, noise)
    sac.update(plain, clipped, noise)
    for a, b in zip(net.critic.parameters + net.actor.parameters, plain.critic.parameters + plain.actor.parameters,
                    strict=True):  # fmt: skip
        assert torch.equal(a, b)
    assert torch.equal(sac.act(net, rows[..., :3], None), sac.act(plain, clipped[..., :3], None))


def test_a_temperature_starts_at_the_scale_of_the_rewards() -> None:
    net = learner(init_temperature_unit="reward-std", init_temperature=0.5, max_temperature=2.0)
    reward = torch.stack([torch.tensor([1.0, 3.0] * 8), torch.full((16,), 7.0)]).double()
    net.start_temperature(reward)  # the second does not vary: 1 stands for its spread
    assert net.alpha.tolist() == pytest.approx([0.5, 0.5])
    net.start_temperature(10.0 * reward)
    assert net.alpha.tolist() == pytest.approx([2.0, 0.5]), "no higher than its bound"
    method = small(MBPO, sac={"init_temperature_unit": "reward-std", "temperature": "fixed"})
    rows, state = drive(DRIFT, [Run(method, 0)], Budget(env_steps=45, eval_every=45, eval_episodes=1))
    spread = state.layout.reward(state.real.filled()[:, :40]).std(unbiased=False)
    assert rows[-1].diagnostics["temperature"].tolist() == pytest.approx([float(spread)], rel=1e-6)


# Resets


def test_a_reset_draws_weights_anew_and_forgets_the_optimizers() -> None:
    source = streams()
    net = Sac(SacConfig(hidden_dims=(16, 16), obs_norm="running"), LAYOUT, source)
    net.fit_obs(batch()[0][..., :3])
    start = [p.detach().clone() for p in net.actor.parameters]
    sac.update(net, *batch())
    statistics, pointers = net.obs_shift.clone(), [p.data_ptr() for p in net._learned()]
    net.restart(source)
    assert torch.equal(net.obs_shift, statistics) and pointers == [p.data_ptr() for p in net._learned()]
    assert net.alpha.tolist() == [1.0, 1.0]
    for adam in (net.actor_adam, net.critic_adam, net.alpha_adam):
        assert not any(bool(t.any()) for t in (*adam.first, *adam.second, adam.steps))
    for online, target in zip(net.critic.parameters, net.target_critic.parameters, strict=True):
        assert torch.equal(online, target)
    assert not torch.equal(net.actor.weights[0], start[0])
    once = net.actor.weights[0].detach().clone()
    net.restart(source)
    assert not torch.equal(net.actor.weights[0], once), "each reset has weights of its own"


def test_a_reset_leaves_buffers_and_model_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same seeds, up to the first reset all is as without; at it the learner alone differs."""
    monkeypatch.setattr(Run, "entropy", property(lambda run: f"seed {run.seed}"))
    budget = Budget(env_steps=49, eval_every=100, eval_episodes=1)  # 10 steps of 2 updates each
    states = {
        every: drive(DRIFT, [Run(small(MBPO, sac={"reset_every": every}), 0)], budget)[1] for every in (None, 20, 21)
    }
    kept, reset, not_yet = (parameters(states[every], 0) for every in (None, 20, 21))
    assert_same_run(kept, not_yet)
    learned = {"actor", "critic", "target_critic", "log_alpha", "moments"}
    assert_same_run({k: v for k, v in kept.items() if k not in learned}, reset)
    assert states[20].updates == 20 and float(states[20].sac.alpha[0]) == 1.0
    assert not any(bool(m.any()) for m in reset["moments"])


# The engines


@pytest.mark.skipif(kernels.library() is None, reason="no kernels")
@pytest.mark.parametrize("name", RIVALS)
def test_torch_takes_what_the_kernels_do_not_know(name: str) -> None:
    """The same update in single precision, with kernels for what they know, as in double precision with none."""
    single, double = learner(torch.float32, **RIVALS[name]), learner(**RIVALS[name])
    rows, noise = batch(dtype=torch.float32)
    draw = sac.draw_critics(double.config, streams())
    if name != "mean":
        assert sac_kernels.critic_gradients(single, rows, noise[:, 0]) is None
    sac.update(single, rows, noise, *(d.float() for d in draw))
    sac.update(double, rows.double(), noise.double(), *draw)
    for a, b in zip(single.critic.parameters, double.critic.parameters, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_a_run_of_rivals_among_two_is_the_run_alone_and_so_on_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [Run(small(MBPO, sac=MIXED), 0), Run(small(FTFL, sac=MIXED), 1)]
    budget = Budget(env_steps=75, eval_every=100, eval_episodes=1)
    both = drive(DRIFT, runs, budget)[1]
    alone = drive(DRIFT, runs[1:], budget)[1]
    assert_same_run(parameters(both, 1), parameters(alone, 0), rtol=1e-9, atol=1e-11)
    assert both.updates == 72 and math.isfinite(float(both.sac.alpha[0]))
    monkeypatch.setattr(kernels, "library", lambda: None)
    tape = Tape()
    monkeypatch.setattr(accelerate, "CudaGraphs", lambda: tape)
    monkeypatch.setattr(loop, "engine", lambda *_: replace(engine("cpu", "fp64"), capture=True))
    monkeypatch.setattr(state_module, "OWN", "no rule")
    taped = drive(DRIFT, runs, budget)[1]
    assert tape.replayed > 20
    for r in range(2):
        assert_same_run(parameters(both, r), parameters(taped, r))
