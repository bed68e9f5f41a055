"""Our SAC and our ensemble on fixed random transitions, as the predecessor's code was run on them.

The rows do not depend on what is learned, so two implementations of one algorithm differ in their random draws alone:
initial weights, batches and noise. All seeds train in lockstep, on one CPU thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from benchmark.suite.load import load_suite
from mbpo import fitting, sac
from mbpo.buffer import Layout, gather_rows
from mbpo.config import Method
from mbpo.dynamics import GaussianEnsemble
from mbpo.envs import make_env, task_info
from mbpo.fast.engine import engine
from mbpo.sac import Sac
from mbpo.state import Run
from mbpo.streams import Streams

TASK = "dmc:quadruped-walk"
ROWS, TRAIN_ROWS = 10_000, 8_000
_BLOCK = 20

Measured = dict[tuple[str, int], list[float]]
"""(measure, updates) -> one value per seed."""
Say = Callable[[str], None]


@cache
def random_rows(n: int = ROWS) -> np.ndarray:
    """``n`` packed rows ``(n, W)`` float32 of a uniformly random policy, episode after episode, dm_control's seed 0.

    The actions come from numpy's ``default_rng(0)``, in float64. The generator of the predecessor's rows was not
    written down. Of four obvious ones this is the one whose mean squared change of state in the last 2,000 rows, 11.87
    (others 11.61, 12.01, 12.02), fits the predecessor's error of 11.82 after 300 updates, when a model has hardly
    learned. That row of the comparison is therefore no independent evidence.
    """
    env, layout = make_env(TASK), task_layout()
    rng = np.random.default_rng(0)
    rows = np.empty((n, layout.width), np.float32)
    obs, _ = env.reset(seed=0)
    for row in rows:
        action = rng.uniform(-1.0, 1.0, layout.action_dim)
        next_obs, reward, terminated, truncated, _ = env.step(action)
        row[:] = np.concatenate([obs, action, next_obs, [reward, 1.0 - terminated]])
        obs = next_obs
        if terminated or truncated:
            obs, _ = env.reset()  # unseeded: the simulator's generator goes on
    env.close()
    rows.flags.writeable = False
    return rows


def task_layout() -> Layout:
    """The layout of the packed rows."""
    info = task_info(TASK)
    return Layout(info.obs_dim, info.action_dim)


def learn_sac(
    seeds: Sequence[int], marks: Sequence[int], method: Method | None = None, say: Say | None = None
) -> Measured:
    """Train SAC for each seed on the fixed rows: mean Q and temperature after each of `marks` updates.

    Args:
        seeds: one run each.
        marks: ascending multiples of 20.
        method: its constants; the suite's ``sac`` by default.
        say: called with lines of progress.
    """
    method = method or load_suite().method("sac", TASK)
    layout, cpu = task_layout(), engine("cpu")
    streams = _streams(method, seeds)
    learner = Sac(method.sac, layout, streams)
    block = cpu.block(partial(sac.updates, partial(sac.update, learner)))
    rows = _for_each(seeds, random_rows())
    size = method.sac.batch_size
    measured: Measured = {}
    with one_thread():
        for updates in range(_BLOCK, marks[-1] + 1, _BLOCK):
            index = streams.below("batch-real", rows.shape[1], _BLOCK * size)
            batches = gather_rows(rows, index).view(len(seeds), _BLOCK, size, -1)
            info = block(batches, streams.normal("sac", _BLOCK, 2, size, layout.action_dim))
            if updates in marks:
                measured["q_mean", updates] = info["q_mean"].tolist()
                measured["temperature", updates] = learner.alpha.tolist()
                if say is not None:
                    say(f"SAC: {updates:,} of {marks[-1]:,} updates")
    return measured


def learn_model(
    seeds: Sequence[int], marks: Sequence[int], method: Method | None = None, say: Say | None = None
) -> Measured:
    """Train the ensemble for each seed on the first 8,000 rows; it is judged on the rest after each of `marks` updates.

    ``state_mse`` is the squared error of the predicted next observation in the environment's units, ``logvar`` the
    predicted log-variance of all targets: means over members, rows and dimensions. `method` is the suite's ``mbpo`` by
    default; its number of updates and its holdout ratio are replaced.
    """
    method = method or load_suite().method("mbpo", TASK)
    assert method.model is not None
    # `fit` holds out one row at least, so it trains on 7,999 of the 8,000.
    config = method.model.model_copy(update={"updates": marks[-1], "holdout_ratio": 1 / TRAIN_ROWS})
    layout, streams = task_layout(), _streams(method, seeds)
    ensemble = GaussianEnsemble(config, [method.target] * len(seeds), layout, streams)
    data = random_rows()
    train, held = _for_each(seeds, data[:TRAIN_ROWS]), _for_each(seeds, data[TRAIN_ROWS:])
    measured: Measured = {}

    def watch(updates: int) -> None:
        if updates in marks:
            measured["state_mse", updates], measured["logvar", updates] = judge(ensemble, held)
            if say is not None:
                say(f"model: {updates:,} of {marks[-1]:,} updates")

    with one_thread():
        fitting.fit(ensemble, train, streams, watch, math.gcd(*marks))
    return measured


@torch.no_grad()
def judge(ensemble: GaussianEnsemble, held: Tensor) -> tuple[list[float], list[float]]:
    """Raw squared error of the next observation and log-variance on ``held (R, B, W)``, ``[R]`` each."""
    layout = ensemble.layout
    mean, logvar = ensemble(layout.inputs(held))
    obs = layout.obs(held)[:, None].expand(-1, mean.shape[1], -1, -1)
    error = (ensemble.map.decode(obs, mean) - layout.targets(held)[:, None])[..., :-1]
    return error.square().mean((1, 2, 3)).tolist(), logvar.mean((1, 2, 3)).tolist()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch runs on one thread inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _streams(method: Method, seeds: Sequence[int]) -> Streams:
    cpu = engine("cpu")
    return Streams([Run(method, seed).entropy for seed in seeds], cpu.device, cpu.dtype)


def _for_each(seeds: Sequence[int], rows: np.ndarray) -> Tensor:
    """The same ``rows (N, W)`` for every seed: ``(R, N, W)``."""
    return torch.tensor(rows).expand(len(seeds), -1, -1).contiguous()
