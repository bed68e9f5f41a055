"""What does not answer is named after a stated patience; its run ends alone, and the others keep every bit."""

from __future__ import annotations

import time

import broken_envs
import numpy as np
import pytest
from helpers import assert_same_rows, small

from mbpo import Budget, InputError, loop
from mbpo.envs import EnvBatch, aside, make_env, patience, promises
from mbpo.loop import Run

HANGS, DEAF, DIES = (f"gym:broken_envs:{name}" for name in ("Hangs-v0", "Hangs-v0?deaf=True", "Dies-v0"))
LEFT = np.array([[-1.0]], np.float32)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """A thread that looks with the patience of this test; that of another stays with its own clocks."""
    monkeypatch.setattr(patience, "_watching", {})


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setenv(patience.PATIENCE, "0.4")


def test_a_hang_in_this_process_is_named_and_interrupted(impatient, caplog):
    env = make_env(HANGS)
    env.reset(seed=0)
    said = r"^task '\S+': the environment has not answered for 0\.4 s; .*MBPO_ENV_PATIENCE.* at reset$"
    with pytest.raises(InputError, match=said):
        env.step(LEFT[0])
    assert "has not answered for 0.4 s" in caplog.text


def test_only_time_in_which_this_process_lived_counts(monkeypatch):
    clock = patience.Clock(HANGS)
    clock.seconds, clock._interruptible = 10.0, False
    clock.begin()
    for passed in (99.0, 5.0, 4.9):  # when a call is first seen it may just have begun
        clock.look(passed)
    assert clock.late is None
    clock.look(0.2)
    assert clock.late == clock.call == 1
    clock.end()
    clock.begin()
    for passed in (99.0, 5.0):
        clock.look(passed)
    assert clock.late != clock.call


def test_what_cannot_be_interrupted_is_said_with_the_way_out(caplog):
    clock = patience.Clock(HANGS)
    clock.seconds, clock._interruptible = 10.0, False
    clock.begin()
    for _ in range(6):
        clock.look(5.0)
    clock.end()
    assert [("SIGKILL" in line, "has not answered" in line) for line in caplog.messages] == [
        (False, True),
        (True, False),
    ]


def test_a_trial_of_promises_is_watched_too(impatient, monkeypatch):
    monkeypatch.setattr(broken_envs.Hangs, "step", lambda self, action: time.sleep(60))
    with pytest.raises(InputError, match="has not answered"):
        promises.check(HANGS)


def test_the_run_of_a_hanging_environment_ends_alone(monkeypatch, impatient):
    """In lockstep the second run is pushed to the far left at step 30; the first and third are as without it."""
    runs = [Run(small(), seed) for seed in range(3)]
    budget = Budget(env_steps=60, eval_every=20, eval_episodes=1)

    def train(which=()):
        step, count = loop.step_environments, iter(range(1, 1000))

        def pushed(state):
            due = next(count) == 50
            uniform = state.envs.step
            if due:
                state.envs.step = lambda a: uniform(np.where(np.isin(np.arange(3), which)[:, None], -1.0, a))
            step(state)
            state.envs.step = uniform

        with monkeypatch.context() as patch:
            patch.setattr(loop, "step_environments", pushed)
            return list(loop.train(HANGS, runs, budget, device="cpu"))

    whole, hit = train(), train([1])
    for r in (0, 2):
        assert_same_rows(whole, hit, run=r)
    (failure,) = hit[-1].failures.values()
    assert failure.step == 49 and failure.ended and failure.scored_at == 40 and "has not answered" in failure.cause


def go(batch, n=4, left=()):
    """Three steps of a batch, in the second of which `left` are pushed to the far left; the last observations."""
    batch.reset(range(n))
    for t in range(3):
        obs, *_ = batch.step(np.where((t == 1) & np.isin(np.arange(n), left), -1.0, 0.5)[:, None].astype(np.float32))
    return obs


@pytest.mark.parametrize(("task", "said"), [(DEAF, "did not answer for 0.4 s"), (DIES, "ended with exit code 3")])
def test_a_process_that_is_lost_is_replaced_and_the_others_brought_back(task, said, impatient, caplog):
    """Environments 0 to 2 share a process, and the second of them takes it down."""
    batches = [EnvBatch(task, 6, workers=workers, isolate=True) for workers in (1, 2)]
    whole, lost = go(batches[0], 6), go(batches[1], 6, [1])
    assert list(batches[1].failed) == [1] and said in batches[1].failed[1] and repr(task) in batches[1].failed[1]
    others = [0, 2, 3, 4, 5]
    np.testing.assert_array_equal(whole[others], lost[others])
    assert not lost[1].any()
    again = batches[1].reset([7], [2])
    np.testing.assert_array_equal(again, batches[0].reset([7], [2]))
    for batch in batches:
        batch.close()


