"""An interrupted job, started again on its checkpoint, is the uninterrupted job to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import FITTED, FTFL, MBPO, assert_same_rows, assert_same_run, drive, parameters, small, small_janner
from toy_envs import DRIFT, ENDLESS

from mbpo import Budget, InputError, loop
from mbpo.checkpoint import complete
from mbpo.loop import Run
from mbpo.state import TrainState

PENDULUM, HOPPER = "gym:InvertedPendulum-v5", "dmc:hopper-hop"
BUDGET = Budget(env_steps=120, eval_every=40, eval_episodes=1)
ARMS = [Run(small(MBPO), 0), Run(small(FTFL), 0), Run(small(FITTED), 1)]


class Interrupted(Exception):
    """The machine goes down."""


def interrupt(
    at: int, task: str, runs: list[Run], folder: Path, budget: Budget = BUDGET, **options: object
) -> TrainState:
    """Train with a snapshot after every env step until the machine goes down right after step `at`."""
    seen = []

    def stop(state: TrainState) -> None:
        seen.append(state)
        if state.env_steps == at:
            raise Interrupted

    with pytest.raises(Interrupted):
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
    rows, whole = drive(task, runs, BUDGET)
    torn = interrupt(at, task, runs, tmp_path)
    assert any(len(env["actions"]) for env in torn.envs.state()), "no episode was under way"
    resumed_rows, resumed = drive(task, runs, BUDGET, checkpoint=tmp_path)
    assert [row.env_steps for row in resumed_rows] == [0, 40, 80, 120]
    for r in range(len(runs)):
        assert_same_rows(rows, resumed_rows, run=r)
        assert_same_run(parameters(whole, r), parameters(resumed, r))
    assert whole.episodes.tolist() == resumed.episodes.tolist()


def test_a_job_can_be_interrupted_again_and_again(tmp_path: Path) -> None:
    rows, whole = drive(DRIFT, ARMS, BUDGET)
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
    rows, _ = drive(DRIFT, ARMS, BUDGET)
    training = loop.train(
        DRIFT, ARMS, BUDGET, device="cpu", precision="fp64", checkpoint=tmp_path, checkpoint_seconds=0.0
    )
    for row in training:
        if row.env_steps == 80:
            break
    training.close()
    (kept,) = complete(tmp_path)
    assert kept.name.endswith("79")
    resumed, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path)
    for r in range(3):
        assert_same_rows(rows, resumed, run=r)


def test_a_finished_job_yields_its_rows_again(tmp_path: Path) -> None:
    rows, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, checkpoint_seconds=0.0)
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

    with pytest.raises(Interrupted):
        drive(DRIFT, ARMS, BUDGET, at_step=lose, checkpoint=tmp_path, checkpoint_seconds=0.0)
    rows, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path)
    assert [row.diagnostics["diverged"].tolist() for row in rows] == [[0, 0, 0]] * 2 + [[0, 1, 0]] * 2


@pytest.mark.parametrize(
    ("task", "runs", "options"),
    [
        (ENDLESS, [Run(small(), 1)], {}),
        (ENDLESS, [Run(small(FTFL), 0)], {}),
        (ENDLESS, [Run(small(utd=3), 0)], {}),
        (ENDLESS, [Run(small(), 0), Run(small(), 1)], {}),
        (DRIFT, [Run(small(), 0)], {}),
        (ENDLESS, [Run(small(), 0)], {"budget": Budget(env_steps=120, eval_every=30, eval_episodes=1)}),
        (ENDLESS, [Run(small(), 0)], {"precision": "fp32"}),
    ],
    ids=["seed", "arm", "constants", "companion", "task", "budget", "precision"],
)
def test_a_checkpoint_of_another_job_is_refused(
    tmp_path: Path, task: str, runs: list[Run], options: dict[str, object]
) -> None:
    interrupt(30, ENDLESS, [Run(small(), 0)], tmp_path)
    given: dict[str, object] = {"budget": BUDGET, **options}
    with pytest.raises(InputError, match="checkpoint"):
        drive(task, runs, checkpoint=tmp_path, **given)  # type: ignore[arg-type]


def test_a_torn_snapshot_is_passed_over(tmp_path: Path) -> None:
    """One without its sentinel, newer than the whole one: training goes on from the whole one."""
    rows, _ = drive(DRIFT, ARMS, BUDGET)
    interrupt(50, DRIFT, ARMS, tmp_path)
    (whole,) = complete(tmp_path)
    torn = whole.with_name("step-000000000070")
    torn.mkdir()
    (torn / "state.pt").write_bytes((whole / "state.pt").read_bytes()[:1000])
    steps: list[int] = []
    resumed, _ = drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path, at_step=lambda state: steps.append(state.env_steps))
    assert steps[0] == 51
    for r in range(3):
        assert_same_rows(rows, resumed, run=r)


def test_a_whole_snapshot_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Never a silent restart."""
    interrupt(50, DRIFT, ARMS, tmp_path)
    (whole,) = complete(tmp_path)
    (whole / "state.pt").write_bytes((whole / "state.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        drive(DRIFT, ARMS, BUDGET, checkpoint=tmp_path)
