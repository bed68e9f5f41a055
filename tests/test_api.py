"""The public surface: what `train` takes, what it says of anything else, what callbacks see and loggers write."""

from __future__ import annotations

import csv
import functools
import inspect
import json
import sys
import types
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import toy_envs
from helpers import small

import mbpo
from benchmark.suite.load import load_suite
from mbpo import Budget, InputError, Method, ModelConfig, Run, loop, method, train
from mbpo.api import as_runs, task_id
from mbpo.methods import METHODS
from mbpo.views import View

BUDGET = Budget(env_steps=45, eval_every=15, eval_episodes=2)
SAC = small(model=None, random_steps=20)
CPU: dict[str, Any] = {"device": "cpu", "env_workers": 1}


def limited() -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(toy_envs.Lqr(), toy_envs.Lqr.LIMIT)


def test_everything_that_the_package_names_is_there() -> None:
    assert all(getattr(mbpo, name) is not None for name in mbpo.__all__)
    with pytest.raises(AttributeError, match="no attribute 'tarin'"):
        _ = mbpo.tarin


# Methods by name


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_core_is_the_benchmarks_of_that_name(name: str) -> None:
    theirs = load_suite().method(name, "dmc:hopper-hop")
    assert method(name).model_dump(exclude_defaults=True) == theirs.model_dump(exclude_defaults=True)


def test_changes_reach_into_the_parts_of_a_method() -> None:
    changed = method("ftfl", utd=3, model={"hidden_dims": (8, 8), "weight_decay": 1e-4}, target={"predict": "fitted"})
    assert (changed.utd, changed.target.normalize, changed.target.predict) == (3, "both", "fitted")
    assert changed.model == ModelConfig(hidden_dims=(8, 8), weight_decay=(1e-4, 1e-4, 1e-4))
    assert method("mbpo") == Method() and method("sac").model is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "ftlf"}, "unknown method 'ftlf'; did you mean 'ftfl'"),
        ({"name": Method()}, "give a name, not a Method"),
        ({"name": "ftfl", "utdd": 3}, "utdd: unknown field; did you mean 'utd'"),
        ({"name": "ftfl", "model": {"width": 3}}, "model.width: unknown field"),
        ({"name": "sac", "model": {"updates": 3}}, "method 'sac' has no model"),
        ({"name": "mbpo", "model": {"hidden_dims": (8, 8)}}, "has 5 entries for 3 layers: give one per layer, or one"),
    ],
)
def test_a_method_that_cannot_be_is_one_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        method(**arguments)


def test_one_weight_decay_holds_for_every_layer() -> None:
    assert ModelConfig(weight_decay=0).weight_decay == (0,) * 5
    assert ModelConfig(hidden_dims=(4,), weight_decay=1e-3).weight_decay == (1e-3, 1e-3)


# Runs


def test_one_run_or_many_by_value_or_name() -> None:
    ftfl = method("ftfl")
    assert as_runs(Run(ftfl, 3)) == as_runs(("ftfl", 3)) == as_runs([("ftfl", 3)]) == [Run(ftfl, 3)]
    assert as_runs([Run(ftfl, 0), ("mbpo", 1)]) == [Run(ftfl, 0), Run(Method(), 1)]
    assert as_runs(("ftfl", np.int64(3))) == [Run(ftfl, 3)] and type(as_runs(("ftfl", np.int64(3)))[0].seed) is int
    assert as_runs(Run(ftfl, s) for s in range(2)) == [Run(ftfl, 0), Run(ftfl, 1)]


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        (Method(), r"runs is a bare Method: give Run\(method, seed=0\)"),
        ([Method()], r"runs\[0\] is a bare Method"),
        ("ftfl", r"runs is the name 'ftfl': give \[\('ftfl', seed\)\]"),
        (3, "runs is a int: give a Run"),
        ([Run(Method(), 0), 1], r"runs\[1\] is a int"),
        ([(3, 0)], r"runs\[0\].method is a int: give a Method, or a name such as 'ftfl'"),
        ([("ftlf", 0)], "did you mean 'ftfl'"),
        ([("ftfl", 0.5)], r"runs\[0\].seed is a float"),
        ([], "runs is empty"),
    ],
)
def test_what_is_no_run_is_told_before_anything_trains(runs: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(train(toy_envs.LQR, runs, BUDGET, **CPU))


def test_a_budget_has_to_be_one() -> None:
    with pytest.raises(InputError, match=r"budget is a int: give Budget\(env_steps=20_000\)"):
        train(toy_envs.LQR, Run(SAC, 0), 500, **CPU)  # type: ignore[arg-type]


def test_every_option_of_the_loop_is_taken_with_its_default() -> None:
    ours, theirs = (inspect.signature(function).parameters for function in (train, loop.train))
    assert set(ours) - set(theirs) == {"logger", "callbacks"} and set(theirs) <= set(ours)
    options = [name for name, parameter in theirs.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY]
    assert len(options) == 10
    assert all(ours[name].default == theirs[name].default for name in options)


def test_options_reach_the_loop(tmp_path: Path) -> None:
    told: list[int] = []
    options = {"checkpoint": tmp_path, "keep_last": True, "progress": told.append, "precision": "fp64"}
    rows = list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, **options, **CPU))
    again = list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, **options, **CPU))
    assert [row.env_steps for row in again] == [row.env_steps for row in rows] and (
        tmp_path / Run(SAC, 0).name
    ).is_dir()
    for drop in (["touch"], "touch"):
        with pytest.raises(InputError, match="no observation group 'touch' to drop"):
            list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, drop=drop, **CPU))
    kept = list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, **(options | {"checkpoint": str(tmp_path)}), **CPU))
    assert [row.env_steps for row in kept] == [row.env_steps for row in rows]
    (tmp_path / "file").write_text("")
    for wrong, words in ((tmp_path / "file", "is a file; give a folder"), ([3], "a int is no folder; give a path")):
        with pytest.raises(InputError, match=words):
            list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, checkpoint=wrong, **CPU))  # type: ignore[arg-type]


