"""Blocks of updates as a GPU captures them: safe to capture, and the same numbers as the eager block.

Without a GPU a tape stands in for the CUDA graph; with one the graph itself is held against the eager block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from helpers import FTFL, MBPO, assert_same_rows, assert_same_run, drive, parameters, ready, small
from tape import Tape
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from toy_envs import DRIFT

from mbpo import Budget, dynamics, loop, sac
from mbpo import state as state_module
from mbpo.fast import engine as accelerate
from mbpo.fast import kernels
from mbpo.fast.engine import Block, Engine, engine
from mbpo.loop import Run

BUDGET = Budget(env_steps=140, eval_every=70, eval_episodes=1)
RUNS = [Run(small(MBPO), 0), Run(small(FTFL), 1)]
SCHEDULED = small(MBPO, rollout={"schedule": (60, 120, 1, 3), "every": 5, "retain": 40})


@pytest.fixture(autouse=True)
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, torch does all the work: neither tape nor watch sees into a kernel."""
    monkeypatch.setattr(kernels, "library", lambda: None)


# On tape


def on_tape(monkeypatch: pytest.MonkeyPatch, precision: str) -> Tape:
    """Training that starts from here on records its blocks on the tape that is returned."""
    tape = Tape()
    monkeypatch.setattr(accelerate, "CudaGraphs", lambda: tape)
    monkeypatch.setattr(loop, "engine", lambda *_: replace(engine("cpu", precision), capture=True))
    monkeypatch.setattr(state_module, "OWN", "no rule")  # the toy's own rule is made of tensor operations
    return tape


@pytest.mark.parametrize(
    ("runs", "precision"),
    [(RUNS, "fp64"), (RUNS[:1], "bf16"), ([Run(SCHEDULED, 0)], "fp64")],
    ids=["arms", "bf16", "long"],
)
def test_training_on_tape_is_training_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, runs: list[Run], precision: str
) -> None:
    """Several fits, so that blocks meet new target maps, input statistics and elites; rollouts of several lengths."""
    rows, state = drive(DRIFT, runs, BUDGET, precision=precision)
    tape = on_tape(monkeypatch, precision)
    taped_rows, taped = drive(DRIFT, runs, BUDGET, precision=precision)
    assert tape.recorded >= 3 and tape.replayed > 80
    for r in range(len(runs)):
        assert_same_rows(rows, taped_rows, run=r)
        assert_same_run(parameters(state, r), parameters(taped, r))


def test_a_tape_plays_what_was_recorded_and_not_what_python_says_later() -> None:
    """Else training on tape would prove nothing."""
    tensors = {"weight": torch.ones(2), "moved": torch.zeros(2)}

    def work(x: Tensor) -> dict[str, Tensor]:
        tensors["moved"].add_(1.0)
        return {"out": x * tensors["weight"] + float(len(tensors))}

    block, x = Block(work, Tape()), torch.arange(2.0)
    for k in range(1, 5):
        assert block(x * k)["out"].tolist() == [2.0, 2.0 + k] and tensors["moved"].tolist() == [k, k]
    tensors["weight"].fill_(3.0)
    assert block(x)["out"].tolist() == [2.0, 5.0]
    tensors["weight"] = torch.zeros(2)
    tensors["more"] = x
    assert block(x)["out"].tolist() == [2.0, 5.0]


def test_results_and_inputs_belong_to_the_caller() -> None:
    block, x = Block(lambda x: {"out": x + 1.0}, Tape()), torch.zeros(3)
    outputs = [block(torch.full((3,), float(k)))["out"] for k in range(4)]
    assert [out.tolist() for out in outputs] == [[k + 1.0] * 3 for k in range(4)]
    block(x)["out"].fill_(7.0)
    assert x.tolist() == [0.0] * 3 and block(x)["out"].tolist() == [1.0] * 3


def test_each_set_of_shapes_has_a_recording_and_the_oldest_goes() -> None:
    tape = Tape()
    block = Block(lambda x: {"out": x.sum(0)}, tape)
    for size in (2, 3, 2, 3, 2, 3):
        assert float(block(torch.ones(size))["out"]) == size
    assert (tape.recorded, tape.replayed) == (2, 2)
    for size in (4, 5, 6):
        block(torch.ones(size))
    for _ in range(2):
        block(torch.ones(2))
    assert tape.recorded == 3


def test_without_a_recorder_a_block_is_the_plain_call() -> None:
    plain = engine("cpu")
    assert plain.capture is False
    x = torch.ones(2)
    assert plain.block(lambda x: {"same": x})(x)["same"] is x


