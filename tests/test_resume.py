"""An interrupted job, started again on its checkpoint, is the uninterrupted job to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
import torch
from helpers import FITTED, FTFL, MBPO, assert_same_rows, assert_same_run, drive, parameters, small, small_janner
from toy_envs import DRIFT, ENDLESS

from mbpo import Budget, InputError, checkpoint, loop, rowlog, saving
from mbpo.checkpoint import complete
from mbpo.loop import Row, Run
from mbpo.state import TrainState

PENDULUM, HOPPER = "gym:InvertedPendulum-v5", "dmc:hopper-hop"
BUDGET = Budget(env_steps=120, eval_every=40, eval_episodes=1)
ARMS = [Run(small(MBPO, utd=1), 0), Run(small(FTFL, utd=1), 0), Run(small(FITTED, utd=1), 1)]


@cache
def undisturbed() -> tuple[list[Row], TrainState]:
    return drive(DRIFT, ARMS, BUDGET)


class Interrupted(Exception):
    """The machine goes down."""


@contextmanager
def snapshots_from(step: int) -> Iterator[None]:
    """Where a snapshot is taken at every env step: only at every tenth one until `step`."""
    save = saving.save

    def now_and_then(state: TrainState, folders: Sequence[Path]) -> bool:
        return (state.env_steps % 10 == 0 or state.env_steps >= step) and save(state, folders)

    with mock.patch.object(saving, "save", now_and_then):
        yield


def interrupt(
    at: int, task: str, runs: list[Run], folder: Path, budget: Budget = BUDGET, **options: object
) -> TrainState:
    """Train with snapshots, the last one at step `at`, until the machine goes down right after it."""
    seen = []

    def stop(state: TrainState) -> None:
        seen.append(state)
        if state.env_steps == at:
            raise Interrupted

    with pytest.raises(Interrupted), snapshots_from(at - 2):
        drive(task, runs, budget, at_step=stop, checkpoint=folder, checkpoint_seconds=0.0, **options)
    return seen[-1]


@pytest.mark.parametrize(
    ("task", "runs", "at"),
    [
        (PENDULUM, ARMS, 57),
        (HOPPER, ARMS[:2], 97),
        (DRIFT, [Run(small_janner(MBPO), 0), Run(small_janner(FTFL), 1)], 84),
        (DRIFT, [Run(small(model=None), 0)], 20),
    ],
    ids=["pendulum", "hopper", "janner", "sac-in-random-phase"],
)
def test_a_resumed_job_is_the_uninterrupted_one(tmp_path: Path, task: str, runs: list[Run], at: int) -> None:
    """Rows, diagnostics, weights, moments, buffers and target maps; interrupted in the midst of episodes and fits."""
    budget = BUDGET if task != HOPPER else Budget(env_steps=120, eval_every=120, eval_episodes=1)  # 1,000 steps each
    rows, whole = drive(task, runs, budget)
    torn = interrupt(at, task, runs, tmp_path, budget)
    assert any(len(env["actions"]) for env in torn.envs.state()), "no episode was under way"
    resumed_rows, resumed = drive(task, runs, budget, checkpoint=tmp_path)
    assert [row.env_steps for row in resumed_rows] == list(range(0, 121, budget.eval_every))
    for r in range(len(runs)):
        assert_same_rows(rows, resumed_rows, run=r)
        assert_same_run(parameters(whole, r), parameters(resumed, r))
    assert whole.episodes.tolist() == resumed.episodes.tolist()


def test_a_job_can_be_interrupted_again_and_again(tmp_path: Path) -> None:
    rows, whole = undisturbed()
    for at in (33, 41, 42, 119):
        interrupt(at, DRIFT, ARMS, tmp_path)
    resumed_rows, resumed = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path)
    for r in range(3):
        assert_same_rows(rows, resumed_rows, run=r)
        assert_same_run(parameters(whole, r), parameters(resumed, r))


def test_a_resume_trains_only_what_is_missing(tmp_path: Path) -> None:
    interrupt(100, DRIFT, ARMS, tmp_path)
    steps: list[int] = []
    drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, at_step=lambda state: steps.append(state.env_steps))
    assert steps == list(range(101, 121))


def test_a_caller_that_stops_listening_loses_nothing(tmp_path: Path) -> None:
    """Breaking out of the generator at a row closes it; the snapshot before that row is kept."""
    rows, _ = undisturbed()
    training = loop.train(
        DRIFT, ARMS, BUDGET, device="cpu", precision="fp64", checkpoint=tmp_path, checkpoint_seconds=0.0
    )
    with snapshots_from(78):
        for row in training:
            if row.env_steps == 80:
                break
        training.close()
    assert [checkpoint.steps(tmp_path / run.name) for run in ARMS] == [[79]] * 3
    resumed, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path)
    for r in range(3):
        assert_same_rows(rows, resumed, run=r)


def test_a_finished_job_yields_its_rows_again(tmp_path: Path) -> None:
    rows, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, keep_last=True)
    trained: list[TrainState] = []
    again, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, at_step=trained.append)
    assert not trained
    for r in range(3):
        assert_same_rows(rows, again, run=r)


def test_divergence_is_remembered(tmp_path: Path) -> None:
    """A run that was lost before the interruption is reported lost after it, whatever its parameters say then."""

    def lose(state: TrainState) -> None:
        if state.env_steps == 45:
            state.diverged[1] = True
        if state.env_steps == 60:
            raise Interrupted

    with pytest.raises(Interrupted), snapshots_from(58):
        drive(DRIFT, ARMS, BUDGET, at_step=lose, checkpoint=tmp_path, checkpoint_seconds=0.0)
    rows, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path)
    assert [row.diagnostics["diverged"].tolist() for row in rows] == [[0, 0, 0]] * 2 + [[0, 1, 0]] * 2


@pytest.mark.parametrize(
    ("task", "runs", "options"),
    [
        (ENDLESS, [Run(small(), 0), Run(small(), 1)], {}),
        (DRIFT, [Run(small(), 0)], {}),
        (ENDLESS, [Run(small(), 0)], {"budget": Budget(env_steps=120, eval_every=30, eval_episodes=1)}),
        (ENDLESS, [Run(small(), 0)], {"budget": Budget(env_steps=20, eval_every=40, eval_episodes=1)}),
        (ENDLESS, [Run(small(), 0)], {"precision": "fp32"}),
    ],
    ids=["companion", "task", "budget", "shorter", "precision"],
)
def test_a_checkpoint_of_another_job_is_refused(
    tmp_path: Path, task: str, runs: list[Run], options: dict[str, object]
) -> None:
    interrupt(30, ENDLESS, [Run(small(), 0)], tmp_path)
    given: dict[str, object] = {"budget": BUDGET, **options}
    with pytest.raises(InputError, match="checkpoint"):
        drive(task, runs, checkpoint=tmp_path, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("run", [Run(small(), 1), Run(small(FTFL), 0), Run(small(utd=3), 0)])
def test_another_run_begins_beside_it(tmp_path: Path, run: Run) -> None:
    interrupt(30, ENDLESS, [Run(small(), 0)], tmp_path)
    steps: list[int] = []
    drive(ENDLESS, [run], BUDGET, checkpoint=tmp_path, at_step=lambda state: steps.append(state.env_steps))
    assert steps[0] == 1


def snapshot(folder: Path, run: Run) -> Path:
    (whole,) = complete(folder / run.name)
    return whole


def test_a_torn_snapshot_is_passed_over(tmp_path: Path) -> None:
    """One without its sentinel, newer than the whole one: training goes on from the whole one."""
    rows, _ = undisturbed()
    interrupt(50, DRIFT, ARMS, tmp_path)
    whole = snapshot(tmp_path, ARMS[1])
    torn = whole.with_name("step-000000000070")
    torn.mkdir()
    (torn / "state.pt").write_bytes((whole / "state.pt").read_bytes()[:1000])
    steps: list[int] = []
    resumed, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, at_step=lambda state: steps.append(state.env_steps))
    assert steps[0] == 51
    for r in range(3):
        assert_same_rows(rows, resumed, run=r)


@pytest.mark.parametrize("file", ["state.pt", "real-*.rows", "synthetic-*.rows", "COMPLETE"])
def test_a_whole_snapshot_that_cannot_be_read_is_an_error(tmp_path: Path, file: str) -> None:
    """Never a silent restart."""
    interrupt(50, DRIFT, ARMS, tmp_path)
    whole = snapshot(tmp_path, ARMS[1])
    hit = sorted((whole if file in ("state.pt", "COMPLETE") else whole.parent).glob(file))[0]
    hit.write_bytes(hit.read_bytes()[:-8] + bytes(8))
    with pytest.raises(InputError, match="damaged") as error:
        drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path)
    assert ARMS[1].name in str(error.value)


# A snapshot belongs to a run


def test_any_runs_of_a_job_go_on_in_any_company(tmp_path: Path) -> None:
    """Three runs are stopped; two of them go on in another order beside one of another job, the third alone."""
    rows, whole = undisturbed()
    interrupt(57, DRIFT, ARMS, tmp_path)
    interrupt(57, DRIFT, [Run(small(MBPO, utd=1), 5)], tmp_path)
    company = [ARMS[2], Run(small(MBPO, utd=1), 5), ARMS[0]]
    steps: list[int] = []
    mixed, state = drive(DRIFT, company, BUDGET, checkpoint=tmp_path, at_step=lambda s: steps.append(s.env_steps))
    alone, last = drive(DRIFT, [ARMS[1]], BUDGET, checkpoint=tmp_path)
    assert steps[0] == 58
    for there, of, found, end in ((2, 0, mixed, state), (0, 2, mixed, state), (0, 1, alone, last)):
        assert_same_rows(found, rows, run=there, of=of, rtol=1e-9)
        assert_same_run(parameters(end, there), parameters(whole, of), rtol=1e-9, atol=1e-11)


def test_a_kill_between_two_runs_snapshots_loses_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run has a newer snapshot than the second: both go on from the older one, to the bit."""
    rows, whole = undisturbed()
    save, calls = checkpoint.save, []

    def dies(folder: Path, step: int, *rest: object, **options: object) -> Path:
        calls.append(step)
        if calls.count(61) == 2:
            raise Interrupted
        return save(folder, step, *rest, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Interrupted), snapshots_from(59):
        patch.setattr(checkpoint, "save", dies)
        drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, checkpoint_seconds=0.0)
    assert [checkpoint.steps(tmp_path / run.name) for run in ARMS] == [[60, 61], [60], [60]]
    steps: list[int] = []
    resumed, end = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, at_step=lambda state: steps.append(state.env_steps))
    assert steps[0] == 61
    for r in range(3):
        assert_same_rows(rows, resumed, run=r)
        assert_same_run(parameters(whole, r), parameters(end, r))


