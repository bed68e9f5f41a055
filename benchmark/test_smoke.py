"""The smoke protocol end to end, as a user runs it: whole records, nothing twice, resumes bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark import cli
from benchmark.records.frames import DERIVED
from benchmark.records.spec import RunSpec
from benchmark.records.store import COLUMNS, Record, Store
from benchmark.running import ensure
from benchmark.suite.criterion import FIT_MEASURES
from benchmark.suite.entries import Protocol
from benchmark.suite.load import load_suite, specs

pytestmark = pytest.mark.smoke

PENDULUM, HOPPER = "gym:InvertedPendulum-v5", "dmc:hopper-hop"
ARMS = ["mbpo", "ftfl", "reward-norm", "fitted"]
ONLINE = ["q_mean", "critic_loss", "actor_loss", "temperature", "entropy", "real_reward_mean", "diverged"]
WITH_MODEL = ["model_holdout_mse", "synthetic_reward_mean", "logvar_target", "logvar_raw", "rollout_length"]


@pytest.fixture(scope="module")
def smoke() -> Protocol:
    return load_suite().protocol("smoke")


@pytest.fixture
def fresh(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


def run(store: Store, capsys: pytest.CaptureFixture[str], task: str, *arguments: str) -> dict[str, Any]:
    """`python -m benchmark run`, and what it prints under --json."""
    folders = ["--results", str(store.results), "--cache", str(store.cache)]
    assert cli.main(["run", "--protocol", "smoke", "--json", "--task", task, *arguments, *folders]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def methods(*names: str) -> list[str]:
    return [word for name in names for word in ("--method", name)]


def scalars(record: Record, step: int) -> dict[str, float]:
    rows = record.diagnostics[(record.diagnostics["step"] == step) & (record.diagnostics["dim"] == -1)]
    return dict(zip(rows["measure"], rows["value"], strict=True))


def check_online(record: Record, plan: Protocol) -> None:
    """Every evaluation of every episode, sound returns, and the diagnostics that the last one took."""
    budget = plan.train.budget(record.spec.task)
    steps = range(0, budget.env_steps + 1, budget.eval_every)
    curve = record.curve
    assert list(curve.columns) == COLUMNS["train"]
    assert curve["env_steps"].tolist() == [step for step in steps for _ in range(budget.eval_episodes)]
    assert np.isfinite(curve["episode_return"]).all() and curve["length"].between(1, 1000).all()
    if record.spec.task.startswith("dmc:"):
        assert (curve["length"] == 1000).all() and curve["episode_return"].between(0, 1000).all()
    else:  # one point per step but the last, on which the pole has fallen
        assert (curve["episode_return"] == curve["length"] - (curve["length"] < 1000)).all()
    last = scalars(record, budget.env_steps)
    expected = ONLINE + (WITH_MODEL if record.spec.constants.fits_model else [])
    assert all(np.isfinite(last[name]) for name in expected) and last["diverged"] == 0
    # the first update follows the step that ends the random phase, the last one the last step
    learned = budget.env_steps - record.spec.constants.random_steps
    assert last["updates"] == record.spec.constants.utd * (learned + 1)


@pytest.mark.parametrize(("task", "names"), [(PENDULUM, ["sac", "mbpo", "ftfl"]), (HOPPER, ["mbpo", "ftfl"])])
def test_training_leaves_whole_records_and_is_not_done_twice(
    fresh: Store, smoke: Protocol, capsys: pytest.CaptureFixture[str], task: str, names: list[str]
) -> None:
    wanted = specs("train", [task], names, smoke)
    assert run(fresh, capsys, task, *methods(*names))["trained"] == len(wanted) == smoke.seeds * len(names)
    records = [fresh.read(spec) for spec in wanted]
    for record in records:
        check_online(record, smoke)
        assert record.provenance["device"] and len(record.provenance["engine"]) == 16
    values = {record.last("q_mean") for record in records}
    assert len(values) == len(records), "runs of one job must not be copies of one another"
    before = {path: path.stat().st_mtime_ns for path in fresh.runs.rglob("*")}
    assert run(fresh, capsys, task, *methods(*names))["trained"] == 0
    assert {path: path.stat().st_mtime_ns for path in fresh.runs.rglob("*")} == before
    assert fresh.torn() == [] and not any((fresh.cache / "snapshots").iterdir())


def test_fits_leave_whole_records(fresh: Store, smoke: Protocol, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = specs("fit", [HOPPER], ARMS, smoke)
    assert run(fresh, capsys, HOPPER, "--kind", "fit", *methods(*ARMS))["trained"] == len(wanted)
    for record in map(fresh.read, wanted):
        model = record.spec.constants.model
        assert model is not None and list(record.curve.columns) == COLUMNS["fit"]
        assert record.curve["update"].iloc[-1] == model.updates and np.isfinite(record.curve).all(axis=None)
        last = scalars(record, model.updates)
        assert set(FIT_MEASURES) - set(DERIVED) <= set(last)
        always = ("logvar_target", "logvar_raw", "error_over_delta", "error_over_next_obs", "reward_pred_mean")
        assert all(np.isfinite(last[name]) for name in always)
        dims = record.diagnostics.query("measure == 'dim_scale'")["dim"]
        assert sorted(dims) == list(range(15 + 1))
    data = {record.spec.seed: last_true(record) for record in map(fresh.read, wanted)}
    assert all(last_true(record) == data[record.spec.seed] for record in map(fresh.read, wanted)), "arms share data"


def last_true(record: Record) -> float:
    return record.last("reward_true_mean")


def test_dropped_groups_make_another_run(fresh: Store, smoke: Protocol, capsys: pytest.CaptureFixture[str]) -> None:
    run(fresh, capsys, HOPPER, "--method", "ftfl", "--seeds", "1", "--kind", "fit", "--drop", "touch")
    (spec,) = specs("fit", [HOPPER], ["ftfl"], smoke, 1, drop=["touch"])
    assert sorted(fresh.read(spec).diagnostics.query("measure == 'dim_scale'")["dim"]) == list(range(13 + 1))
    assert not fresh.has(specs("fit", [HOPPER], ["ftfl"], smoke, 1)[0])


@pytest.mark.parametrize("stop", [11, 47])
def test_a_killed_job_resumes_to_the_same_numbers(
    tmp_path: Path, smoke: Protocol, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    from mbpo import checkpoint

    wanted = specs("train", [PENDULUM], ["mbpo", "ftfl"], smoke)
    whole, broken = (Store(tmp_path / name / "results", tmp_path / name / "cache") for name in ("whole", "broken"))
    ensure.ensure(wanted, whole)
    save = checkpoint.save

    def save_and_die(folder: Path, step: int, *rest: Any, **options: Any) -> Path:
        snapshot = save(folder, step, *rest, **options)
        if step == stop and folder.name == wanted[-1].key:
            raise KeyboardInterrupt
        return snapshot

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            ensure.ensure(wanted, broken, checkpoint_seconds=0)
    assert broken.missing(wanted) == wanted
    kept = [[path.name for path in sorted((broken.cache / "snapshots" / s.key).glob("step-*"))] for s in wanted]
    assert all(names == [f"step-{stop - 1:012d}", f"step-{stop:012d}"] for names in kept), "the older goes last"
    ensure.ensure(wanted, broken)
    for spec in wanted:
        check_equal(spec, whole, broken)
        assert broken.read(spec).provenance["resumed"] and not whole.read(spec).provenance["resumed"]


def check_equal(spec: RunSpec, one: Store, other: Store) -> None:
    pd.testing.assert_frame_equal(one.read(spec).curve, other.read(spec).curve, check_exact=True)
    pd.testing.assert_frame_equal(one.read(spec).diagnostics, other.read(spec).diagnostics, check_exact=True)