# What may not be captured

FORBIDDEN = (
    *("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "bincount", "lift_fresh", "is_nonzero"),
    *("repeat_interleave", "equal", "argwhere"),
)
RANDOM = ("normal", "uniform", "random", "bernoulli", "rand", "randn", "randint", "randperm", "multinomial")


class Watch(TorchDispatchMode):
    """Refuses whatever asks the device for a value, makes a shape depend on one, or brings data from the host."""

    def __init__(self, also: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.forbidden = (*FORBIDDEN, *also)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        assert name.strip("_").removesuffix("_copy") not in self.forbidden, f"{name} in a block"
        assert name not in self.forbidden and name.rstrip("_") not in self.forbidden, f"{name} in a block"
        if name in ("index", "index_put_", "index_put"):
            masks = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor) and x.dtype == torch.bool]
            assert not masks, f"{name} by a mask: its shape depends on data"
        if name == "_to_copy":
            assert kwargs.get("device") in (None, args[0].device), "a copy to another device"
        return func(*args, **kwargs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_blocks_are_safe_to_capture(precision: str) -> None:
    with ready(DRIFT, RUNS, BUDGET, precision) as state:
        model, layout = state.dynamics, state.layout
        assert model is not None
        rows = state.real.filled()[:, :32].clone()
        start = layout.obs(rows)
        noise = torch.zeros(2, 1, 2, 32, layout.action_dim)
        branching = [torch.zeros(2, 2, 32, *last) for last in ([layout.action_dim], [], [layout.obs_dim + 1])]
        with Watch(RANDOM):
            sac.updates(partial(sac.update, state.sac), rows[:, None], noise)
            dynamics.updates(partial(dynamics.update, model), rows[None])
            state._branch(start, *branching)


@pytest.mark.parametrize("method", [small(), SCHEDULED, small(model=None)], ids=["paper", "long", "sac"])
def test_nothing_between_two_steps_waits_for_the_device(method: Any) -> None:
    """Draws included: the host only launches."""
    with ready(DRIFT, [Run(method, 0)], BUDGET) as state, Watch():
        loop.update_block(state)
        if state.dynamics is not None:
            loop.branch_rollouts(state)


@pytest.mark.parametrize(
    "unsafe",
    [
        lambda x: x.sum().item(),
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x + torch.tensor([1.0, 2.0]),
        lambda x: x + torch.randn(2),
        lambda x: x.normal_(),
        lambda x: torch.equal(x, x),
    ],
)
def test_the_watch_sees_what_is_unsafe(unsafe: Callable[[Tensor], Any]) -> None:
    x = torch.ones(2)
    with pytest.raises(AssertionError), Watch(RANDOM):
        unsafe(x)


# On a GPU

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_gpu(monkeypatch: pytest.MonkeyPatch, precision: str, capture: bool) -> None:
    capturing: Engine = replace(engine("cuda", precision), capture=capture)
    monkeypatch.setattr(loop, "engine", lambda *_: capturing)


@needs_gpu
@pytest.mark.parametrize("precision", ["fp64", "fp32", "tf32", "bf16"])
@pytest.mark.parametrize("runs", [RUNS, [Run(SCHEDULED, 0)], [Run(small(model=None), 3)]], ids=["arms", "long", "sac"])
def test_captured_training_is_eager_training(monkeypatch: pytest.MonkeyPatch, runs: list[Run], precision: str) -> None:
    on_gpu(monkeypatch, precision, capture=False)
    rows, state = drive(DRIFT, runs, BUDGET, device="cuda", precision=precision)
    on_gpu(monkeypatch, precision, capture=True)
    captured_rows, captured = drive(DRIFT, runs, BUDGET, device="cuda", precision=precision)
    assert captured.sac_block._recordings
    for r in range(len(runs)):
        assert_same_rows(rows, captured_rows, run=r, rtol=1e-6)
        assert_same_run(parameters(state, r), parameters(captured, r), rtol=1e-6, atol=1e-7)


@needs_gpu
def test_lockstep_on_a_gpu_is_each_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu(monkeypatch, "fp64", capture=True)
    rows, state = drive(DRIFT, RUNS, BUDGET, device="cuda")
    for k, run in enumerate(RUNS):
        solo_rows, solo = drive(DRIFT, [run], BUDGET, device="cuda")
        assert_same_rows(solo_rows, rows, run=0, of=k, rtol=1e-9)
        assert_same_run(parameters(solo, 0), parameters(state, k), rtol=1e-9, atol=1e-11)
