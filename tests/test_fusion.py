"""A fused update is the update: traced once with its backward pass and optimizer, compiled, and captured on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import FTFL, MBPO, assert_same_rows, assert_same_run, drive, parameters, small
from torch import Tensor
from toy_envs import DRIFT

from mbpo import Budget, loop
from mbpo.fast import fusion, kernels
from mbpo.fast.engine import engine
from mbpo.fast.fusion import Fused
from mbpo.loop import Run
from mbpo.nn import Adam

BUDGET = Budget(env_steps=80, eval_every=40, eval_episodes=1)
RUNS = [Run(small(MBPO), 0), Run(small(FTFL), 1)]


@pytest.fixture(autouse=True)
def _no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler sees operations of torch alone; on a GPU there are no others."""
    monkeypatch.setattr(kernels, "library", lambda: None)


def as_it_is(graph: Callable[..., object], **_: object) -> Callable[..., object]:
    """In place of the compiler, which takes half a minute: the operations that were written down."""
    return graph


def train(monkeypatch: pytest.MonkeyPatch, device: str, precision: str, fuse: bool):
    fusing = replace(engine(device, precision), fuse_from=0 if fuse else float("inf"))
    monkeypatch.setattr(loop, "engine", lambda *_: fusing)
    return drive(DRIFT, RUNS, BUDGET, device=device, precision=precision)


def assert_fused_is_plain(monkeypatch: pytest.MonkeyPatch, device: str, precision: str, rtol: float) -> None:
    """Several fits and blocks: what was written down at the first update must serve all others."""
    rows, state = train(monkeypatch, device, precision, fuse=False)
    fused_rows, fused = train(monkeypatch, device, precision, fuse=True)
    for r in range(len(RUNS)):
        assert_same_rows(rows, fused_rows, run=r, rtol=rtol)
        assert_same_run(parameters(state, r), parameters(fused, r), rtol=rtol, atol=rtol / 10)


@pytest.mark.parametrize("precision", ["fp64", "bf16"])
def test_what_is_written_down_is_the_update(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    monkeypatch.setattr(fusion.torch, "compile", as_it_is)
    assert_fused_is_plain(monkeypatch, "cpu", precision, {"fp64": 1e-9, "bf16": 1e-4}[precision])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp64", "fp32"])
def test_compiled_and_captured_updates_are_the_updates(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    assert_fused_is_plain(monkeypatch, "cuda", precision, {"fp64": 1e-8, "fp32": 2e-3}[precision])


def test_a_compiled_update_moves_its_own_parameters() -> None:
    """The real compiler on the smallest update: results, and what is written in place."""
    weights = [torch.ones(3, dtype=torch.float64) for _ in range(2)]

    def work(weight: Tensor, x: Tensor) -> dict[str, Tensor]:
        weight.add_(x, alpha=0.5)
        return {"sum": weight.sum()}

    fused, inputs = Fused(partial(work, weights[0])), [torch.full((3,), float(k), dtype=torch.float64) for k in (1, 2)]
    for x in (*inputs, inputs[0]):
        assert torch.equal(fused(x)["sum"], work(weights[1], x)["sum"]) and torch.equal(*weights)


def test_without_a_compiler_the_operations_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InductorError  # a second of every worker's start, were it imported above

    def broken(*_: object, **__: object) -> Callable[..., object]:
        def fail(*_: object) -> object:
            raise InductorError(RuntimeError("no compiler for this card"), None)

        return fail

    monkeypatch.setattr(fusion.torch, "compile", broken)
    weight, x = torch.zeros(2), torch.ones(2)

    def work(x: Tensor) -> dict[str, Tensor]:
        weight.add_(x)
        return {"sum": weight.sum()}

    fused = Fused(work)
    assert float(fused(x)["sum"]) == 2.0
    with pytest.warns(UserWarning, match=r"updates run as they are, .* no compiler for this card"):
        assert float(fused(x)["sum"]) == 4.0
    assert float(fused(x)["sum"]) == 6.0


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_adam_in_parts_is_the_kernel(monkeypatch: pytest.MonkeyPatch, decay: float) -> None:
    starts = [torch.randn(2, 5, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in range(3)]
    moved = []
    for kernel in (torch._fused_adam_, lambda *columns, **constants: fusion.adam(*columns, **constants)):
        monkeypatch.setattr(torch, "_fused_adam_", kernel)
        parameters_ = [start.clone() for start in starts]
        optimizer = Adam(parameters_, 1e-2, [decay] * 3)
        for k in range(5):
            optimizer.step([(p * (k - 2)).sin() for p in parameters_])
        moved.append([*parameters_, *optimizer.first, *optimizer.second])
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_short_jobs_are_not_compiled() -> None:
    fusing = replace(engine("cpu"), fuse_from=1000)
    plain = dict
    assert fusing.step(plain, 999) is plain and isinstance(fusing.step(plain, 1000), Fused)
    assert engine("cpu").step(plain, 10**9) is plain
