"""Engines: what is refused, and that a product in few bits leaves everything else in many."""

import pytest
import torch
from torch import Tensor

from mbpo import nn
from mbpo.config import InputError
from mbpo.fast import kernels
from mbpo.fast.engine import Engine, engine
from mbpo.nn import Adam, StackedMLP, gradients, stacked_mlp


@pytest.mark.parametrize(
    ("device", "precision", "says"),
    [
        ("cpu", "fp23", "precision = 'fp23': not a choice; did you mean 'fp32'?"),
        ("cpu", "half", "precision = 'half': not a choice; known: bf16, fp32, fp64, tf32"),
        ("gpu", "fp32", "device = 'gpu': not a device; did you mean 'cpu'?"),
        ("cuda0", "fp32", "device = 'cuda0': not a device; did you mean 'cuda:0'?"),
        ("meta", "fp32", "device = 'meta': only cpu and cuda are supported; use device = 'auto'"),
        ("cpu", "tf32", "precision = 'tf32': exists on a GPU alone; use 'fp32' or 'bf16' on a CPU"),
    ],
)
def test_what_cannot_be_used_is_named(device: str, precision: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        engine(device, precision)
    assert str(caught.value) == says


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"^device = 'cuda': this torch sees no GPU; use device = 'cpu'$"):
        engine("cuda")
    assert engine("auto").device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"^device = 'cuda:2': there are 2 GPUs; the last is 'cuda:1'$"):
        engine("cuda:2")
    assert engine("auto", "tf32").device == torch.device("cuda")
    assert engine("cuda:1").device == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.float32), ("fp64", torch.float64)]
)
def test_precision_sets_the_format_of_parameters(precision: str, dtype: torch.dtype) -> None:
    assert engine("cpu", precision) == Engine(torch.device("cpu"), dtype, precision)


# What happens inside a block


def network(members: int | None, dtype: torch.dtype = torch.float32) -> StackedMLP:
    generator = [torch.Generator().manual_seed(r) for r in range(2)]
    return stacked_mlp((8, 16, 3), members, "glorot-uniform", torch.tanh, generator, torch.device("cpu"), dtype)


def batch(members: int | None, k: int, dtype: torch.dtype = torch.float32) -> Tensor:
    shape = (2, 6, 8) if members is None else (2, 1, 6, 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(k), dtype=torch.float64).to(dtype)


def step(net: StackedMLP, adam: Adam, x: Tensor) -> None:
    loss = (net(x) - 1.0).square().mean((-2, -1)).sum()
    assert loss.dtype == net.weights[0].dtype
    grads = gradients(loss, net.parameters)
    assert all(g.dtype == net.weights[0].dtype for g in grads)
    adam.step(grads)


def formats_inside(precision: str) -> set[torch.dtype]:
    """The formats of what the hidden layer's product gives."""
    dtypes: set[torch.dtype] = set()
    cpu = engine("cpu", precision)
    net = network(2, cpu.dtype)

    def spy(x: Tensor) -> Tensor:
        dtypes.add(x.dtype)
        return torch.tanh(x)

    net.activation = spy
    with cpu.products():
        step(net, Adam(net.parameters, 1e-3), batch(2, 0, cpu.dtype))
    assert {p.dtype for p in net.parameters} == {cpu.dtype}
    return dtypes


@pytest.mark.parametrize(
    ("precision", "inside"), [("bf16", torch.bfloat16), ("fp32", torch.float32), ("fp64", torch.float64)]
)
def test_only_products_change_their_format(precision: str, inside: torch.dtype) -> None:
    assert formats_inside(precision) == {inside}


def test_an_engine_says_what_makes_it_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "library", object)
    assert [engine("cpu", precision).means for precision in ("fp32", "fp64", "bf16")] == ["kernels", "torch", "kernels"]
    assert Engine(torch.device("cuda"), torch.float32, "tf32", capture=True).means == "graphs"
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert engine("cpu").means == "torch"


def test_bf16_is_near_fp32_and_not_the_same() -> None:
    net, x = network(2), batch(2, 0)
    exact = net(x).detach()
    with engine("cpu", "bf16").products():
        coarse = net(x).detach()
    assert coarse.dtype == torch.float32
    gap = float((coarse - exact).abs().max())
    assert 1e-5 < gap < 0.05 * float(exact.abs().max())
    assert torch.equal(net(x), exact)


@pytest.mark.parametrize("members", [None, 2])
def test_bf16_by_rounding_is_torchs_bf16(members: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU without the instructions computes faster than torch does, forward and backward."""
    products = []
    for rounds in (True, False):
        monkeypatch.setattr(nn, "rounds_bf16", lambda _, rounds=rounds: rounds)
        net, x = network(members), batch(members, 0).requires_grad_()
        with engine("cpu", "bf16").products():
            out = net(x)
            products.append([out.detach(), *gradients((out - 1.0).square().mean(), [x, *net.parameters])])
    for rounded, torchs in zip(*products, strict=True):
        torch.testing.assert_close(rounded, torchs, rtol=2**-7, atol=2**-7 * float(torchs.abs().max()))
        # Sums in another order may round to the neighbouring bf16, seldom.
        assert float((rounded == torchs).double().mean()) > 0.9


@pytest.mark.parametrize("members", [None, 2])
def test_bf16_products_see_every_update_within_one_block(members: int | None) -> None:
    """Autocast may keep its copy of a weight for a whole block: updates in it would then go unseen."""
    blocks, single = network(members), network(members)
    bf16 = engine("cpu", "bf16")
    adams = [Adam(net.parameters, 1e-2) for net in (blocks, single)]
    for k in range(5):
        with bf16.products():
            step(blocks, adams[0], batch(members, k))
    with bf16.products():
        for k in range(5):
            step(single, adams[1], batch(members, k))
    assert all(torch.equal(a, b) for a, b in zip(blocks.parameters, single.parameters, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_tf32_is_set_inside_a_block_alone(precision: str) -> None:
    """The switch is a global of torch, present without a GPU too."""
    gpu = Engine(torch.device("cuda"), torch.float32, precision)
    for before in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = before
        try:
            with pytest.raises(ZeroDivisionError), gpu.products():
                assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")
                raise ZeroDivisionError
            assert torch.backends.cuda.matmul.allow_tf32 == before
        finally:
            torch.backends.cuda.matmul.allow_tf32 = False
