"""The kernels of soft actor-critic against `mbpo.sac` in double precision and, to the bit, against themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import CPU, NEEDS_KERNELS, double, same, seen_kernels
from torch import Tensor

from mbpo import sac
from mbpo.buffer import Layout
from mbpo.config import SacConfig
from mbpo.fast import kernels, sac_kernels
from mbpo.nn import StackedMLP
from mbpo.sac import Sac
from mbpo.streams import Streams

pytestmark = NEEDS_KERNELS

RUNS = 3
WAYS = {"critic_gradients": sac._critic_gradients, "actor_gradients": sac._actor_gradients}
BOTH = pytest.mark.parametrize("name", WAYS)
TANH: dict[str, Any] = {"hidden_dims": (49, 17)}
CLIP: dict[str, Any] = {**TANH, "log_std": "clip", "min_log_std": -3.0, "max_log_std": 1.0, "critic_loss_scale": 0.5}
CONFIGS = pytest.mark.parametrize("config", [TANH, CLIP], ids=["tanh", "clip"])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def learner(obs_dim: int, action_dim: int, runs: int = RUNS, **constants: Any) -> Sac:
    """Runs that differ in all; biases that are not zero, and distributions of all widths, beyond their bounds too."""
    streams = Streams([f"run {r}" for r in range(runs)], CPU, torch.float32)
    agent = Sac(SacConfig(**constants), Layout(obs_dim, action_dim), streams)
    with torch.no_grad():
        for net in (agent.actor, agent.critic, agent.target_critic):
            for i, parameter in enumerate(net.parameters):
                parameter.add_(0.2 * normal(*parameter.shape, seed=i))
        agent.actor.biases[-1][..., action_dim:] += torch.linspace(-4.0, 3.0, action_dim)
        agent.log_alpha.copy_(torch.linspace(-2.0, 0.5, runs))
    return agent


def exact(agent: Sac) -> Sac:
    """The same numbers, which torch takes."""
    twin = Sac.__new__(Sac)
    vars(twin).update(vars(agent))
    twin.log_alpha = agent.log_alpha.detach().double()
    for name in ("actor", "critic", "target_critic"):
        setattr(twin, name, double(getattr(agent, name)))
    return twin


def transitions(layout: Layout, rows: int, runs: int = RUNS) -> Tensor:
    packed = normal(runs, rows, layout.width, seed=1)
    packed[..., -1] = (packed[..., -1] > -0.7).float()
    return packed


def noise_for(layout: Layout, rows: int, runs: int = RUNS) -> Tensor:
    return normal(runs, rows, layout.action_dim, seed=2)


def kernel_gradients(kernel: str, agent: Sac, rows: Tensor, noise: Tensor) -> list[Tensor]:
    """Gradients and info from the kernel."""
    called: list[str] = []
    with seen_kernels(lambda name, *_: called.append(name)):
        gradients = getattr(sac_kernels, kernel)(agent, rows, noise)
    assert called == [kernel] and gradients is not None
    return flat(gradients)


def flat(gradients: sac_kernels.LossGradients) -> list[Tensor]:
    grads, first, second = gradients
    return [*grads, first, second]


def check(name: str, agent: Sac, rows: Tensor, noise: Tensor, rtol: float = 1e-5) -> list[Tensor]:
    ours = kernel_gradients(name, agent, rows, noise)
    expected = flat(WAYS[name](exact(agent), rows.double(), noise.double()))
    for mine, right in zip(ours, expected, strict=True):
        assert mine.dtype == torch.float32 and mine.shape == right.shape
        for r in range(len(mine)):  # each run by its own size
            assert float((mine[r].double() - right[r]).abs().max()) <= rtol * float(right[r].abs().max()) + 1e-30
    return ours


# Against torch in double precision


@pytest.mark.usefixtures("library")
@BOTH
@CONFIGS
@pytest.mark.parametrize(
    ("obs_dim", "action_dim", "rows"), [(1, 1, 1), (5, 3, 13), (17, 8, 77), (78, 12, 256), (4, 21, 40)]
)
def test_gradients_are_autograds(name: str, config: dict[str, Any], obs_dim: int, action_dim: int, rows: int) -> None:
    agent = learner(obs_dim, action_dim, **config)
    check(name, agent, transitions(agent.layout, rows), noise_for(agent.layout, rows))


@BOTH
@pytest.mark.parametrize("hidden", [(1,), (8,), (33, 7, 50)], ids=str)
def test_networks_of_any_depth(name: str, hidden: tuple[int, ...]) -> None:
    agent = learner(5, 3, hidden_dims=hidden)
    check(name, agent, transitions(agent.layout, 77), noise_for(agent.layout, 77))


@BOTH
def test_rows_and_noise_may_lie_apart(name: str) -> None:
    """As in a block: batches and noise of K updates, of which one is taken."""
    agent = learner(5, 3, **TANH)
    rows, noise = transitions(agent.layout, 13), noise_for(agent.layout, 13)
    batches = torch.stack([rows + 1.0, rows, rows - 1.0], 1)
    draws = torch.stack([torch.stack([noise, noise + 1.0], 1)] * 3, 1)
    same(kernel_gradients(name, agent, batches[:, 1], draws[:, 1, 0]), kernel_gradients(name, agent, rows, noise))
    shared = rows[:1].expand(RUNS, -1, -1)
    same(kernel_gradients(name, agent, shared, noise), kernel_gradients(name, agent, shared.contiguous(), noise))


@CONFIGS
def test_equal_critics_share_what_passes(config: dict[str, Any]) -> None:
    """As with torch, whose minimum splits a gradient between equals."""
    agent = learner(5, 3, **config)
    with torch.no_grad():
        for parameter in agent.critic.parameters:
            parameter[1:] = parameter[1:, :1]
    check("actor_gradients", agent, transitions(agent.layout, 77), noise_for(agent.layout, 77))


@pytest.mark.parametrize("scale", [1e-3, 30.0])
def test_actions_from_near_zero_to_the_bounds(scale: float) -> None:
    """At the bounds an action's gradient is a difference of equals: no more exact than torch's own."""
    agent = learner(5, 3, **TANH)
    with torch.no_grad():
        agent.actor.weights[-1][..., :3] *= scale
        agent.actor.biases[-1][..., :3] *= scale
    rows, noise = transitions(agent.layout, 77), noise_for(agent.layout, 77)
    if scale < 1.0:
        agent.actor.biases[-1].detach()[..., 3:] = -6.0
        noise = 1e-3 * noise
    for name in WAYS:
        check(name, agent, rows, noise, 2e-4)  # at -6 the slope of tanh is known to 0.5 % a row


@BOTH
def test_a_std_that_the_kernels_cut_off_is_torchs(name: str) -> None:
    """At e^88, the most that is granted: noise of 1e-38 then moves an action by 1."""
    agent = learner(5, 3, **{**CLIP, "max_log_std": 88.0})
    with torch.no_grad():
        agent.actor.biases[-1][..., 3:] = 200.0
    rows, noise = transitions(agent.layout, 13), 1e-38 * noise_for(agent.layout, 13)
    assert getattr(sac_kernels, name)(agent, rows, noise) is None
    ours, right = WAYS[name](agent, rows, noise), WAYS[name](exact(agent), rows.double(), noise.double())
    for mine, expected in zip(flat(ours), flat(right), strict=True):
        assert float((mine.double() - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    agent.config = SacConfig(**{**CLIP, "max_log_std": 87.0})
    check(name, agent, rows, noise, 1e-4)


def test_the_temperature_weighs_the_entropy() -> None:
    """Without critics the actor's gradient is the temperature times that of its log density."""
    agent = learner(5, 3, **TANH)
    with torch.no_grad():
        for parameter in agent.critic.parameters:
            parameter.zero_()
    rows, noise = transitions(agent.layout, 77), noise_for(agent.layout, 77)
    before = check("actor_gradients", agent, rows, noise)
    with torch.no_grad():
        agent.log_alpha.add_(1.0)
    after = check("actor_gradients", agent, rows, noise)
    for small, large in zip(before[:-1], after[:-1], strict=True):
        torch.testing.assert_close(large, small * torch.e, rtol=1e-4, atol=1e-5)
    assert torch.equal(before[-1], after[-1])


