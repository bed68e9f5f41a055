"""Long fits and probes are kept on the way: killed anywhere they go on to equal bits, and nothing remains of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import FTFL, MBPO, small
from test_replays import TASK as REPLAYED
from test_replays import fit as replayed
from toy_envs import DRIFT

from benchmark.records.spec import FitBudget, ProbeBudget, RunSpec
from benchmark.records.store import Store
from benchmark.running import course, replays, snapshots
from benchmark.running.ensure import TRAINERS, ensure
from benchmark.running.job import Place, Result
from benchmark.running.stopping import Stopped
from mbpo import diagnostics, fitting
from mbpo.buffer import Layout

EARLY = {"stopping": "early", "patience": 2, "max_epochs": 6, "batch_size": 16, "bootstrap": "per-member"}


class Killed(BaseException):
    """No handler of anything expects it."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are short, so that a tiny fit has many ends of one."""
    monkeypatch.setattr(fitting, "_BLOCK", 6)


def fits(**model: Any) -> list[RunSpec]:
    budget = FitBudget(transitions=80, heldout=30)
    return [
        RunSpec(kind="fit", task=DRIFT, method=name, seed=seed, constants=small(arm, model=model), fit=budget)
        for name, arm, seed in (("mbpo", MBPO, 0), ("ftfl", FTFL, 0), ("ftfl", FTFL, 1))
    ]


def probes() -> list[RunSpec]:
    budget = ProbeBudget(
        shares=(0, 50), critic_updates=5, policy_updates=5, synthetic=20, branch_every=3, look_every=2, bias_episodes=1,
        eval_episodes=1,
    )  # fmt: skip
    made = [replayed(seed, predict) for seed, predict in ((0, "delta"), (0, "next_obs"), (1, "delta"))]
    longer = [spec.constants.model.model_copy(update={"updates": 12}) for spec in made]
    return [
        spec.model_copy(
            update={"kind": "probe", "probe": budget, "constants": spec.constants.model_copy(update={"model": model})}
        )
        for spec, model in zip(made, longer, strict=True)
    ]


def place(folder: Path, specs: Sequence[RunSpec], cache: Path, **given: Any) -> Place:
    folders = [folder / spec.key for spec in specs]
    for each in folders:
        each.mkdir(parents=True, exist_ok=True)
    return Place(cache, folders, lambda step, of: None, "cpu", 0.0, **given)


