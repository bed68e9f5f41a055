"""Kernels in bf16: against products of rounded numbers in double precision, and to the bit against themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import CDLL

import pytest
import torch
from helpers import NEEDS_KERNELS, same, seen_kernels
from test_kernels import SIZES, Numbers, pass_through
from test_soft import BOTH, CONFIGS, WAYS, learner, noise_for, transitions
from torch import Tensor
from torch.nn.functional import relu, silu, softplus

from mbpo.fast import kernels, sac_kernels
from mbpo.fast.engine import engine
from mbpo.nn import StackedMLP

pytestmark = NEEDS_KERNELS
BF16 = engine("cpu", "bf16").products


def rounded(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).double()


def by_hand(net: StackedMLP, x: Tensor, pull: Tensor) -> list[Tensor]:
    """Output and gradients of a relu network, as `pass_through`; a product with a single column is not rounded."""
    inputs, h = [], x
    for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        last = layer + 1 == len(net.weights)
        near = torch.Tensor.double if last and weight.shape[-1] == 1 else rounded
        inputs.append(h)
        h = (near(h) @ near(weight.detach()) + bias.detach().double()).float()
        h = h if last else h.relu()
    out, dw, db, grad = h, [], [], pull
    for weight, read in zip(reversed(net.weights), reversed(inputs), strict=True):
        near = torch.Tensor.double if weight.shape[-1] == 1 else rounded
        dw.append((near(read).mT @ near(grad)).float())
        db.append(grad.double().sum(-2, keepdim=True).float())
        grad = (near(grad) @ near(weight.detach()).mT).float()
        grad = grad if read is x else grad * (read > 0)
    return [out, *reversed(dw), *reversed(db), grad]


def bf16_pass(net: StackedMLP, x: Tensor, pull: Tensor) -> list[Tensor]:
    with BF16():
        return pass_through(net, x, pull)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("rows", [1, 6, 77])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_products_are_those_of_rounded_numbers(sizes: tuple[int, ...], rows: int) -> None:
    """Exact: whole numbers, many of them beyond 256, from where on bf16 knows some alone."""
    numbers = Numbers(True)
    net, pull = numbers.net((2,), sizes, relu), numbers(2, rows, sizes[-1], most=1)
    x = numbers(2, rows, sizes[0], most=999)
    same(bf16_pass(net, x, pull), by_hand(net, x, pull))


def test_rounding_is_torchs() -> None:
    """Ties, numbers beyond the greatest, infinities and what is none."""
    bits = torch.tensor(
        [0x3F808000, 0x3F818000, 0x3F808001, 0x3F7FFFFF, 0x7F7F7FFF, 0x7F7F8000, 0x7F800000, 0x7F800001]
    )
    special = bits.int().view(torch.float32)
    x = torch.cat([special, -special, torch.randn(1000) * torch.logspace(-30, 30, 1000)])[:, None]
    net = StackedMLP([torch.ones(1, 1, 2)], [torch.zeros(1, 1, 2)], relu)
    with BF16(), torch.no_grad():
        out = net(x)[0]
    assert torch.equal(out.nan_to_num(nan=7.0), x.to(torch.bfloat16).float().expand(-1, 2).nan_to_num(nan=7.0))


def test_an_instruction_and_its_emulation_are_the_same_to_the_bit(
    widths: dict[int, CDLL], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors of 16 use the instruction where there is one, shorter ones never."""
    numbers, passes = Numbers(False), []
    net, x, pull = numbers.net((2,), (17, 158, 13, 33), relu), numbers(2, 77, 17), numbers(2, 77, 33)
    for library in (kernels.library(), *widths.values()):
        monkeypatch.setattr(kernels, "library", lambda library=library: library)
        passes.append(bf16_pass(net, x, pull))
    for other in passes[1:]:
        same(passes[0], other)


def stacked(passes: Sequence[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(parts) for parts in zip(*passes, strict=True)]


def test_neither_companions_nor_threads_move_a_bit(threads: Callable[[int], None]) -> None:
    numbers, made = Numbers(False), []
    net, x, pull = numbers.net((3,), (17, 49, 33, 8), silu), numbers(3, 77, 17), numbers(3, 77, 8)
    alone = [StackedMLP(*([t[r : r + 1] for t in p] for p in (net.weights, net.biases)), silu) for r in range(3)]
    for count in (1, 2):
        threads(count)
        made.append(bf16_pass(net, x, pull))
        made.append(stacked([bf16_pass(one, x[r : r + 1], pull[r : r + 1]) for r, one in enumerate(alone)]))
    for other in made[1:]:
        same(made[0], other)


def test_rows_of_a_member_are_those_of_all() -> None:
    numbers = Numbers(False)
    net, x = numbers.net((2, 3), (9, 17, 5), silu), numbers(2, 1, 40, 9)
    member = torch.randint(3, (2, 40), generator=numbers.generator)
    with BF16(), torch.no_grad():
        everyone = net(x)
        chosen = net.forward_members(x, member)
    same([chosen], [everyone.gather(1, member[:, None, :, None].expand(-1, 1, -1, 5))[:, 0]])


def close(ours: Sequence[Tensor], others: Sequence[Tensor], share: float) -> None:
    for mine, other in zip(ours, others, strict=True):
        assert float((mine - other).norm()) <= share * float(other.norm()) + 1e-12


def test_the_likelihoods_gradients_are_those_of_its_parts() -> None:
    """Of the same products through torch's gradients; a hidden unit may round to its other neighbour."""
    numbers = Numbers(False)
    net, x, y = numbers.net((2, 2), (9, 49, 33, 8), silu), numbers(2, 2, 64, 9), numbers(2, 2, 64, 4)
    low, high = torch.full((2, 2, 1, 4), -4.0), torch.full((2, 2, 1, 4), 1.0)
    with BF16():
        ours = net.gaussian_gradients(x, y, low, high)
        mean, raw = net(x).chunk(2, -1)
        logvar = low + softplus(high - softplus(high - raw) - low)
        loss = ((mean - y).square() * (-logvar).exp() + logvar).mean((-2, -1)).sum()
        parts = torch.autograd.grad(loss, net.parameters)
    assert ours is not None
    close(ours, parts, 2e-3)
    fp32 = net.gaussian_gradients(x, y, low, high)
    assert fp32 is not None and not torch.equal(fp32[0], ours[0])


@BOTH
@CONFIGS
def test_a_learners_gradients_are_those_of_its_parts(name: str, config: dict[str, object]) -> None:
    agent = learner(5, 3, **config)
    rows, noise, called = transitions(agent.layout, 64), noise_for(agent.layout, 64), []
    with BF16(), seen_kernels(lambda kernel, *_: called.append(kernel)):
        ours = getattr(sac_kernels, name)(agent, rows, noise)
        grads, *sums = WAYS[name](agent, rows, noise)
    assert called[0] == name
    close(ours[0], grads, 5e-3)
    close(ours[1:], sums, 1e-3)
