"""Stacked networks and their optimizer against a Python loop of torch's own layers and optimizers."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from helpers import counted_flops
from torch import Generator, Tensor
from torch.nn.functional import relu, silu

from mbpo.fast import kernels
from mbpo.nn import Adam, StackedMLP, gradients, stacked_linear, stacked_mlp

CPU = torch.device("cpu")
STACKS = {"actor": (3, None), "critics": (3, 2), "ensemble": (2, 5)}


def generators(runs: Sequence[int]) -> list[Generator]:
    return [Generator().manual_seed(r) for r in runs]


def make(
    runs: int, members: int | None, sizes: Sequence[int] = (4, 6, 5, 3), init: str = "truncated-normal"
) -> StackedMLP:
    net = stacked_mlp(sizes, members, init, silu, generators(range(runs)), CPU, torch.float64)
    noise = Generator().manual_seed(99)
    with torch.no_grad():  # biases are born zero: a bias that is forgotten would not show
        for bias in net.biases:
            bias.normal_(generator=noise)
    return net


def normal(*shape: int, seed: int = 7) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


def indices(net: StackedMLP) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, net.weights[0].shape[:-2])))


def solo(net: StackedMLP, index: tuple[int, ...]) -> torch.nn.Sequential:
    """The network at one place of the stack, out of torch.nn.Linear."""
    layers: list[torch.nn.Module] = []
    for weight, bias in zip(net.weights, net.biases, strict=True):
        linear = torch.nn.Linear(weight.shape[-2], weight.shape[-1], dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(weight[index].T)
            linear.bias.copy_(bias[index][0])
        layers += [linear, torch.nn.SiLU()]
    return torch.nn.Sequential(*layers[:-1])


def linears(model: torch.nn.Sequential) -> list[torch.nn.Linear]:
    return [layer for layer in model if isinstance(layer, torch.nn.Linear)]


def close(ours: Tensor, theirs: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("rows", ["own", "shared", "shared by all"])
def test_forward_and_backward_equal_a_loop_of_linears(stack: str, rows: str) -> None:
    runs, members = STACKS[stack]
    net = make(runs, members)
    shape = {
        "own": net.weights[0].shape[:-2],
        "shared": (runs, 1) if members else (runs,),
        "shared by all": (1, 1) if members else (1,),
    }
    x = normal(*shape[rows], 11, 4).requires_grad_()
    out = net(x)
    pull = normal(*out.shape, seed=8)
    assert out.shape == (*net.weights[0].shape[:-2], 11, 3)
    ours = gradients((out * pull).sum(), [*net.parameters, x])
    x_grad = torch.zeros_like(x)
    layers = len(net.weights)
    for index in indices(net):
        model = solo(net, index)
        source = tuple(min(i, n - 1) for i, n in zip(index, x.shape[:-2], strict=True))
        own = x.detach()[source].clone().requires_grad_()
        alone = model(own)
        close(out[index], alone)
        (alone * pull[index]).sum().backward()
        for i, linear in enumerate(linears(model)):
            close(ours[i][index], linear.weight.grad.T)
            close(ours[layers + i][index][0], linear.bias.grad)
        x_grad[source] += own.grad
    close(ours[-1], x_grad)


def test_one_layer_is_matmul_and_bias() -> None:
    x = torch.tensor([[[1.0, 2.0]]])
    weight = torch.tensor([[[1.0, 10.0, 0.0], [0.0, 1.0, -1.0]], [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])
    bias = torch.tensor([[[0.5, 0.0, 0.0]], [[0.0, 0.0, 7.0]]])
    assert stacked_linear(x, weight, bias).tolist() == [[[1.5, 12.0, -2.0]], [[2.0, 4.0, 7.0]]]


def test_a_member_does_not_see_the_weights_of_another() -> None:
    net, x = make(2, 3), normal(2, 1, 5, 4)
    before = net(x).detach().clone()
    with torch.no_grad():
        net.weights[1][1, 2].fill_(math.nan)
    after = net(x)
    assert after[1, 2].isnan().all()
    others = torch.ones(2, 3, dtype=torch.bool)
    others[1, 2] = False
    assert torch.equal(after[others], before[others])


def test_gradient_of_a_run_is_its_own() -> None:
    """Mean over rows, sum over the stack: run 1's gradient is the same with and without run 0."""
    net, x = make(2, 3), normal(2, 1, 5, 4)
    both = gradients(net(x).square().mean((-2, -1)).sum(), net.parameters)
    one = StackedMLP(
        [w.detach()[1:].clone().requires_grad_() for w in net.weights],
        [b.detach()[1:].clone().requires_grad_() for b in net.biases],
        silu,
    )
    alone = gradients(one(x[1:]).square().mean((-2, -1)).sum(), one.parameters)
    for together, single in zip(both, alone, strict=True):
        close(together[1:], single)