@pytest.mark.parametrize("run", [Run(small(MBPO), 0), Run(small_janner(FTFL), 1)])
def test_a_budget_may_grow(tmp_path: Path, run: Run) -> None:
    """A finished run whose last state was kept goes on to a longer budget, to the bit of a run that had it at once."""
    rows, whole = drive(DRIFT, [run], BUDGET)
    drive(DRIFT, [run], BUDGET.model_copy(update={"env_steps": 70}), checkpoint=tmp_path, keep_last=True)
    steps: list[int] = []
    grown, state = drive(DRIFT, [run], BUDGET, checkpoint=tmp_path, at_step=lambda s: steps.append(s.env_steps))
    assert steps[0] == 71
    assert_same_rows(rows, grown)  # the shorter budget's evaluation at its end, off the grid, is left out
    assert_same_run(parameters(whole, 0), parameters(state, 0))


@pytest.mark.parametrize("small_file", [0, 100])
def test_rows_are_appended_and_those_that_no_buffer_holds_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_file: int
) -> None:
    monkeypatch.setattr(rowlog, "SMALL", small_file)
    run = Run(small(MBPO, rollout={"per_step": 8, "retain": 5}, real_capacity=60), 0)
    rows, whole = drive(DRIFT, [run], BUDGET)
    written: dict[str, int] = {}

    def look(state: TrainState) -> None:
        if small_file:
            assert len(list((tmp_path / run.name).glob("*.rows"))) <= 2 * 120 * 8 // small_file + 2
        files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / run.name).glob("*.rows")}
        assert all(files[name] == written[name] for name in files if name in written), "a file was written again"
        held = sum(state.layout.width * 8 * int(buffer.size[0]) for buffer in state.buffers.values())
        size = sum(path.stat().st_size for path in (tmp_path / run.name).glob("*.rows"))
        assert size <= held + 8 * state.layout.width * 300, "files whose rows are all overwritten remain"
        written.update(files)
        if state.env_steps == 100:
            raise Interrupted

    with pytest.raises(Interrupted):
        drive(DRIFT, [run], BUDGET, checkpoint=tmp_path, checkpoint_seconds=0.0, at_step=look)
    resumed, state = drive(DRIFT, [run], BUDGET, checkpoint=tmp_path)
    assert_same_rows(rows, resumed)
    assert_same_run(parameters(whole, 0), parameters(state, 0))