@pytest.mark.usefixtures("library")
@BOTH
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    "spoilt", ["obs", "reward", "noise", "actor", "critic", "second critic", "target", "log_alpha"]
)
def test_a_diverged_run_is_as_visible_as_with_torch(name: str, value: float, spoilt: str) -> None:
    """The info is finite where torch's is, and so are gradients as a whole; other runs are untouched."""
    agent = learner(5, 3, **TANH)
    rows, noise = transitions(agent.layout, 13), noise_for(agent.layout, 13)
    clean = kernel_gradients(name, agent, rows, noise)
    with torch.no_grad():
        {
            "obs": rows[1, 2, :5],
            "reward": rows[1, 2, -2:-1],
            "noise": noise[1, 2],
            "actor": agent.actor.biases[-1][1, 0],
            "critic": agent.critic.biases[-1][1, 0, 0],
            "second critic": agent.critic.biases[-1][1, 1, 0],
            "target": agent.target_critic.biases[-1][1, 1, 0],
            "log_alpha": agent.log_alpha[1:2],
        }[spoilt][0] = value
    ours, torchs = kernel_gradients(name, agent, rows, noise), flat(WAYS[name](agent, rows, noise))
    for r in range(RUNS):
        for mine, theirs in ((ours[-2:], torchs[-2:]), (ours[:-2], torchs[:-2])):
            assert all(t[r].isfinite().all() for t in mine) == all(t[r].isfinite().all() for t in theirs)
        if r != 1:
            same([t[r] for t in ours], [t[r] for t in clean])