# Tasks


def test_a_factory_trains_as_the_registered_task_does() -> None:
    rows = list(train(limited, Run(SAC, 0), BUDGET, **CPU))
    registered = list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, **CPU))
    for mine, theirs in zip(rows, registered, strict=True):
        np.testing.assert_array_equal(mine.returns, theirs.returns)


def test_a_factory_has_one_id_and_another_of_its_name_another() -> None:
    first, second = (lambda: toy_envs.Lqr()), (lambda: toy_envs.Lqr())
    assert task_id(first) == task_id(first) != task_id(second)
    assert task_id(limited) == "gym:FactoryLimited-v0" and task_id(toy_envs.Lqr) == "gym:FactoryLqr-v0"
    assert task_id(functools.partial(limited)).startswith("gym:FactoryLimited-v")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (toy_envs.Lqr(), "task is an environment, .* give its id, such as 'gym:Lqr-v0', or .* lambda: Lqr"),
        (limited(), "lambda: Lqr"),
        (7, "task is a int: give an id such as 'dmc:hopper-hop'"),
        (lambda: 3, "the factory made a int; a gymnasium.Env is needed"),
        ("hopper-hop", "does not say its suite"),
    ],
)
def test_what_is_no_task_is_told(task: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        list(train(task, Run(SAC, 0), BUDGET, **CPU))


# Callbacks


def test_callbacks_see_the_job_and_change_nothing(tmp_path: Path) -> None:
    seen: list[Any] = []

    def look(view: View) -> None:
        view.row.returns[:] = 1e9
        view.transitions(1)["obs"][:] = 1e9
        seen.append((view.env_steps, view.updates, len(view.rows), len(view.transitions(1)["reward"])))
        with pytest.raises(AttributeError):
            view.env_steps = 3  # type: ignore[misc]
        if view.updates:
            policy = view.policy(1)
            assert policy.origin.env_steps == view.env_steps and policy.act(np.zeros(2)).shape == (1,)
            assert view.task.obs_dim == 2 and view.runs[1].seed == 1 and view.budget == BUDGET
            assert len(view.transitions(0, last=7)["obs"]) == 7
            for wrong in (2, -1):
                with pytest.raises(InputError, match=f"run = {wrong}: this job has runs 0 to 1"):
                    view.policy(wrong)
            with pytest.raises(InputError, match="no dynamics model"):
                view.dynamics()

    runs = [Run(SAC, 0), Run(SAC, 1)]
    watched = list(train(toy_envs.LQR, runs, BUDGET, callbacks=look, **CPU))
    plain = list(train(toy_envs.LQR, runs, BUDGET, **CPU))
    assert [line[:2] for line in seen] == [(row.env_steps, row.updates) for row in plain]
    assert [line[2:] for line in seen] == [(1, 0), (2, 15), (3, 30), (4, 45)]
    for mine, theirs in zip(watched, plain, strict=True):
        np.testing.assert_array_equal(mine.returns, theirs.returns)


def test_transitions_are_those_that_were_lived() -> None:
    held: list[dict[str, np.ndarray]] = []
    list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, callbacks=[lambda view: held.append(view.transitions())], **CPU))
    last = held[-1]
    assert {name: values.shape for name, values in last.items()} == {
        "obs": (45, 2), "action": (45, 1), "next_obs": (45, 2), "reward": (45,), "terminated": (45,),
    }  # fmt: skip
    np.testing.assert_array_equal(last["obs"][1:30], last["next_obs"][:29])  # one episode is 30 steps
    lqr = toy_envs.Lqr
    expected = last["obs"].astype(float) @ np.array(lqr.A).T + last["action"] * np.array(lqr.B)
    np.testing.assert_allclose(last["next_obs"], expected, atol=1e-5)
    assert not last["terminated"].any()