def kill_after(saves: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The process ends at an offer after its `saves`-th snapshot, which leaves work that was not saved."""
    made, offer, save = [0], course.Course.offer, course.Course.save

    def counted(self: course.Course, *given: Any) -> bool:
        made[0] += 1
        return save(self, *given)

    def offered(self: course.Course, *given: Any) -> None:
        if made[0] == saves:
            raise Killed
        offer(self, *given)

    monkeypatch.setattr(course.Course, "save", counted)
    monkeypatch.setattr(course.Course, "offer", offered)


def same(one: Sequence[Result], other: Sequence[Result]) -> None:
    for a, b in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(a.curve, b.curve, check_exact=True)
        pd.testing.assert_frame_equal(a.diagnostics, b.diagnostics, check_exact=True)


def killed(specs: list[RunSpec], cache: Path, tmp_path: Path, points: Sequence[int]) -> None:
    """Kill a job after some of its snapshots, let another process go on, compare with the undisturbed one."""
    train = TRAINERS[specs[0].kind]
    whole = train(specs, Place(cache, [], lambda step, of: None, "cpu"))
    for saves in points:
        here = place(tmp_path / str(saves), specs, cache)
        with pytest.MonkeyPatch.context() as patch:
            kill_after(saves, patch)
            with pytest.raises(Killed):
                train(specs, here)
        steps = {step for folder in here.checkpoints for step in course.checkpoint.steps(folder)}
        assert len(steps) == 1
        same(whole, train(specs, here))


@pytest.mark.parametrize("model", [{"updates": 20}, EARLY], ids=["fixed", "early"])
def test_a_fit_that_is_killed_anywhere_goes_on_to_equal_bits(model: dict[str, Any], tmp_path: Path) -> None:
    killed(fits(**model), tmp_path / "cache", tmp_path, (1, 2, 3))


def test_refits_along_a_growing_replay_go_on_to_equal_bits(tmp_path: Path) -> None:
    """Snapshots 1 to 4 are of the first of three fits; 6 is of the second, 10 of the third."""
    specs = [
        spec.model_copy(update={"fit": spec.fit.model_copy(update={"refits": 3})})
        for spec in fits(updates=20)
        if spec.fit
    ]
    killed(specs, tmp_path / "cache", tmp_path, (2, 6, 10))


def test_a_run_goes_on_without_its_company(tmp_path: Path) -> None:
    specs, cache = fits(updates=20), tmp_path / "cache"
    whole, here = TRAINERS["fit"](specs, Place(cache, [], lambda s, of: None, "cpu")), place(tmp_path, specs, cache)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_after(2, patch)
        TRAINERS["fit"](specs, here)
    same(whole[1:], TRAINERS["fit"](specs[1:], place(tmp_path, specs[1:], cache)))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the replays that probes start from."""
    folder = tmp_path_factory.mktemp("course")
    ensure([replayed(0), replayed(1)], Store(folder / "results", folder / "cache"), device="cpu")
    assert replays.has(folder / "cache", probes()[0].source_run) and probes()[0].task == REPLAYED
    return folder / "cache"


def test_a_probe_that_is_killed_anywhere_goes_on_to_equal_bits(kept: Path, tmp_path: Path) -> None:
    """There are 2 snapshots of its fit, 5 of its critics, 5 of its policies."""
    killed(probes(), kept, tmp_path, (1, 4, 9))


def test_a_stopped_fit_saves_and_its_record_is_that_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs, whole = fits(updates=20), Store(tmp_path / "whole", tmp_path / "whole-cache")
    store = Store(tmp_path / "results", tmp_path / "cache")
    ensure(specs, whole, device="cpu")
    updates, update = [0], fitting.dynamics.update

    def pressed(*given: Any) -> object:
        updates[0] += 1
        if updates[0] == 8:
            os.kill(os.getpid(), 15)
        return update(*given)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="saved at update 12"):
        patch.setattr(fitting.dynamics, "update", pressed)
        ensure(specs, store, device="cpu")
    assert [snapshots.steps(store.cache, spec) for spec in specs] == [[12]] * 3
    assert ensure(specs, store, device="cpu") == []
    for spec in specs:
        same([Result(*(getattr(store.read(spec), n) for n in Result._fields))],
             [Result(*(getattr(whole.read(spec), n) for n in Result._fields))])  # fmt: skip
        assert [row["steps"] for row in store.read(spec).provenance["stretches"]] == [[0, 12], [12, 20]]
    assert list((store.cache / "snapshots").iterdir()) == []


def test_no_snapshot_before_the_cadence_and_none_of_another_run(tmp_path: Path) -> None:
    specs, cache = fits(updates=20), tmp_path / "cache"
    here = place(tmp_path, specs, cache)
    slow = Place(cache, here.checkpoints, here.progress, "cpu", 300.0)
    TRAINERS["fit"](specs, slow)
    assert not any(list(folder.iterdir()) for folder in here.checkpoints)
    TRAINERS["fit"](specs, here)
    swapped = Place(cache, here.checkpoints[::-1], here.progress, "cpu", 0.0)
    with pytest.raises(course.InputError, match="is of another run; delete it to start anew"):
        TRAINERS["fit"](specs, swapped)


def test_a_full_disk_stops_no_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    specs, cache = fits(updates=20), tmp_path / "cache"
    whole = TRAINERS["fit"](specs, Place(cache, [], lambda step, of: None, "cpu"))
    with pytest.MonkeyPatch.context() as patch:

        def full(*given: Any, **more: Any) -> Path:
            raise OSError("No space left on device")

        patch.setattr(course.checkpoint, "save", full)
        same(whole, TRAINERS["fit"](specs, place(tmp_path, specs, cache)))
    assert "no snapshot at update 6, the work goes on: No space left" in caplog.text


def test_the_model_of_a_probe_is_measured_on_episodes_that_it_never_saw(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    fitted, measured = fitting.fit, diagnostics.model_report
    monkeypatch.setattr(fitting, "fit", lambda e, rows, *more, **named: (
        seen.setdefault("fitted", rows), fitted(e, rows, *more, **named))[1])  # fmt: skip
    monkeypatch.setattr(diagnostics, "model_report", lambda e, rows: (
        seen.setdefault("measured", rows), measured(e, rows))[1])  # fmt: skip
    (spec,) = probes()[:1]
    TRAINERS["probe"]([spec], Place(kept, [], lambda step, of: None, "cpu"))
    layout = Layout(3, 1)
    train, held = replays.transitions(kept, spec, layout)
    assert seen["fitted"][0].numpy().tolist() == train.tolist()
    assert seen["measured"][0].numpy().tolist() == held.tolist()
    assert not {tuple(row) for row in train.tolist()} & {tuple(row) for row in held.tolist()}
