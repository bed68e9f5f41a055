"""One failure is one run's failure: it is marked with step and cause, and its companions keep every bit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FTFL, MBPO, assert_same_rows, assert_same_run, drive, parameters, small, small_janner
from toy_envs import DRIFT

from mbpo import Budget, InputError
from mbpo.envs import EnvBatch
from mbpo.envs.flat import FlatEnv
from mbpo.loop import Row, Run
from mbpo.state import TrainState

BUDGET = Budget(env_steps=120, eval_every=30, eval_episodes=2, bias_episodes=1)
RUNS = [Run(small(MBPO), 0), Run(small(FTFL), 0), Run(small(MBPO), 1)]
JANNER = [Run(small_janner(MBPO), 0), Run(small_janner(FTFL), 1), Run(small_janner(MBPO), 2)]


@cache
def undisturbed(janner: bool = False) -> tuple[list[Row], TrainState]:
    return drive(DRIFT, JANNER if janner else RUNS, BUDGET)


def break_training(state: TrainState, run: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training environment of `run` raises at its next step."""
    break_env(state.envs, run, error, monkeypatch)


def break_env(envs: EnvBatch, i: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    env: Any = envs._simulators.envs[i]  # type: ignore[union-attr]

    def fails(*args: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(env, "step", fails)


def reached(rows: Sequence[Row], run: int) -> list[list[float]]:
    return [row.returns[run].tolist() for row in rows]


@pytest.mark.parametrize(
    ("runs", "error", "cause"),
    [
        (RUNS, InputError("simulation diverged at step 3"), "simulation diverged at step 3"),
        (JANNER, ArithmeticError("no root"), "ArithmeticError: no root"),
        (RUNS, MemoryError("no room"), "MemoryError: no room"),
    ],
    ids=["physics", "exception", "memory"],
)
def test_an_environment_that_fails_ends_its_own_run_alone(
    monkeypatch: pytest.MonkeyPatch, runs: list[Run], error: Exception, cause: str
) -> None:
    rows, whole = undisturbed(runs is JANNER)

    def at_step(state: TrainState) -> None:
        if state.env_steps == 65:
            break_training(state, 1, error, monkeypatch)

    hit_rows, hit = drive(DRIFT, runs, BUDGET, at_step=at_step)
    for k in (0, 2):
        assert_same_rows(rows, hit_rows, run=k)
        assert_same_run(parameters(whole, k), parameters(hit, k))
    assert [dict(row.failures) for row in hit_rows[:3]] == [{}] * 3
    for row in hit_rows[3:]:
        assert {r: tuple(f) for r, f in row.failures.items()} == {1: (65, cause, True, 60)}
        assert row.diagnostics["diverged"].tolist() == [0, 1, 0]
    before, after = reached(rows, 1), reached(hit_rows, 1)
    assert after == [*before[:3], before[2], before[2]], "it ends with the score that it reached"


@pytest.mark.parametrize("kind", ["eval", "bias"])
def test_an_episode_that_cannot_be_played_ends_its_run_alone(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    rows, whole = undisturbed()

    def at_row(row: Row, state: TrainState) -> None:
        if row.env_steps == 60:
            n = 2 if kind == "eval" else 1
            break_env(state.eval_envs(n), 2 * n, ArithmeticError("no root"), monkeypatch)

    hit_rows, hit = drive(DRIFT, RUNS, BUDGET, at_row=at_row)
    for k in (0, 1):
        assert_same_rows(rows, hit_rows, run=k)
        assert_same_run(parameters(whole, k), parameters(hit, k))
    (failure,) = hit_rows[-1].failures.values()
    assert failure.step == 90 and failure.cause.endswith(": ArithmeticError: no root") and failure.scored_at == 60
    assert reached(hit_rows, 2)[3:] == [reached(rows, 2)[2]] * 2


def test_a_failed_run_stays_failed_through_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is not replayed; its companions and its mark are as in the uninterrupted job."""
    budget = Budget(env_steps=80, eval_every=20, eval_episodes=2, bias_episodes=1)

    def at_step(state: TrainState) -> None:
        if state.env_steps == 50:
            break_training(state, 1, ArithmeticError("no root"), monkeypatch)

    rows, whole = drive(DRIFT, RUNS, budget, at_step=at_step)

    def stops(state: TrainState) -> None:
        at_step(state)
        if state.env_steps == 65:
            raise StopIteration

    with pytest.raises(RuntimeError):
        drive(DRIFT, RUNS, budget, at_step=stops, checkpoint=tmp_path, checkpoint_seconds=0.0)
    again, state = drive(DRIFT, RUNS, budget, checkpoint=tmp_path)
    for r in range(3):
        assert_same_rows(rows, again, run=r)
    for r in (0, 2):
        assert_same_run(parameters(whole, r), parameters(state, r))
    assert [dict(row.failures) for row in rows] == [dict(row.failures) for row in again]


def test_when_all_have_failed_only_their_rows_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_step(state: TrainState) -> None:
        for r in range(len(state.runs)) if state.env_steps == 65 else ():
            break_training(state, r, ArithmeticError("no root"), monkeypatch)

    rows, state = drive(DRIFT, RUNS[:2], BUDGET, at_step=at_step)
    assert [row.env_steps for row in rows] == [0, 30, 60, 90, 120]
    assert [row.updates for row in rows] == [0, 0, 42, 54, 54]
    for r in (0, 1):
        assert reached(rows, r)[2:] == [reached(rows, r)[2]] * 3 and state.failures[r].scored_at == 60


def test_a_task_that_fails_before_any_score_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: FlatEnv, action: Any) -> Any:
        raise InputError("reward is nan at step 1")

    monkeypatch.setattr(FlatEnv, "step", fails)
    with pytest.raises(InputError, match="reward is nan at step 1"):
        drive(DRIFT, RUNS, BUDGET)


def test_a_learner_that_diverges_is_marked_with_step_and_cause() -> None:
    def poison(state: TrainState) -> None:
        if state.env_steps == 70:
            state.sac.actor.weights[0].data[1] = np.nan

    rows, _ = drive(DRIFT, RUNS, BUDGET, at_step=poison)
    assert {r: tuple(f) for r, f in rows[-1].failures.items()} == {
        1: (70, "an action of its policy is not finite", False, 60)
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_a_batch_isolates_what_fails_in_this_process_and_in_others(workers: int) -> None:
    from faulty_envs import FAULTY, FINE, NOT_FINITE, RAISE

    batch = EnvBatch(FAULTY, 4, workers=workers, isolate=True)
    start = batch.reset([1, 2, 3, 4])
    wishes = np.array([[FINE], [RAISE], [NOT_FINITE], [FINE]], np.float32)
    obs, reward, terminated, truncated = batch.step(wishes)
    assert sorted(batch.failed) == [1, 2] and batch.failed[1].startswith("ArithmeticError: no step from")
    assert "reward is nan" in batch.failed[2]
    obs, reward, _, _ = batch.step(np.full((4, 1), FINE, np.float32))
    np.testing.assert_array_equal(obs[:, 0], [start[0, 0] + 2, 0, 0, start[3, 0] + 2])
    np.testing.assert_array_equal(reward, obs[:, 0])
    assert not terminated.any() and not truncated.any()
    other = EnvBatch(FAULTY, 4, workers=workers, isolate=True)
    np.testing.assert_array_equal(other.restore(batch.state()), obs)
    assert other.failed == batch.failed
    batch.close()
    other.close()