def test_a_callback_that_says_true_ends_training_after_its_row() -> None:
    rows = list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, callbacks=[lambda v: v.env_steps >= 15], **CPU))
    assert [row.env_steps for row in rows] == [0, 15]
    with pytest.raises(InputError, match="callbacks: a int cannot be called"):
        train(toy_envs.LQR, Run(SAC, 0), BUDGET, callbacks=[3], **CPU)  # type: ignore[list-item]


# Loggers


def test_csv_and_json_lines_hold_every_row(tmp_path: Path) -> None:
    paths = [tmp_path / "deep" / "log.csv", tmp_path / "log.jsonl"]
    runs = [Run(SAC, 4), Run(SAC, 2)]
    rows = list(train(toy_envs.LQR, runs, BUDGET, logger=[str(paths[0]), paths[1]], **CPU))
    table = list(csv.DictReader(paths[0].open()))
    found = {(line["run"], int(line["env_steps"]), line["measure"]): float(line["value"]) for line in table}
    lines = [json.loads(line) for line in paths[1].read_text().splitlines()]
    assert len(lines) == 2 * len(rows)
    for i, row in enumerate(rows):
        for r, name in enumerate(("seed-4", "seed-2")):
            line = lines[2 * i + r]
            assert (line["run"], line["env_steps"], line["returns"]) == (name, row.env_steps, row.returns[r].tolist())
            assert found[name, row.env_steps, "return_mean"] == row.returns[r].mean()
            assert found[name, row.env_steps, "temperature"] == row.diagnostics["temperature"][r]
            assert line["diagnostics"].keys() == row.diagnostics.keys() and line["failure"] is None
    with pytest.raises(InputError, match="exists; give another name"):
        list(train(toy_envs.LQR, runs, BUDGET, logger=paths[0], **CPU))


def test_a_logger_of_ones_own_is_closed_also_where_training_breaks_off() -> None:
    calls: list[str] = []

    class Mine:
        def log(self, row: mbpo.Row, runs: Any) -> None:
            calls.append(f"{row.env_steps} {len(runs)}")

        def close(self) -> None:
            calls.append("closed")

    rows = train(toy_envs.LQR, Run(SAC, 0), BUDGET, logger=Mine(), **CPU)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert calls == ["0 1", "closed"]


@pytest.mark.parametrize("given", ["log.txt", 3, {"a": 1}])
def test_what_is_no_logger_is_told(given: Any) -> None:
    with pytest.raises(InputError, match=r"logger = .*: give a \.csv"):
        list(train(toy_envs.LQR, Run(SAC, 0), BUDGET, logger=given, **CPU))


def test_tensorboard_is_missed_in_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"need the package tensorboard: pip install tensorboard"):
        mbpo.TensorBoardLogger(tmp_path)


def test_offline_runs_are_made_for_each_run_and_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Any] = []

    class Wandb(types.ModuleType):
        """What of the package is called, with the arguments of the real one."""

        @staticmethod
        def init(**settings: Any) -> Any:
            run = types.SimpleNamespace(settings=settings, lines=[], ended=False)
            run.log = lambda values, step: run.lines.append((step, values["evaluation/return_mean"]))
            run.finish = lambda: setattr(run, "ended", True)
            made.append(run)
            return run

    monkeypatch.setitem(sys.modules, "wandb", Wandb("wandb"))
    rows = list(train(toy_envs.LQR, [Run(SAC, 4), Run(SAC, 2)], BUDGET, logger=f"wandb:{tmp_path / 'w'}", **CPU))
    assert [run.settings["name"] for run in made] == ["seed-4", "seed-2"] and all(run.ended for run in made)
    assert {run.settings["mode"] for run in made} == {"offline"} and made[0].settings["config"]["seed"] == 4
    assert made[1].lines == [(row.env_steps, row.returns[1].mean()) for row in rows]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"need the package wandb: pip install wandb"):
        mbpo.WandbLogger(tmp_path)


def test_event_files_hold_every_row(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="event files need the package tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = list(train(toy_envs.LQR, [("sac", 0)], BUDGET, logger=f"tensorboard:{tmp_path}", **CPU))
    events = EventAccumulator(str(tmp_path / "seed-0"))
    events.Reload()
    scalars = events.Scalars("evaluation/return_mean")
    assert [scalar.step for scalar in scalars] == [row.env_steps for row in rows]
    np.testing.assert_allclose([scalar.value for scalar in scalars], [row.returns.mean() for row in rows], rtol=1e-6)
