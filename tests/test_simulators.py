"""Environments in processes are the environments in turn: same numbers, same errors, and nothing left behind."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

import numpy as np
import pytest
from faulty_envs import DIE, FAULTY, FINE, NOT_FINITE, RAISE
from toy_envs import DRIFT

from mbpo.config import InputError
from mbpo.envs import EnvBatch
from mbpo.envs.simulators import workers_for

N = 5


@pytest.fixture
def pair() -> Iterator[tuple[EnvBatch, EnvBatch]]:
    """The same environments in turn and in two processes."""
    batches = EnvBatch(DRIFT, N), EnvBatch(DRIFT, N, workers=2)
    yield batches
    for batch in batches:
        batch.close()


def compare(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def drive(batches: tuple[EnvBatch, EnvBatch], steps: int) -> int:
    """Step both batches alike, restarting what ends; the number of episodes that ended."""
    rng, ended = np.random.default_rng(0), 0
    compare(*([batch.reset(range(N))] for batch in batches))
    for _ in range(steps):
        action = rng.uniform(-1, 1, (N, batches[0].info.action_dim)).astype(np.float32)
        steps_made = [batch.step(action) for batch in batches]
        compare(*steps_made)
        over = np.flatnonzero(steps_made[0][2] | steps_made[0][3]).tolist()
        if over:
            ended += len(over)
            seeds = rng.integers(0, 2**31, len(over)).tolist()
            compare(*([batch.reset(seeds, over)] for batch in batches))
    return ended


def test_steps_resets_state_and_restore_are_the_same_to_the_bit(pair: tuple[EnvBatch, EnvBatch]) -> None:
    assert drive(pair, 70) > N
    states = [batch.state() for batch in pair]
    for a, b in zip(*states, strict=True):
        assert a["seed"] == b["seed"]
        compare((a["actions"], a["obs"]), (b["actions"], b["obs"]))
    assert len({len(env["actions"]) for env in states[0]}) > 1, "episodes of one length: the replay shows too little"
    drive(pair, 3)
    compare(*([batch.restore(states[0])] for batch in pair))
    some, action = [4, 1], np.full((2, pair[0].info.action_dim), 0.5, np.float32)
    compare(*(batch.step(action, some) for batch in pair))


def test_a_step_gives_memory_of_its_own(pair: tuple[EnvBatch, EnvBatch]) -> None:
    _, batch = pair
    batch.reset(range(N))
    first = batch.step(np.zeros((N, batch.info.action_dim), np.float32))
    copies = [x.copy() for x in first]
    batch.step(np.ones((N, batch.info.action_dim), np.float32))
    compare(tuple(copies), first)


@pytest.mark.parametrize(
    ("wishes", "kind", "words"),
    [
        ([FINE, FINE, RAISE, RAISE], RuntimeError, r"environment 2: ArithmeticError: no step from \d+$"),
        ([FINE, NOT_FINITE, FINE, RAISE], InputError, r"^task 'gym:faulty_envs:Faulty-v0': reward is nan at step 1$"),
        ([FINE, FINE, DIE, FINE], RuntimeError, r"environment 2: its process ended with exit code 3"),
    ],
    ids=["raises", "not-finite", "dies"],
)
def test_errors_come_back_with_their_sentence(wishes: list[float], kind: type[Exception], words: str) -> None:
    batch = EnvBatch(FAULTY, 4, workers=2)
    batch.reset(range(4))
    with pytest.raises(kind, match=words):
        batch.step(np.array(wishes, np.float32)[:, None])
    batch.close()
    assert not multiprocessing.active_children()


def test_a_process_that_has_failed_says_so_at_the_next_step_and_goes() -> None:
    batch = EnvBatch(FAULTY, 2, workers=2)
    batch.reset([0, 1])
    with pytest.raises(RuntimeError, match="ArithmeticError"):
        batch.step(np.array([[FINE], [RAISE]], np.float32))
    with pytest.raises(RuntimeError, match="environment 1: its process ended with exit code 0"):
        batch.step(np.array([[FINE], [FINE]], np.float32))
    batch.close()


def test_closing_leaves_no_process() -> None:
    batch = EnvBatch(FAULTY, 4, workers=2)
    pids = [process.pid for process in batch._simulators._processes]
    batch.reset(range(4))
    batch.close()
    batch.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("workers", [0, 5])
def test_absurd_numbers_of_processes_are_refused(workers: int) -> None:
    with pytest.raises(InputError, match=rf"^workers = {workers}: 4 environments are stepped by 1 to 4 processes$"):
        EnvBatch(FAULTY, 4, workers=workers)


def test_processes_are_for_many_environments_and_idle_cpus() -> None:
    assert [workers_for(n, 16) for n in (1, 7, 8, 12, 120)] == [1, 1, 2, 3, 16]
    assert [workers_for(120, cpus) for cpus in (1, 2, 3, 4)] == [1, 1, 1, 4]
