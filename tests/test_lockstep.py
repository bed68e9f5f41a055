"""A run does not depend on its companions: alone it has the same numbers, and their failure is not its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from helpers import FITTED, FTFL, MBPO, assert_same_rows, assert_same_run, drive, parameters, small, small_janner
from toy_envs import DRIFT

from mbpo import Budget
from mbpo.envs import EnvBatch
from mbpo.loop import Row, Run
from mbpo.state import TrainState

BUDGET = Budget(env_steps=90, eval_every=30, eval_episodes=2, bias_episodes=1)
JOBS = {
    "arms": [Run(small(MBPO), 0), Run(small(FTFL), 0), Run(small(FITTED), 1)],
    "sac": [Run(small(model=None), seed) for seed in (0, 1, 2)],
    "janner": [Run(small_janner(MBPO), 0), Run(small_janner(FTFL), 1), Run(small_janner(MBPO), 2)],
}
SEEDS = {"paper": [Run(small(), seed) for seed in range(3)], "janner": [Run(small_janner(), seed) for seed in range(3)]}


@pytest.fixture(scope="module", params=JOBS)
def job(request: pytest.FixtureRequest) -> tuple[list[Run], list[Row], TrainState]:
    """One lockstep job of three runs, trained once: its runs, rows and last state."""
    runs = JOBS[request.param]
    return runs, *drive(DRIFT, runs, BUDGET)


@cache
def undisturbed(family: str) -> tuple[list[Row], TrainState]:
    """Rows and last state of `SEEDS` as they train without anything going wrong."""
    return drive(DRIFT, SEEDS[family], BUDGET)


def test_a_run_among_three_is_the_run_alone(job: tuple[list[Run], list[Row], TrainState]) -> None:
    """Returns, diagnostics, weights, moments, target maps and buffers after 90 env steps, model fits included."""
    runs, rows, state = job
    assert len(set(state.episodes.tolist())) > 1, "all episodes ended together: the toy shows too little"
    for k, run in enumerate(runs):
        solo_rows, solo = drive(DRIFT, [run], BUDGET)
        assert_same_rows(solo_rows, rows, run=0, of=k, rtol=1e-9)
        assert_same_run(parameters(solo, 0), parameters(state, k), rtol=1e-9, atol=1e-11)
        assert solo.episodes[0] == state.episodes[k] and not solo.diverged[0]


def test_runs_of_one_job_differ(job: tuple[list[Run], list[Row], TrainState]) -> None:
    """Else the comparison with a solo run would prove nothing."""
    _, rows, state = job
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(rows[-1].returns[a], rows[-1].returns[b])
        for name in ("actor", "real"):
            assert not torch.allclose(parameters(state, a)[name][0], parameters(state, b)[name][0])


def test_another_companion_moves_no_bit() -> None:
    """The second run trained beside seeds 0 and 2, and beside seeds 7 and 8 of another arm."""
    method = small_janner()
    rows, state = undisturbed("janner")
    other = [Run(small_janner(FTFL), 7), Run(method, 1), Run(small_janner(FTFL), 8)]
    other_rows, other_state = drive(DRIFT, other, BUDGET)
    assert_same_rows(rows, other_rows, run=1)
    assert_same_run(parameters(state, 1), parameters(other_state, 1))


def break_actor(state: TrainState) -> None:
    state.sac.actor.weights[0].data[1] = torch.nan


def break_critic(state: TrainState) -> None:
    state.sac.critic.biases[-1].data[1] = torch.inf


def break_dynamics(state: TrainState) -> None:
    assert state.dynamics is not None
    for p in state.dynamics.parameters:
        p.data[1] = torch.nan


@pytest.mark.parametrize("broken", [break_actor, break_critic, break_dynamics], ids=lambda f: f.__name__)
@pytest.mark.parametrize("family", SEEDS)
def test_a_run_that_diverges_is_reported_scored_and_alone(family: str, broken: Any) -> None:
    """Poison in the second of three runs at step 60: the others keep every bit, it keeps its place in every row."""
    runs, (rows, state) = SEEDS[family], undisturbed(family)

    def poison(row: Row, state: TrainState) -> None:
        if row.env_steps == 60:
            broken(state)

    hit_rows, hit = drive(DRIFT, runs, BUDGET, at_row=poison)
    for k in (0, 2):
        assert_same_rows(rows, hit_rows, run=k)
        assert_same_run(parameters(state, k), parameters(hit, k))
    assert [row.diagnostics["diverged"].tolist() for row in rows] == [[0, 0, 0]] * 4
    assert [row.diagnostics["diverged"].tolist() for row in hit_rows] == [[0, 0, 0]] * 3 + [[0, 1, 0]]
    for row in hit_rows:
        assert row.returns.shape == (3, 2) and np.isfinite(row.returns).all() and (row.lengths > 0).all()


def test_divergence_is_seen_before_it_has_acted() -> None:
    """The critic breaks right before the evaluation at step 60: that row says so, by the parameters alone."""

    def poison(state: TrainState) -> None:
        if state.env_steps == 59:
            break_critic(state)

    rows, _ = drive(DRIFT, JOBS["sac"], BUDGET, at_step=poison)
    assert [row.diagnostics["diverged"].tolist() for row in rows] == [[0, 0, 0]] * 2 + [[0, 1, 0]] * 2


def resets(monkeypatch: pytest.MonkeyPatch, runs: Sequence[Run]) -> list[tuple[list[int], list[int], int]]:
    """(which, seeds, size of the batch) of every reset of environments while `runs` train."""
    seen = []
    reset = EnvBatch.reset

    def spy(self: EnvBatch, seeds: Sequence[int], which: Sequence[int] | None = None) -> np.ndarray:
        seen.append((list(range(len(self)) if which is None else which), [int(s) for s in seeds], len(self)))
        return reset(self, seeds, which)

    monkeypatch.setattr(EnvBatch, "reset", spy)
    drive(DRIFT, runs, BUDGET)
    monkeypatch.undo()
    return seen


def test_every_episode_of_every_run_has_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and evaluation, all runs: no seed twice. And a run's seeds are those that it has alone."""
    method, other = (small(target, model=None, utd=1, random_steps=70) for target in (MBPO, FTFL))
    runs = [*(Run(method, seed) for seed in range(3)), Run(other, 0)]
    seen = resets(monkeypatch, runs)
    seeds = [seed for _, some, _ in seen for seed in some]
    episodes = 4 * 90 // 25 + 4 * 4 * 2  # at least: full-length training episodes, and those of the evaluations
    assert len(seeds) == len(set(seeds)) > episodes
    for r, run in enumerate(runs):
        mine = [s for which, some, size in seen if size == 4 for w, s in zip(which, some, strict=True) if w == r]
        assert mine == [s for _, some, size in resets(monkeypatch, [run]) if size == 1 for s in some]


def test_solo_training_depends_on_its_seed_and_its_constants() -> None:
    """Four runs that share neither: their first real transitions are all different."""
    runs = [Run(small(), 0), Run(small(), 1), Run(small(FTFL), 0), Run(small(utd=3), 0)]
    first = [drive(DRIFT, [run], Budget(env_steps=5, eval_every=5, eval_episodes=1))[1].real.rows[0, 0] for run in runs]
    assert all(not torch.allclose(a, b) for a, b in pairwise([*first, first[0]]))
