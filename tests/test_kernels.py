"""Kernels against torch in double precision and, to the bit, against themselves; torch where they cannot serve."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from ensembles import LAYOUT, MIXED, SMALL
from helpers import CPU, FTFL, MBPO, NEEDS_KERNELS, double, ready, same, seen_kernels, small
from torch import Generator, Tensor
from torch.nn.functional import relu, silu
from toy_envs import DRIFT

from mbpo import Budget, dynamics, sac
from mbpo.config import ModelConfig
from mbpo.dynamics import GaussianEnsemble
from mbpo.fast import kernels
from mbpo.loop import Run
from mbpo.nn import Activation, StackedMLP, gradients
from mbpo.streams import Streams

pytestmark = NEEDS_KERNELS

SIZES = [(1, 1), (3, 7), (13, 17, 1), (7, 33, 49, 3), (17, 158, 13, 33, 1), (5, 49, 17, 7, 13, 158)]
BOTH = pytest.mark.parametrize("activation", [relu, silu])


class Numbers:
    """Whole numbers so small that every sum of a relu network is exact in any order; else normal ones."""

    def __init__(self, whole: bool, seed: int = 0) -> None:
        self.whole, self.generator = whole, Generator().manual_seed(seed)

    def __call__(self, *shape: int, most: int = 2) -> Tensor:
        if self.whole:
            return torch.randint(-most, most + 1, shape, generator=self.generator).float()
        return torch.randn(*shape, generator=self.generator)

    def net(self, stack: Sequence[int], sizes: Sequence[int], activation: Activation) -> StackedMLP:
        scale = [1.0 if self.whole else fan_in**-0.5 for fan_in in sizes]
        weights = [self(*stack, a, b, most=1) * s for (a, b), s in zip(pairwise(sizes), scale, strict=False)]
        biases = [self(*stack, 1, b) for b in sizes[1:]]
        return StackedMLP([w.requires_grad_() for w in weights], [b.requires_grad_() for b in biases], activation)


def pass_through(net: StackedMLP, x: Tensor, pull: Tensor) -> list[Tensor]:
    """Output, gradients of all parameters and of the input."""
    x = x.detach().requires_grad_()
    out = net(x)
    return [out.detach(), *torch.autograd.grad((out * pull).sum(), [*net.parameters, x])]


def agree(ours: Sequence[Tensor], exact: Sequence[Tensor], rtol: float) -> None:
    """Equal to `rtol` of the largest number of each tensor; 0 for to the bit."""
    for mine, right in zip(ours, exact, strict=True):
        assert mine.dtype == torch.float32 and mine.shape == right.shape
        assert float((mine.double() - right).abs().max()) <= rtol * float(right.abs().max())


def as_finite(ours: Sequence[Tensor], torchs: Sequence[Tensor]) -> None:
    """The same numbers are finite, and equal; in the stack's first network all are, in its second not."""
    same([t.isfinite() for t in ours], [t.isfinite() for t in torchs])
    agree(*([t.where(t.isfinite(), 0.0) for t in both] for both in (ours, torchs)), 1e-5)
    assert all(t[0].isfinite().all() for t in ours) and not all(t[1].isfinite().all() for t in ours)


def check(net: StackedMLP, x: Tensor, pull: Tensor) -> None:
    """Forward and backward of `net` against torch's; exact where the numbers are whole."""
    called: list[str] = []
    with seen_kernels(lambda name, *_: called.append(name)):
        ours = pass_through(net, x, pull)
    assert called == ["stack_forward", "stack_backward"]
    agree(ours, pass_through(double(net), x.double(), pull.double()), 0.0 if net.activation is relu else 4e-6)


# Against torch in double precision


@pytest.mark.usefixtures("library")
@BOTH
@pytest.mark.parametrize("rows", [1, 5, 77, 256])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_layers_of_all_sizes_equal_torch_in_double(sizes: tuple[int, ...], rows: int, activation: Activation) -> None:
    numbers = Numbers(activation is relu)
    check(numbers.net((2,), sizes, activation), numbers(2, rows, sizes[0]), numbers(2, rows, sizes[-1], most=1))


