"""The speed command counts what is executed, and guards on operation counts that no noisy machine can upset."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import counted_flops, seen_kernels
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark import cli
from benchmark.running import cost
from benchmark.speed import measure, parts
from benchmark.speed.parts import Parts, brief_fit, register_precision
from benchmark.suite.load import load_suite
from mbpo import loop, sac
from mbpo.config import Budget, InputError
from mbpo.envs import EnvBatch
from mbpo.fast import kernels, peak
from mbpo.fast.engine import Engine, engine
from mbpo.look import evaluate
from mbpo.state import TrainState

TASK = "gym:InvertedPendulum-v5"
OBS, ACTION = 4, 1


class Calls(TorchDispatchMode):
    """Counts the operations that reach the dispatcher, and the calls of kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __enter__(self):
        self._seen = seen_kernels(self._add_one)
        self._seen.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._seen.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self._add_one()
        return func(*args, **(kwargs or {}))

    def _add_one(self, *_):
        self.count += 1


@pytest.fixture(scope="module")
def state() -> Iterator[TrainState]:
    question, method = measure.Question(task=TASK), load_suite().method("mbpo", TASK)
    brief = method.model_copy(update={"utd": 2})
    state, _ = measure.warmed_up(question, brief, Budget(env_steps=1000, eval_episodes=4), engine("cpu", "fp32"))
    yield state
    state.close()