# What is computed, and where


@pytest.mark.parametrize("activation", [relu, silu, torch.tanh])
def test_without_gradients_the_numbers_are_the_same_and_inputs_are_left_alone(
    activation: Callable[[Tensor], Tensor],
) -> None:
    net = stacked_mlp((4, 6, 5, 3), 3, "truncated-normal", activation, generators([0, 1]), CPU, torch.float32)
    x = normal(2, 1, 11, 4).float()
    untouched, learning = x.clone(), net(x)
    with torch.no_grad():
        assert torch.equal(net(x), learning) and torch.equal(x, untouched)


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize(("wrt", "products"), [("parameters", 5), ("input", 4), ("both", 6)])
def test_only_gradients_that_are_asked_for_are_computed(
    wrt: str, products: int, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two layers: 2 products forward, then 2 for the weights, 1 for what lies between them and 1 for the input."""
    if backend == "torch":
        monkeypatch.setattr(kernels, "library", lambda: None)
    net = stacked_mlp((8, 8, 8), 2, "truncated-normal", relu, generators([0]), CPU, torch.float32)
    x = normal(1, 2, 5, 8).float().requires_grad_(wrt != "parameters")
    tensors = {"parameters": net.parameters, "input": [x], "both": [*net.parameters, x]}[wrt]
    with counted_flops() as counted:
        gradients((net.frozen() if wrt == "input" else net)(x).sum(), tensors)
    assert counted() == products * 2 * 2 * 5 * 8 * 8


def test_without_gradients_nothing_is_kept() -> None:
    net = make(1, 2)
    with torch.no_grad():
        out = net(normal(1, 2, 5, 4))
    assert out.grad_fn is None
    with torch.no_grad(), pytest.raises(RuntimeError, match="does not require grad"):
        gradients(net(normal(1, 2, 5, 4)).sum(), net.parameters)


# Frozen, cloned and mixed networks


def test_frozen_passes_gradients_to_its_input_alone() -> None:
    net = make(2, 2)
    x = normal(2, 1, 5, 4).requires_grad_()
    expected = torch.autograd.grad(net(x).square().sum(), x)[0]
    out = net.frozen()(x)
    assert torch.equal(out, net(x))
    out.square().sum().backward()
    assert torch.equal(x.grad, expected)
    assert all(p.grad is None for p in net.parameters)
    assert not any(p.requires_grad for p in net.frozen().parameters)


def test_frozen_follows_its_source_and_a_clone_does_not() -> None:
    net = make(1, None)
    frozen, clone = net.frozen(), net.clone()
    before = net(normal(1, 3, 4)).detach()
    with torch.no_grad():
        net.weights[0].mul_(2.0)
    assert torch.equal(frozen(normal(1, 3, 4)), net(normal(1, 3, 4)))
    assert torch.equal(clone(normal(1, 3, 4)), before)
    assert not any(p.requires_grad for p in clone.parameters)


def test_lerp_is_the_soft_update() -> None:
    target, source = make(2, 2).clone(), make(2, 2, init="glorot-uniform")
    before = [p.clone() for p in target.parameters]
    frozen = [p.detach().clone() for p in source.parameters]
    target.lerp_(source, 0.005)
    for new, old, online, untouched in zip(target.parameters, before, source.parameters, frozen, strict=True):
        close(new, 0.995 * old + 0.005 * online.detach())
        assert torch.equal(online, untouched)
    target.lerp_(source, 1.0)
    assert all(torch.equal(t, s) for t, s in zip(target.parameters, source.parameters, strict=True))


# Adam


def loss_of(net: StackedMLP, x: Tensor, y: Tensor) -> Tensor:
    return (net(x) - y).square().mean((-2, -1)).sum()


def solo_adam(model: torch.nn.Sequential, decay: Sequence[float], lr: float) -> torch.optim.Adam:
    layers = linears(model)
    weights = [{"params": [layer.weight], "weight_decay": c} for layer, c in zip(layers, decay, strict=True)]
    return torch.optim.Adam([*weights, {"params": [layer.bias for layer in layers]}], lr=lr)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("per_run", [False, True])
def test_adam_equals_torch_adam_member_by_member(stack: str, per_run: bool) -> None:
    runs, members = STACKS[stack]
    net, decay = make(runs, members), (0.3, 0.0, 0.05)
    models = {index: solo(net, index) for index in indices(net)}
    solos = {index: solo_adam(model, decay, 1e-2) for index, model in models.items()}
    adam = Adam(net.parameters, 1e-2, [*decay, 0.0, 0.0, 0.0], per_run=per_run)
    for k in range(20):
        x, y = normal(*net.weights[0].shape[:-2], 8, 4, seed=k), normal(*net.weights[0].shape[:-2], 8, 3, seed=100 + k)
        adam.step(gradients(loss_of(net, x, y), net.parameters))
        for index, model in models.items():
            solos[index].zero_grad()
            (model(x[index]) - y[index]).square().mean().backward()
            solos[index].step()
    for index, model in models.items():
        for i, linear in enumerate(linears(model)):
            close(net.weights[i][index], linear.weight.T.detach())
            close(net.biases[i][index][0], linear.bias.detach())


def test_decay_moves_the_weights_that_it_is_given_to_and_no_others() -> None:
    """With zero gradients Adam sees the decay alone: those weights step by lr, the rest stand still."""
    net = make(2, 2)
    before = [p.detach().clone() for p in net.parameters]
    Adam(net.parameters, 1e-2, [0.0, 0.3, 0.0, 0.0, 0.0, 0.0]).step([torch.zeros_like(p) for p in net.parameters])
    for i, (new, old) in enumerate(zip(net.parameters, before, strict=True)):
        close(new.detach(), old - (1e-2 * old.sign() if i == 1 else 0.0), atol=1e-5)


def test_adam_eps_matters_for_tiny_gradients() -> None:
    """The first step is lr * g / (|g| + eps): half of lr where |g| is eps = 1e-8."""
    p = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    Adam([p], 1e-3).step([torch.tensor([[1e-8], [1.0]], dtype=torch.float64)])
    close(p.detach(), torch.tensor([[-0.5e-3], [-1e-3]], dtype=torch.float64), atol=1e-10)


def test_runs_left_out_of_a_step_keep_their_own_count() -> None:
    schedule = [[0, 1, 2], [0, 2], [2], [0, 1], [1], [2, 0], [0]] * 3
    net, decay = make(3, 2), (0.3, 0.0, 0.05)
    models = {index: solo(net, index) for index in indices(net)}
    solos = {index: solo_adam(model, decay, 1e-2) for index, model in models.items()}
    adam = Adam(net.parameters, 1e-2, [*decay, 0.0, 0.0, 0.0], per_run=True)
    for k, active in enumerate(schedule):
        x, y = normal(3, 2, 8, 4, seed=k), normal(3, 2, 8, 3, seed=100 + k)
        adam.step(gradients(loss_of(net, x, y), net.parameters), active)
        for index in [p for p in models if p[0] in active]:
            solos[index].zero_grad()
            (models[index](x[index]) - y[index]).square().mean().backward()
            solos[index].step()
    for index, model in models.items():
        for i, linear in enumerate(linears(model)):
            close(net.weights[i][index], linear.weight.T.detach())
            close(net.biases[i][index][0], linear.bias.detach())
    counts = [sum(r in active for active in schedule) for r in range(3)]
    assert adam.steps.tolist() == [[float(c)] * len(net.parameters) for c in counts]


def test_adam_goes_on_from_a_copied_state() -> None:
    def train(net: StackedMLP, adam: Adam, steps: range) -> None:
        for k in steps:
            adam.step(gradients(loss_of(net, normal(2, 1, 8, 4, seed=k), normal(2, 3, 8, 3, seed=k)), net.parameters))

    net = make(2, 3)
    adam = Adam(net.parameters, 1e-2)
    train(net, adam, range(5))
    copy = StackedMLP(
        [w.detach().clone().requires_grad_() for w in net.weights],
        [b.detach().clone().requires_grad_() for b in net.biases],
        silu,
    )
    resumed = Adam(copy.parameters, 1e-2)
    for live, saved in zip(resumed.state().values(), adam.state().values(), strict=True):
        for a, b in zip(live, saved, strict=True):
            a.copy_(b)
    train(net, adam, range(5, 10))
    train(copy, resumed, range(5, 10))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters, copy.parameters, strict=True))


# Initial weights


@pytest.mark.parametrize("shape", [(64, 32), (32, 64), (48, 48)])
def test_orthogonal_has_gain_sqrt_two(shape: tuple[int, int]) -> None:
    weight = stacked_mlp(shape, 2, "orthogonal", silu, generators([0, 1]), CPU, torch.float64).weights[0].detach()
    small = weight if shape[0] >= shape[1] else weight.transpose(-2, -1)
    gram = small.transpose(-2, -1) @ small
    close(gram, 2.0 * torch.eye(min(shape), dtype=torch.float64).expand_as(gram), atol=1e-5)


@pytest.mark.parametrize(
    ("init", "std", "bound"),
    [
        # JAX counts the stack of E = 7 into the fan and corrects for the truncation at two standard deviations.
        ("stacked-lecun", 1 / math.sqrt(7 * 80), 2 / 0.87962566 / math.sqrt(7 * 80)),
        # jannerm does not correct: the normal that is truncated has std 1 / (2 sqrt(in)).
        ("truncated-normal", 0.87962566 / (2 * math.sqrt(80)), 1 / math.sqrt(80)),
        ("glorot-uniform", math.sqrt(2 / (80 + 150)), math.sqrt(6 / (80 + 150))),
    ],
)
def test_spread_of_initial_weights(init: str, std: float, bound: float) -> None:
    """84,000 weights a run: the standard error of a std is below 0.25 %, so 1 % is over four of them."""
    weight = stacked_mlp((80, 150), 7, init, silu, generators([0, 1]), CPU, torch.float64).weights[0].detach()
    assert weight.std(dim=(1, 2, 3)).tolist() == pytest.approx([std, std], rel=0.01)
    assert abs(float(weight.mean())) < 5 * std / math.sqrt(weight.numel())
    assert float(weight.abs().max()) <= bound * (1 + 1e-6)
    assert float(weight.abs().max()) > 0.99 * bound


def test_biases_are_born_zero_and_members_differ() -> None:
    net = stacked_mlp((4, 6, 3), 3, "orthogonal", silu, generators([0, 1]), CPU, torch.float32)
    assert all(float(b.detach().abs().max()) == 0.0 for b in net.biases)
    flat = net.weights[0].detach().flatten(0, 1)
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(flat, 2))
    assert all(p.is_leaf and p.requires_grad for p in net.parameters)


@pytest.mark.parametrize("init", ["orthogonal", "glorot-uniform", "stacked-lecun", "truncated-normal"])
@pytest.mark.parametrize("members", [None, 2])
def test_initial_weights_do_not_depend_on_companions(init: str, members: int | None) -> None:
    def weights(runs: list[int]) -> list[Tensor]:
        return stacked_mlp((4, 6, 3), members, init, silu, generators(runs), CPU, torch.float32).weights

    among, others, alone = weights([3, 5, 8]), weights([5, 4]), weights([5])
    for a, b, c in zip(among, others, alone, strict=True):
        assert torch.equal(a[1], b[0]) and torch.equal(a[1], c[0])
        assert not torch.equal(a[0], a[1])