@BOTH
@pytest.mark.parametrize("stack", [(3,), (3, 2), (2, 5)])
def test_stacks_share_inputs_as_torch_lets_them(stack: tuple[int, ...], activation: Activation) -> None:
    """An axis of size 1 is shared; so is one that is missing on the left."""
    numbers = Numbers(activation is relu)
    net, pull = numbers.net(stack, (9, 17, 4), activation), numbers(*stack, 13, 4)
    for shape in [*itertools.product(*((n, 1) for n in stack)), stack[1:], ()]:
        check(net, numbers(*shape, 13, 9), pull)


LAYINGS = {
    "columns of packed rows": lambda x: torch.cat([x + 1.0, x, x + 2.0], -1)[..., 9:18],
    "transposed": lambda x: x.transpose(-2, -1).contiguous().transpose(-2, -1),
    "runs inside": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "every second row": lambda x: x.repeat_interleave(2, -2)[..., ::2, :],
    "one row for all": lambda x: x[..., :1, :].expand_as(x),
    "one number for all": lambda x: x[:1, :1, :1].expand_as(x),
}


@BOTH
@pytest.mark.parametrize("laying", LAYINGS)
@pytest.mark.parametrize("rows", [1, 13])
def test_inputs_may_lie_anywhere(laying: str, rows: int, activation: Activation) -> None:
    numbers = Numbers(activation is relu)
    net, x = numbers.net((3,), (9, 17, 4), activation), LAYINGS[laying](numbers(3, rows, 9))
    check(net, x, numbers(3, rows, 4))


@BOTH
@pytest.mark.parametrize("wrt", ["input", "parameters", "biases"])
def test_gradients_asked_for_alone_are_those_of_all(wrt: str, activation: Activation) -> None:
    numbers = Numbers(False)
    net, x, pull = numbers.net((2, 2), (9, 17, 7, 4), activation), numbers(2, 1, 13, 9), numbers(2, 2, 13, 4)
    out, *full = pass_through(net, x, pull)
    alone = net.frozen()
    if wrt == "biases":
        alone.biases = net.biases
    network = net if wrt == "parameters" else alone
    tensors = {"input": [x.requires_grad_()], "parameters": net.parameters, "biases": net.biases}[wrt]
    expected = {"input": full[-1:], "parameters": full[:-1], "biases": full[3:-1]}[wrt]
    output = network(x)
    same([output, *torch.autograd.grad((output * pull).sum(), tensors)], [out, *expected])


def test_a_view_of_parameters_is_no_obstacle() -> None:
    """Kernels go through memory in steps of their own: what lies otherwise is torch's."""
    numbers = Numbers(True)
    net, x, pull = numbers.net((3, 2), (9, 17, 4), relu), numbers(3, 13, 9), numbers(3, 13, 4)
    one = StackedMLP([w[:, 1] for w in net.weights], [b[:, 1] for b in net.biases], relu)
    agree(pass_through(one, x, pull), pass_through(double(one), x.double(), pull.double()), 0.0)
    biased = StackedMLP([w.detach()[:, 1].contiguous() for w in net.weights], one.biases, relu)
    same([biased(x)], [one(x)])


@pytest.mark.parametrize("shape", [(3, 13, 8), (3, 13, 10), (2, 13, 9), (4, 13, 9), (1, 3, 13, 9)])
def test_what_does_not_fit_is_refused(shape: tuple[int, ...]) -> None:
    """Memory beyond a tensor's end is nobody's."""
    numbers = Numbers(True)
    net = numbers.net((3,), (9, 4), relu)
    with pytest.raises(RuntimeError, match=r"input|expand"):
        net(numbers(*shape))
    with pytest.raises(RuntimeError, match=r"target|expand"):
        kernels.gaussian_gradients(
            numbers(3, 13, 9),
            numbers(*shape[:-1], shape[-1] - 7),
            net.weights,
            net.biases,
            *torch.zeros(2, 3, 1, 2),
        )