@pytest.fixture(params=["native", "torch"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who computes the networks: the kernels, or torch alone."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "library", lambda: None)
    elif kernels.library() is None:
        pytest.skip("there are no kernels here")
    return request.param


WORK = {
    "sac": loop.update_block,  # of two updates
    "model": lambda state: brief_fit(state, 6),
    "less of the model": lambda state: brief_fit(state, 4),
    "rollout": loop.branch_rollouts,
}


def flops(state: TrainState, part: str) -> int:
    with counted_flops() as counted:
        WORK[part](state)
        return counted()


def calls(state: TrainState, part: str) -> int:
    with Calls() as counted:
        WORK[part](state)
    return counted.count


def test_counted_flops_are_the_executed_ones(state: TrainState, backend: str) -> None:
    method = load_suite().method("mbpo", TASK)
    assert method.model is not None
    assert flops(state, "sac") == 2 * cost.sac_update_flops(method, OBS, ACTION, kernels=backend == "native")
    update = (flops(state, "model") - flops(state, "less of the model")) / 2
    assert update == cost.model_update_flops(method.model, OBS, ACTION)
    assert flops(state, "rollout") == cost.rollout_flops(method, OBS, ACTION, kernels=backend == "native")


def test_an_env_step_of_quadruped_walk_is_fifty_gflop() -> None:
    flops = cost.env_step_flops(load_suite().method("mbpo", "dmc:quadruped-walk"), 78, 12)
    assert flops == pytest.approx(50.2e9, rel=0.01)


MOST_CALLS = {"native": (70, 41, 135), "torch": (385, 180, 180)}
"""Of a SAC update, a model update and the rollouts of an env step."""


def test_an_update_makes_no_more_calls_than_it_did(state: TrainState, backend: str) -> None:
    of_sac, of_model, of_rollouts = MOST_CALLS[backend]
    update = calls(state, "sac") / 2
    assert update <= of_sac, f"a SAC update makes {update} operations"
    update = (calls(state, "model") - calls(state, "less of the model")) / 2
    assert update <= of_model, f"a model update makes {update} operations"
    rollout = calls(state, "rollout")
    assert rollout <= of_rollouts, f"the rollouts of an env step make {rollout} operations"


@pytest.mark.usefixtures("backend")
def test_evaluation_is_a_small_share_by_its_counts(state: TrainState, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 10 episodes every 5,000 steps: its calls, products and simulated steps per env step against the learning's."""
    steps: list[int] = []
    inner = EnvBatch.step

    def step(self, actions, which=None):
        steps.append(len(actions) if which is None else len(which))
        return inner(self, actions, which)

    monkeypatch.setattr(EnvBatch, "step", step)
    state.rows.clear()
    with Calls() as counted, counted_flops() as done:
        evaluate(state)
    paper = Budget()
    method = load_suite().method("mbpo", TASK)
    batched, simulated = len(steps), sum(steps)
    assert batched < simulated <= 4 * batched, "episodes step together"
    per_batch = counted.count / batched  # diagnostics included, which are the same for a long episode
    looks = 1000 / paper.eval_every  # of the longest episodes, batched over all of them
    learning = method.utd * calls(state, "sac") / 2 + 20 * calls(state, "model") / 6
    assert per_batch * looks <= 0.05 * learning
    policy = 2 * (OBS * 256 + 256 * 256 + 256 * 2 * ACTION)
    assert done() >= simulated * policy, "the policy acts in every step"
    assert looks * paper.eval_episodes * policy <= 0.001 * cost.env_step_flops(method, OBS, ACTION)
    assert looks * paper.eval_episodes == 2.0, "two simulated steps for each env step"


def test_the_command_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["speed", "--task", TASK, "--method", "sac", "--runs", "2", "--rounds", "2", "--json"])
    assert code == 0
    measurement = json.loads(capsys.readouterr().out)
    assert (measurement["device"], measurement["precision"], measurement["runs"], measurement["threads"]) == (
        "cpu",
        "fp32",
        2,
        1,
    )
    names = {"env", "act", "sac_update", "evaluation", "host"}
    assert {*names, "total_per_env_step_per_run"} == set(measurement["seconds"])
    weighed = sum(measurement["seconds"][name] for name in names) / 2
    assert measurement["seconds"]["total_per_env_step_per_run"] == pytest.approx(weighed)
    assert sum(measurement["share"].values()) == pytest.approx(1.0)
    # How fast this machine is, no test says: only that torch's product is there, and the peak wherever it can be had.
    assert measurement["matmul_gflops"] > 0 and measurement["fraction_of_matmul"] > 0
    there = peak.multiply_adds("fp32", rounds=1) is not None
    assert [measurement[name] is not None for name in ("peak_gflops", "fraction_of_peak")] == [there, there]
    assert not there or (measurement["peak_gflops"] > 0 and measurement["fraction_of_peak"] > 0)
    assert measurement["peak_memory_bytes"] > 50e6 and measurement["compile_s"] >= 0 and measurement["cpus_had"] > 0


def test_parts_of_a_method_with_a_model_are_weighed_as_its_constants_do(monkeypatch: pytest.MonkeyPatch) -> None:
    part_seconds = {
        "env": 1e-4,
        "act": 2e-4,
        "sac_update": 3e-3,
        "model_update": 2e-2,
        "rollout": 1e-2,
        "evaluation": 5e-4,
    }
    step_seconds = 1e-4 + 2e-4 + 20 * 3e-3 + 1e-2 + 7e-3
    seconds = {**part_seconds, "advance": step_seconds}
    # A turn beside somebody else's work: all of it takes twice as long, and its own peaks are half.
    slow = {**{name: 2 * value for name, value in seconds.items()}, "peak_flops": 1e11, "matmul_flops": 5e10}
    turns = [{**seconds, "peak_flops": 2e11, "matmul_flops": 1e11}, slow, slow]
    monkeypatch.setattr(measure, "time_parts", lambda *_: Parts(seconds, 2e11, 1e11, turns))
    measurement = measure.measure(measure.Question(task=TASK, runs=2))
    assert measurement["seconds"]["host"] == pytest.approx(7e-3)
    total = (step_seconds + 20 * 2e-2 + 5e-4) / 2
    assert measurement["seconds"]["total_per_env_step_per_run"] == pytest.approx(total)
    assert (measurement["peak_gflops"], measurement["matmul_gflops"]) == (200, 100)
    assert measurement["fraction_of_peak"] == pytest.approx(measurement["gflop_per_env_step_per_run"] / 200 / total)
    assert measurement["fraction_of_matmul"] == pytest.approx(2 * measurement["fraction_of_peak"])
    text = "\n".join(measure.sentences(measurement))
    assert "machine's peak     200 GFLOP/s" in text and "torch's product    100 GFLOP/s" in text
    assert f"{measurement['fraction_of_peak']:.2f} of the machine's peak" in text
    assert measurement["share"]["evaluation"] == pytest.approx(5e-4 / 2 / total)
    (text,) = [line for line in measure.sentences(measurement) if "evaluation at the paper's cadence" in line]
    assert "10 episodes every 5,000 env steps, is 0.10% of the time" in text


def test_without_a_peak_the_fraction_is_of_torchs_product_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "library", lambda: None)
    measurement = measure.measure(measure.Question(task=TASK, method="sac"), rounds=1)
    assert (
        measurement["peak_gflops"] is measurement["fraction_of_peak"] is None and measurement["fraction_of_matmul"] > 0
    )
    text = "\n".join(measure.sentences(measurement))
    assert f"{measurement['fraction_of_matmul']:.2f} of torch's product" in text and "machine's peak" not in text


def test_the_peak_is_of_the_precision_that_products_are_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    has = {"fp32"}
    monkeypatch.setattr(peak, "multiply_adds", lambda precision, rounds: precision if precision in has else None)
    assert [register_precision(engine("cpu", name)) for name in ("fp32", "fp64")] == ["fp32", None]
    monkeypatch.setattr(parts, "rounds_bf16", lambda device: True)
    assert register_precision(engine("cpu", "bf16")) == "fp32", "products of rounded numbers are fp32's"
    monkeypatch.setattr(parts, "rounds_bf16", lambda device: False)
    assert register_precision(engine("cpu", "bf16")) is None, (
        "as with units for whole matrices, of which there is no peak"
    )
    has.add("bf16")
    assert register_precision(engine("cpu", "bf16")) == "bf16"
    assert register_precision(Engine(torch.device("cuda"), torch.float32, "fp32")) is None


def test_a_saved_measurement_says_where_it_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["speed", "--task", TASK, "--method", "sac", "--rounds", "1", "--save", "--results", str(tmp_path)]
    assert cli.main(arguments) == 0
    (path,) = tmp_path.glob("speed/*/*.json")
    assert path.name == "gym-InvertedPendulum-v5-sac-R1-t1-fp32.json" and str(path) in capsys.readouterr().err
    where = json.loads(path.read_text())["where"]
    assert {"processor", "cpus", "load_average", "versions", "commit", "date"} <= set(where)


def test_all_cpus_step_environments_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure.usual_threads(measure.Question(device="cpu")) == 1
    monkeypatch.setattr(measure, "device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(measure, "cpu_count", lambda: 16)
    assert measure.usual_threads(measure.Question()) == 16


def test_a_profile_names_the_operations() -> None:
    profile = measure.profile(measure.Question(task=TASK, method="sac"), rows=40)
    assert "aten::" in profile and "Self CPU" in profile


def test_bad_questions_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="stops its fits early"):
        measure.measure(measure.Question(task=TASK, method="mbpo-janner"))
    assert cli.main(["speed", "--task", TASK, "--precision", "fp23"]) == 2
    assert "did you mean 'fp32'" in capsys.readouterr().err


@pytest.mark.usefixtures("backend")
def test_one_policy_step_is_one_pass_of_the_actor(state: TrainState) -> None:
    with counted_flops() as counted:
        sac.act(state.sac, torch.zeros(1, 10, OBS), None)
    assert counted() == 10 * 2 * (OBS * 256 + 256 * 256 + 256 * 2 * ACTION)