# What stops a job, and what must not


def test_a_job_that_is_told_to_stop_loses_no_step(tmp_path: Path) -> None:
    rows, whole = undisturbed()
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) == 67

    with pytest.raises(KeyboardInterrupt, match="saved at env step 67"):
        drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, stop=stop)
    steps: list[int] = []
    resumed, state = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, at_step=lambda s: steps.append(s.env_steps))
    assert steps[0] == 68
    for r in range(3):
        assert_same_rows(rows, resumed, run=r)
        assert_same_run(parameters(whole, r), parameters(state, r))


def test_a_full_disk_is_a_warning_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows, _ = undisturbed()
    steps: list[int] = []

    def full(*args: object, **options: object) -> None:
        if steps[-1:] >= [50]:
            raise OSError("No space left on device")
        return save(*args, **options)  # type: ignore[no-any-return]

    save = torch.save
    monkeypatch.setattr(torch, "save", full)
    with snapshots_from(120):
        told, _ = drive(
            *(DRIFT, ARMS, BUDGET),
            checkpoint=tmp_path,
            checkpoint_seconds=0.0,
            at_step=lambda s: steps.append(s.env_steps),
        )
    assert "no snapshot at env step 120, training goes on: No space left on device" in caplog.text
    assert [checkpoint.steps(tmp_path / run.name) for run in ARMS] == [[50]] * 3
    for r in range(3):
        assert_same_rows(rows, told, run=r)