def test_an_end_that_does_not_come_again_is_no_failure(tmp_path, caplog):
    batch = EnvBatch(f"{DIES}?mark={str(tmp_path / 'mark')!r}", 2, workers=1, isolate=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(patience.PROCESSES, "1")
        other = EnvBatch(batch.info.id, 2, isolate=True)
    assert type(other._simulators).__name__ == "InProcesses" and len(other._simulators._processes) == 1
    moved = go(other, 2, [1])
    assert other.failed == {} and "it is started again" in caplog.text
    np.testing.assert_array_equal(moved, go(batch, 2, [1]))
    for each in (batch, other):
        each.close()


def test_a_process_that_does_not_answer_is_an_error_where_nothing_is_isolated(monkeypatch):
    batch = EnvBatch(DEAF, 2, workers=2)
    batch.reset([0, 1])
    batch._simulators._patience = 0.2
    with pytest.raises(RuntimeError, match=r"environment 1: the process of environment 1 did not answer for 0\.2 s"):
        batch.step(np.array([[0.0], [-1.0]]))
    batch.close()


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf"])
def test_an_absurd_patience_is_refused(given, monkeypatch):
    monkeypatch.setenv(patience.PATIENCE, given)
    with pytest.raises(InputError, match="a number of seconds is needed"):
        patience.patience()


@pytest.mark.parametrize("given", ["two", "-1", "1e3"])
def test_an_absurd_number_of_processes_is_refused(given, monkeypatch):
    monkeypatch.setenv(patience.PROCESSES, given)
    with pytest.raises(InputError, match="a whole number or 'own' is needed"):
        EnvBatch(HANGS, 1)


@pytest.mark.parametrize(
    ("how", "said"), [("hold", r"did not answer for 0\.4 s in its short trial"), ("die", "exit code 3")]
)
def test_a_trial_that_hangs_or_crashes_where_nothing_can_interrupt_it_is_one_sentence(
    how, said, impatient, monkeypatch
):
    """The hang holds Python's lock, so that no thread of its process could notice."""
    task = f"gym:broken_envs:Stuck-v0?how={how}"
    assert not aside.is_due(task)
    monkeypatch.setenv(patience.PROCESSES, patience.OWN)
    assert aside.is_due(task) and not aside.is_due("gym:Hopper-v5")
    with pytest.raises(InputError, match=said):
        promises.check(task)


def test_a_users_environment_is_stepped_in_a_process_where_that_is_asked_for(impatient, monkeypatch):
    """Its second environment hangs at its third step, with Python's lock; the first has all its bits."""
    monkeypatch.setenv(patience.PROCESSES, patience.OWN)
    assert type(EnvBatch("dmc:pendulum-swingup", 1, isolate=True)._simulators).__name__ == "InTurn"
    assert type(EnvBatch(HANGS, 1, isolate=True, here=True)._simulators).__name__ == "InTurn"
    batch = EnvBatch("gym:broken_envs:Stuck-v0", 2, isolate=True)
    batch.reset([0, 1])
    steps = [batch.step(np.full((len(which), 1), 0.5, np.float32), which) for which in ([0], [1], [0], [1], [1])]
    assert list(batch.failed) == [1] and "did not answer" in batch.failed[1]
    monkeypatch.setenv(patience.PROCESSES, "0")
    alone = EnvBatch("gym:broken_envs:Stuck-v0", 1)
    alone.reset([0])
    for k in (0, 2):
        for one, other in zip(alone.step(np.full((1, 1), 0.5, np.float32)), steps[k], strict=True):
            np.testing.assert_array_equal(one, other)
    batch.close()
    assert promises.check("gym:broken_envs:RightRule-v0") == ()


def test_an_idle_process_that_is_killed_is_started_again(monkeypatch, caplog):
    monkeypatch.setenv(patience.PROCESSES, patience.OWN)
    batch, alone = EnvBatch(HANGS, 2, isolate=True), EnvBatch(HANGS, 2, here=True)
    for each in (batch, alone):
        each.reset([0, 1])
    for _ in range(3):
        (process,) = batch._simulators._processes
        process.kill()
        process.join()
        actions = np.full((2, 1), 0.5, np.float32)
        for one, other in zip(batch.step(actions), alone.step(actions), strict=True):
            np.testing.assert_array_equal(one, other)
    assert batch.failed == {} and caplog.text.count("started again") == 3
    batch.close()