def test_silu_and_its_slope_from_tail_to_tail() -> None:
    """Beyond 87 an exponential is cut off: the numbers are then zero to within 1e-35."""
    one = StackedMLP([torch.ones(1, 1, 1)] * 2, [torch.zeros(1, 1, 1)] * 2, silu)
    x = (torch.arange(-20_000.0, 20_001.0) / 100.0)[None, :, None].requires_grad_()
    out = one(x)
    (slope,) = torch.autograd.grad(out.sum(), x)
    exact = x.detach().double().requires_grad_()
    (right,) = torch.autograd.grad(silu(exact).sum(), exact)
    torch.testing.assert_close(out.detach().double(), silu(exact).detach(), rtol=5e-6, atol=1e-35)
    torch.testing.assert_close(slope.double(), right, rtol=2e-6, atol=1e-7)  # torch's own is no better
    assert out[0, -1].item() == 200.0 and slope[0, -1].item() == 1.0
    assert out[0, 20_000].item() == 0.0 and slope[0, 20_000].item() == 0.5
    assert 0.0 >= out[0, 0].item() > -1e-35 and 0.0 >= slope[0, 0].item() > -1e-35


@BOTH
@pytest.mark.parametrize("spoilt", ["input", "first weight", "inner weight", "last bias"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_diverged_run_is_as_visible_as_with_torch(
    value: float, spoilt: str, activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = Numbers(False)
    net, x, pull = numbers.net((2,), (9, 17, 11, 4), activation), numbers(2, 13, 9), numbers(2, 13, 4)
    where = {"input": x, "first weight": net.weights[0], "inner weight": net.weights[1], "last bias": net.biases[-1]}
    where[spoilt].data[1, 0, 3] = value
    ours = pass_through(net, x, pull)
    monkeypatch.setattr(kernels, "library", lambda: None)
    as_finite(ours, pass_through(net, x, pull))


# To the bit


@pytest.mark.usefixtures("library")
@BOTH
def test_a_network_of_a_stack_is_the_network_alone(activation: Activation) -> None:
    numbers = Numbers(False)
    net, x, pull = numbers.net((2, 3), (9, 49, 17, 4), activation), numbers(2, 3, 77, 9), numbers(2, 3, 77, 4)
    together = pass_through(net, x, pull)
    for index in itertools.product(range(2), range(3)):
        cut = [[t.detach()[index][None].clone().requires_grad_() for t in part] for part in (net.weights, net.biases)]
        alone = pass_through(StackedMLP(*cut, activation), x[index][None], pull[index][None])
        same([t[index][None] for t in together], alone)


@BOTH
@pytest.mark.parametrize("sizes", [(9, 8), (9, 49, 17, 4), (9, 200, 3), (9, 33, 1)], ids=str)
def test_a_row_is_the_row_alone(sizes: tuple[int, ...], activation: Activation) -> None:
    """Wherever it lies in a block: a compiler left to itself adds up a lone sum in another way."""
    numbers = Numbers(False)
    net, x = numbers.net((2,), sizes, activation), numbers(2, 29, 9)
    full = net(x)
    for rows in range(1, 15):
        same([net(x[:, 3 : 3 + rows])], [full[:, 3 : 3 + rows]])


@pytest.mark.usefixtures("library")
@BOTH
@pytest.mark.parametrize("members", [1, 2, 6])
def test_threads_do_not_change_a_bit(members: int, activation: Activation, threads: Callable[[int], None]) -> None:
    """Of 1, 2 and 6 networks 2 and 3 threads cut some in pieces and take others whole."""
    numbers = Numbers(False)
    net, x, pull = numbers.net((members,), (9, 49, 17, 4), activation), numbers(1, 77, 9), numbers(members, 77, 4)
    bounds = -torch.ones(members, 1, 2), torch.ones(members, 1, 2)
    by_threads = []
    for n in (1, 2, 3):
        threads(n)
        by_threads.append(pass_through(net, x, pull))
        if activation is silu:
            by_threads[-1] += kernels.gaussian_gradients(x, pull[..., :2], net.weights, net.biases, *bounds)
    same(by_threads[1], by_threads[0])
    same(by_threads[2], by_threads[0])


# One network for each row

TURNS = {
    "any": lambda numbers, runs, rows: torch.randint(0, 3, (runs, rows), generator=numbers.generator),
    "one for all": lambda numbers, runs, rows: torch.full((runs, rows), 2),
    "each run its own": lambda numbers, runs, rows: torch.arange(runs)[:, None].expand(runs, rows) % 3,
}


@pytest.mark.usefixtures("library")
@BOTH
@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("runs", "rows", "shared"), [(1, 1, True), (1, 77, True), (4, 13, True), (4, 40, False)])
def test_a_row_through_its_network_alone_is_that_networks_row(
    runs: int, rows: int, shared: bool, turn: str, activation: Activation, threads: Callable[[int], None]
) -> None:
    numbers = Numbers(False)
    net, member = numbers.net((runs, 3), (9, 49, 17, 4), activation), TURNS[turn](numbers, runs, rows)
    x = LAYINGS["columns of packed rows"](numbers(runs, 1 if shared else 3, rows, 9))
    called: list[str] = []
    with torch.no_grad(), seen_kernels(lambda name, *_: called.append(name)):
        outputs = []
        for n in (1, 2, 3):
            threads(n)
            outputs.append(net.forward_members(x, member))
        assert called == ["stack_chosen"] * 3
        all_of_them = net(x)
    right = torch.stack([torch.stack([all_of_them[r, member[r, b], b] for b in range(rows)]) for r in range(runs)])
    for one in outputs:
        same([one], [right])
    same([net.forward_members(x, member)], [right])  # with gradients: the long way
    assert called == ["stack_chosen"] * 3 + ["stack_forward"]


def test_networks_that_are_not_there_are_refused() -> None:
    numbers = Numbers(False)
    net, x = numbers.net((2, 3), (9, 4), relu), numbers(2, 1, 13, 9)
    for member in (
        torch.full((2, 13), 3),
        torch.full((2, 13), -1),
        torch.zeros(2, 12).long(),
        torch.zeros(3, 13).long(),
    ):
        with (
            torch.no_grad(),
            pytest.raises(RuntimeError, match=r"members of shape .* in 0 \.\. 2 for 2 runs of 13 rows"),
        ):
            net.forward_members(x, member)


# The Gaussian likelihood


def ensemble(dtype: torch.dtype, **changes: Any) -> GaussianEnsemble:
    """Three runs that differ in all: weights, biases, statistics of the inputs and bounds."""
    streams = Streams([f"run {r}" for r in range(3)], CPU, torch.float32)
    ensemble = GaussianEnsemble(ModelConfig(**{**SMALL, **changes}), MIXED, LAYOUT, streams)
    numbers, runs = Numbers(False, seed=9), torch.arange(3.0).view(3, 1, 1, 1)
    with torch.no_grad():
        for bias in ensemble.net.biases:
            bias.copy_(numbers(*bias.shape))
        ensemble.min_logvar.copy_(-10.0 + runs + numbers(3, 1, 1, 3))
        ensemble.max_logvar.copy_(0.5 + runs + 0.1 * numbers(3, 1, 1, 3))
        ensemble.input_mean.copy_(0.1 * numbers(*ensemble.input_mean.shape))
    if dtype != torch.float32:
        for name in ("min_logvar", "max_logvar", "input_mean", "input_std"):
            setattr(ensemble, name, getattr(ensemble, name).detach().to(dtype))
        ensemble.net = double(ensemble.net)
    return ensemble


def fused(model: GaussianEnsemble, inputs: Tensor, y: Tensor) -> tuple[bool, list[Tensor]]:
    """Whether `dynamics.nll_gradients` takes the kernel, and what it gives."""
    called: list[str] = []
    with seen_kernels(lambda name, *_: called.append(name)):
        grads = dynamics.nll_gradients(model, inputs, y)
    assert "stack_gaussian" not in called or called == ["stack_gaussian"]
    return "stack_gaussian" in called, grads


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("hidden", [(16,), (49, 17, 7)], ids=str)
@pytest.mark.parametrize("rows", ["shared", "each member's own", "in the packed rows"])
def test_gradients_of_the_likelihood_are_autograds(rows: str, hidden: tuple[int, ...]) -> None:
    """Over all the range of log-variances: below, between and above their bounds."""
    constants: dict[str, Any] = {"hidden_dims": hidden, "weight_decay": (0.0,) * (len(hidden) + 1)}
    ours, exact = ensemble(torch.float32, **constants), ensemble(torch.float64, **constants)
    spread = torch.linspace(-30.0, 30.0, 9).view(3, 3, 1, 1)
    with torch.no_grad():
        for model in (ours, exact):
            model.net.biases[-1][..., 3:] += spread
    shape = (3, 77) if rows == "shared" else (3, 3, 77)
    packed = Numbers(False)(*shape, LAYOUT.width)
    inputs, y = LAYOUT.inputs(packed), LAYOUT.targets(packed)
    if rows != "in the packed rows":
        inputs, y = inputs.contiguous(), y.contiguous()
    took, grads = fused(ours, inputs, y)
    assert took
    right = gradients(dynamics.nll(exact, inputs.double(), y.double()), exact.parameters)
    for mine, expected in zip(grads, right, strict=True):
        for index in itertools.product(range(3), range(3)):  # gradients of low variances are far larger
            agree([mine[index]], [expected[index]], 1e-5)


@pytest.mark.parametrize(
    "changes", [{"logvar_bounds": "learned"}, {"reward_head": "separate"}], ids=["learned bounds", "separate head"]
)
def test_other_likelihoods_go_the_long_way(changes: dict[str, str]) -> None:
    model, packed = ensemble(torch.float32, **changes), Numbers(False)(3, 13, LAYOUT.width)
    inputs, y = LAYOUT.inputs(packed), LAYOUT.targets(packed)
    took, grads = fused(model, inputs, y)
    assert not took and len(grads) == len(model.parameters)
    same(grads, gradients(dynamics.nll(model, inputs, y), model.parameters))


@pytest.mark.parametrize(
    ("low", "high", "served"), [(-86.0, -20.0, True), (-88.0, -20.0, False), (-70.0, 10.0, False), (-10.0, 60.0, True)]
)
def test_bounds_beyond_the_kernels_exponential_are_torchs(low: float, high: float, served: bool) -> None:
    """Raw log-variances from below to above bounds far apart; errors so small that no gradient overflows."""
    constants: dict[str, Any] = {"min_logvar": low, "max_logvar": high}
    ours, exact = ensemble(torch.float32, **constants), ensemble(torch.float64, **constants)
    with torch.no_grad():
        for model in (ours, exact):
            model.min_logvar.fill_(low), model.max_logvar.fill_(high)
            for weight in (model.net.weights[-1], model.net.biases[-1]):
                weight[..., :3] *= 1e-15
            model.net.biases[-1][..., 3:] += torch.linspace(low - 10.0, high + 10.0, 9).view(3, 3, 1, 1)
    packed = 1e-15 * Numbers(False)(3, 13, LAYOUT.width)
    inputs, y = LAYOUT.inputs(packed), LAYOUT.targets(packed)
    took, grads = fused(ours, inputs, y)
    assert took is served
    right = gradients(dynamics.nll(exact, inputs.double(), y.double()), exact.parameters)
    for mine, expected in zip(grads, right, strict=True):
        for index in itertools.product(range(3), range(3)):
            agree([mine[index]], [expected[index]], 2e-4)  # e^86 of a rounded 86


def test_a_diverged_model_is_as_visible_as_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Numbers(False)(3, 13, LAYOUT.width)
    for value, location in itertools.product([torch.nan, torch.inf, -torch.inf], ["inputs", "targets", "weights"]):
        model, inputs, y = ensemble(torch.float32), LAYOUT.inputs(packed).clone(), LAYOUT.targets(packed).clone()
        {"inputs": inputs, "targets": y, "weights": model.net.weights[0].data[:, 1]}[location][1, 2, 1] = value
        took, ours = fused(model, inputs, y)
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "library", lambda: None)
            without, torchs = fused(model, inputs, y)
        assert took and not without
        as_finite(ours, torchs)


# In training


def test_an_update_is_torchs_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the learner and of the model, after some training: Adam's first steps have a size of their own."""
    runs = [Run(small(MBPO), 0), Run(small(FTFL), 1)]
    with ready(DRIFT, runs, Budget(env_steps=140, eval_every=70, eval_episodes=1)) as state:
        rows = state.real.filled()[:, :32].clone()
        noise = Numbers(False)(2, 2, 32, state.layout.action_dim)
        by_library = []
        for library in (kernels.library, lambda: None):
            monkeypatch.setattr(kernels, "library", library)
            called: list[str] = []
            learner, model = copy.deepcopy(state.sac), copy.deepcopy(state.dynamics)
            with seen_kernels(lambda name, *_, called=called: called.append(name)):
                info = sac.update(learner, rows, noise)
                dynamics.update(model, rows)
            assert called == ([] if by_library else ["critic_gradients", "actor_gradients", "stack_gaussian"])
            nets = [learner.actor, learner.critic, learner.target_critic, model]
            by_library.append([*info.values(), learner.log_alpha, *(p for net in nets for p in net.parameters)])
        before = [p for net in (state.sac.actor, state.sac.critic, state.dynamics) for p in net.parameters]
    torch.testing.assert_close(*by_library, rtol=1e-5, atol=1e-5)
    moved = [p for net in (nets[0], nets[1], nets[3]) for p in net.parameters]
    assert all(not torch.equal(new, old) for new, old in zip(moved, before, strict=True))


@BOTH
def test_results_are_the_callers_to_keep(activation: Activation) -> None:
    """Threads keep memory from call to call; nothing that is given out lies in it."""
    numbers = Numbers(False)
    nets = [numbers.net((2,), sizes, activation) for sizes in [(9, 17, 33, 4), (9, 49, 7, 4)]]
    xs, pull = [numbers(2, 13, 9) for _ in nets], numbers(2, 13, 4)
    outs = [net(x.requires_grad_()) for net, x in zip(nets, xs, strict=True)]  # two passes before either goes back
    grads_of = [
        torch.autograd.grad((out * pull).sum(), [*net.parameters, x], retain_graph=True)
        for net, x, out in zip(nets, xs, outs, strict=True)
    ]
    copies = [[t.clone() for t in (out, *grads)] for out, grads in zip(outs, grads_of, strict=True)]
    for net, x, out, grads, once in zip(nets, xs, outs, grads_of, copies, strict=True):
        again = torch.autograd.grad((out * pull).sum(), [*net.parameters, x])
        same(again, once[1:])
        same(pass_through(net, x, pull), once)
        same([out, *grads], once)


def test_a_network_changed_between_forward_and_backward_is_noticed() -> None:
    numbers = Numbers(False)
    net = numbers.net((2,), (9, 17, 4), silu)
    out = net(numbers(2, 13, 9))
    with torch.no_grad():
        net.weights[1].mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_second_derivatives_are_refused() -> None:
    numbers = Numbers(False)
    net, x = numbers.net((2,), (9, 17, 4), silu), numbers(2, 13, 9).requires_grad_()
    with pytest.raises(RuntimeError, match="know no second derivatives; set MBPO_KERNELS=torch in the environment"):
        torch.autograd.grad(net(x).sum(), x, create_graph=True)


# Where torch does the work


def test_other_networks_are_torchs() -> None:
    numbers, called = Numbers(False), []
    net, x = numbers.net((2,), (9, 17, 4), silu), numbers(2, 13, 9)
    deep = numbers.net((2,), (9,) * 18, silu)
    bounds = -torch.ones(2, 1, 2), torch.ones(2, 1, 2)
    with seen_kernels(lambda name, *_: called.append(name)):
        for network, inputs in [(double(net), x.double()), (StackedMLP(*parts(net), torch.tanh), x), (deep, x)]:
            network(inputs)
            assert network.gaussian_gradients(inputs, inputs[..., :2], *bounds) is None
        with torch.autocast("cpu", dtype=torch.float16):
            net(x)
            assert net.gaussian_gradients(x, x[..., :2], *bounds) is None
        assert StackedMLP(*parts(net), relu).gaussian_gradients(x, x[..., :2], *bounds) is None
        assert called == []
        assert net.gaussian_gradients(x, x[..., :2], *bounds) is not None
        assert called == ["stack_gaussian"]


def parts(net: StackedMLP) -> tuple[list[Tensor], list[Tensor]]:
    return net.weights, net.biases
