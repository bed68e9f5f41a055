"""The speed command counts what is executed, and a guard on operation counts that no noisy machine can upset."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmark import cli, speed
from benchmark.running import cost
from benchmark.suite.pages import load_suite
from mbpo import dynamics, loop, sac
from mbpo.accelerate import engine
from mbpo.config import Budget, InputError
from mbpo.state import TrainState

TASK = "gym:InvertedPendulum-v5"
OBS, ACTION = 4, 1


class Calls(TorchDispatchMode):
    """Counts the operations that reach the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def state() -> TrainState:
    question = speed.Question(task=TASK)
    state, _ = speed._warmed_up(
        question, load_suite().method("mbpo", TASK), Budget(env_steps=1000), engine("cpu", "fp32")
    )
    return state


def batch(state: TrainState) -> torch.Tensor:
    return state.real.filled()[:, :256].contiguous()


def test_counted_flops_are_the_executed_ones(state: TrainState) -> None:
    method = load_suite().method("mbpo", TASK)
    with FlopCounterMode(display=False) as counted:
        sac.update(state.sac, batch(state), torch.zeros(1, 2, 256, ACTION))
    assert counted.get_total_flops() == cost.sac_update_flops(method, OBS, ACTION)
    with FlopCounterMode(display=False) as counted:
        dynamics.update(state.dynamics, batch(state))
    assert counted.get_total_flops() == cost.model_update_flops(method.model, OBS, ACTION)
    with FlopCounterMode(display=False) as counted:
        loop.branch_rollouts(state)
    assert counted.get_total_flops() == cost.rollout_flops(method, OBS, ACTION)


def test_an_env_step_of_quadruped_walk_is_fifty_gflop() -> None:
    flops = cost.env_step_flops(load_suite().method("mbpo", "dmc:quadruped-walk"), 78, 12)
    assert flops == pytest.approx(50.2e9, rel=0.01)


@pytest.mark.parametrize(("part", "most"), [("sac", 370), ("model", 175), ("rollout", 170)])
def test_an_update_makes_no_more_calls_than_it_did(state: TrainState, part: str, most: int) -> None:
    work = {
        "sac": lambda: sac.update(state.sac, batch(state), torch.zeros(1, 2, 256, ACTION)),
        "model": lambda: dynamics.update(state.dynamics, batch(state)),
        "rollout": lambda: loop.branch_rollouts(state),
    }[part]
    with Calls() as calls:
        work()
    assert calls.count <= most, f"{part}: {calls.count} operations, {most} allowed"


def test_the_command_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["speed", "--task", TASK, "--method", "sac", "--runs", "2", "--json"])
    assert code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["precision"], found["runs"], found["threads"]) == ("cpu", "fp32", 2, 1)
    parts = {"env", "act", "sac_update", "evaluation", "total_per_env_step_per_run"}
    assert parts == set(found["seconds"])
    weighed = sum(found["seconds"][name] for name in ("env", "act", "sac_update", "evaluation")) / 2
    assert found["seconds"]["total_per_env_step_per_run"] == pytest.approx(weighed)
    assert sum(found["share"].values()) == pytest.approx(1.0)
    done = found["gflop_per_env_step_per_run"] / found["seconds"]["total_per_env_step_per_run"]
    assert found["fraction_of_peak"] == pytest.approx(done / found["peak_gflops"])
    assert found["peak_memory_bytes"] > 50e6


def test_bad_questions_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="stops its fits early"):
        speed.measure(speed.Question(task=TASK, method="mbpo-janner"))
    assert cli.main(["speed", "--task", TASK, "--precision", "fp23"]) == 2
    assert "did you mean 'fp32'" in capsys.readouterr().err