# To the bit


@pytest.mark.usefixtures("library")
@BOTH
def test_a_run_in_lockstep_is_the_run_alone(name: str) -> None:
    agent = learner(5, 3, **TANH)
    rows, noise = transitions(agent.layout, 77), noise_for(agent.layout, 77)
    together = kernel_gradients(name, agent, rows, noise)
    for r in range(RUNS):
        alone = learner(5, 3, 1, **TANH)
        with torch.no_grad():
            for own, all_ in zip(
                [*alone.actor.parameters, *alone.critic.parameters, *alone.target_critic.parameters, alone.log_alpha],
                [*agent.actor.parameters, *agent.critic.parameters, *agent.target_critic.parameters, agent.log_alpha],
                strict=True,
            ):
                own.copy_(all_[r : r + 1])
        same([t[r : r + 1] for t in together], kernel_gradients(name, alone, rows[r : r + 1], noise[r : r + 1]))


@pytest.mark.usefixtures("library")
@BOTH
@pytest.mark.parametrize("runs", [1, 2, 3, 6])
def test_threads_do_not_change_a_bit(name: str, runs: int, threads: Callable[[int], None]) -> None:
    """Of 1, 2, 3 and 6 runs 2 and 3 threads take some side by side and cut others in pieces."""
    agent = learner(5, 3, runs, **TANH)
    rows, noise = transitions(agent.layout, 77, runs), noise_for(agent.layout, 77, runs)
    gradients = []
    for n in (1, 2, 3):
        threads(n)
        gradients.append(kernel_gradients(name, agent, rows, noise))
    same(gradients[1], gradients[0])
    same(gradients[2], gradients[0])


def test_nothing_of_the_learner_moves_and_results_are_the_callers() -> None:
    agent = learner(5, 3, **TANH)
    nets = [agent.actor, agent.critic, agent.target_critic]
    before = [p.detach().clone() for net in nets for p in net.parameters]
    rows, noise = transitions(agent.layout, 77), noise_for(agent.layout, 77)
    first = {name: kernel_gradients(name, agent, rows, noise) for name in WAYS}
    copies = {name: [t.clone() for t in gradients] for name, gradients in first.items()}
    for name in WAYS:
        kernel_gradients(name, agent, rows + 1.0, noise)
    for name in WAYS:
        same(first[name], copies[name])
    same([p.detach() for net in nets for p in net.parameters], before)


# Where torch does the work


def test_what_the_kernels_do_not_know_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = learner(5, 3, **TANH)
    rows, noise = transitions(agent.layout, 13), noise_for(agent.layout, 13)
    tall = rows.transpose(1, 2).contiguous().transpose(1, 2)
    narrow, few, odd = rows[..., 1:], noise[:, 1:], StackedMLP(agent.actor.weights, agent.actor.biases, torch.tanh)
    for kernel in (sac_kernels.critic_gradients, sac_kernels.actor_gradients):
        assert kernel(agent, rows, noise) is not None
        for batch in ((tall, noise), (narrow, noise), (rows, few), (rows.double(), noise.double())):
            assert kernel(agent, *batch) is None
        assert kernel(exact(agent), rows, noise) is None
        with torch.autocast("cpu", dtype=torch.float16):
            assert kernel(agent, rows, noise) is None
        with monkeypatch.context() as patch:
            patch.setattr(agent, "actor", odd)
            assert kernel(agent, rows, noise) is None
            patch.setattr(kernels, "library", lambda: None)
            assert kernel(agent, rows, noise) is None


def test_what_does_not_fit_is_refused_by_torch() -> None:
    agent = learner(5, 3, **TANH)
    rows, noise = transitions(agent.layout, 13), noise_for(agent.layout, 13)
    for batch in ((rows[..., 1:], noise), (rows, noise[:, 1:])):
        with pytest.raises(RuntimeError, match=r"inputs of 4 numbers|size"):
            sac.update_critic(agent, *batch)
