"""Fits on fixed data: all arms and seeds of one task in lockstep, measured on episodes they never saw.

A `fit` run answers what a model makes of a data set, without a policy that reacts to it. The data of
a seed are the same for every arm: arms are compared on equal rows. Training and held-out rows come
from different episodes.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmark.records.spec import Replay, RunSpec
from benchmark.running import provenance, replays
from benchmark.running.course import Course
from benchmark.running.job import Result
from mbpo import diagnostics, fitting
from mbpo.buffer import Layout
from mbpo.diagnostics import Prediction
from mbpo.dynamics import GaussianEnsemble
from mbpo.envs import EnvBatch, task_info
from mbpo.envs.load import is_named
from mbpo.envs.promises import blamed
from mbpo.fast.engine import Engine, engine
from mbpo.state import Run
from mbpo.streams import Streams, stream_seed

log = logging.getLogger(__name__)
WATCHES = 10
"""Measurements along one fit: the curve of predicted variance over training."""


def random_transitions(
    task: str, drop: Sequence[str], seed: int, n: int, purpose: str, cache: Path | None = None, finite: bool = True
) -> np.ndarray:
    """``n`` packed rows ``(n, W)`` float32 of a uniformly random policy, from episodes of this seed and purpose.

    With `cache` the rows are kept there, outside the results: they can always be made again. What a user's own
    environment did is kept under its fingerprint, so an edited one never meets the rows of the old one, and rows that
    are not those that were written are collected again. Raises `InputError` at the first number that is not finite,
    unless `finite` is False.
    """
    name = f"{task}/{','.join(drop)}/{seed}/{n}/{purpose}"
    if cache is None:
        return _collect(task, drop, name, n, finite)
    of = name if is_named(task) else f"{name}/{provenance.engine(task, tuple(drop))}"
    file = cache / "data" / f"{stream_seed('random', of):016x}.npz"
    rows = _read(file)
    if rows is None:
        rows = _collect(task, drop, name, n, finite)
        _write(file, rows)
    return rows


def _read(file: Path) -> np.ndarray | None:
    """The rows in `file`, None where there are none or they are not those that were written."""
    try:
        with open(file, "rb") as opened, np.load(opened) as stored:
            rows, seal = np.asarray(stored["rows"]), str(stored["seal"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        rows, seal = np.empty(0), "unreadable"
    if hashlib.sha256(rows.tobytes()).hexdigest() == seal:
        return rows
    log.warning("%s is damaged and is made again", file)
    return None


def _write(file: Path, rows: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.tmp")
    with open(draft, "wb") as out:
        np.savez(out, rows=rows, seal=np.array(hashlib.sha256(rows.tobytes()).hexdigest()))
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)


def _collect(task: str, drop: Sequence[str], name: str, n: int, finite: bool = True) -> np.ndarray:
    envs = EnvBatch(task, 1, drop, finite)
    layout = Layout(envs.info.obs_dim, envs.info.action_dim)
    rng = np.random.default_rng(stream_seed("actions", name))
    rows = np.empty((n, layout.width), np.float32)
    ended, episode, obs = True, 0, np.empty((1, layout.obs_dim), np.float32)
    with blamed(task):
        for i in range(n):
            if ended:
                obs = envs.reset([stream_seed(f"episode/{episode}", name) % 2**31])
                episode += 1
            action = rng.uniform(-1.0, 1.0, (1, layout.action_dim)).astype(np.float32)
            next_obs, reward, terminated, truncated = envs.step(action)
            rows[i] = np.concatenate([obs[0], action[0], next_obs[0], reward, 1.0 - terminated])
            obs, ended = next_obs, bool(terminated[0] or truncated[0])
    envs.close()
    return rows


def fit_job(
    specs: Sequence[RunSpec],
    *,
    cache: Path | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    course: Course | None = None,
) -> list[Result]:
    """Fit and measure the runs of one lockstep job, in the order of `specs`.

    Args:
        specs: `fit` runs that share everything but target and seed.
        cache: where data sets are kept between jobs.
        device: as for `mbpo.train`.
        progress: called with (updates done, updates in all) as the fit goes on.
        course: the snapshots that it goes on from and makes; none by default.
    """
    first = specs[0]
    assert first.fit is not None and first.constants.model is not None
    place = engine(device, first.precision)
    layout = task_layout(first)
    data = {seed: data_set(spec, layout, cache) for seed, spec in {spec.seed: spec for spec in specs}.items()}
    train_rows, held_rows = (_stack([data[spec.seed][part] for spec in specs], place) for part in (0, 1))
    runs = [Run(spec.constants, spec.seed) for spec in specs]
    return fit_rows(runs, layout, train_rows, held_rows, place, progress, first.fit.refits, course)


def data_set(spec: RunSpec, layout: Layout, cache: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out rows ``(N, W), (M, W)`` of a `fit` run, as its source says.

    A replay must have been kept under `cache`: `ensure` sees to that.
    """
    assert spec.fit is not None
    if isinstance(spec.fit.source, Replay):
        assert cache is not None, "replays are read from the cache"
        return replays.transitions(cache, spec, layout)
    train, held = (
        random_transitions(spec.task, spec.drop, spec.seed, n, purpose, cache)
        for purpose, n in (("train", spec.fit.transitions), ("heldout", spec.fit.heldout))
    )
    return train, held


def fit_rows(
    runs: Sequence[Run],
    layout: Layout,
    train_rows: Tensor,
    held_rows: Tensor,
    place: Engine,
    progress: Callable[[int, int], None] | None = None,
    refits: int = 1,
    course: Course | None = None,
) -> list[Result]:
    """Fit runs that share all constants but the target on packed ``train_rows (R, N, W)``.

    They are measured on ``held_rows (R, M, W)``; `progress` and `course` as for `fit_job`. With `refits` the model goes
    on from fit to fit, the k-th on the first k / refits of the training rows and measured on as much of the held-out
    ones, so that what it is measured on was never lived later than what it was fitted on.
    """
    model = runs[0].method.model
    assert model is not None
    streams = Streams([run.entropy for run in runs], place.device, place.dtype)
    ensemble = GaussianEnsemble(model, [run.method.target for run in runs], layout, streams)
    notes, split = _Notes(len(runs)), None
    total, course = model.updates * refits, course or Course()
    for part in range(1, refits + 1):
        seen, held = _first(train_rows, part, refits), _first(held_rows, part, refits)
        if part < course.fit:  # made before its last snapshot, which holds what came of it
            split = fitting.make_split(model, seen.shape[1], streams.fork("fit"), split)
            continue
        spread = _reward_spread(layout, seen, held)

        def note(updates: Sequence[int], held: Tensor = held, spread: Tensor = spread) -> None:
            prediction = diagnostics.predict(ensemble, held)
            notes.add_curve(updates, *_holdout(prediction))
            notes.add(updates, diagnostics.scalars(prediction) | diagnostics.reward_error(prediction, spread))
            if progress is not None:
                progress(max(updates), max(total, *updates))

        def watch(update: int, note: Callable[[Sequence[int]], None] = note) -> None:
            note([update] * len(runs))

        with place.products():
            # Refits are looked at when they end, a fit by itself on the way too.
            every = max(1, total // WATCHES) if refits == 1 else 0
            stage = course.stage(f"fit {part}", notes, (part - 1) * model.updates)
            split = fitting.fit(ensemble, seen, streams, watch, every, previous=split, keeper=stage)
            # With early stopping each run ended at an update of its own, else all at one.
            done = ensemble.adam.steps.amax(1).long().expand(len(runs)).tolist()
            notes.forget(done)  # measured before the elites were chosen and the best weights restored
            note(done)
    with place.products():
        notes.add(done, _final(ensemble, held_rows, train_rows))
    return notes.results()


def _first(rows: Tensor, part: int, of: int) -> Tensor:
    """The first `part` of `of` equal parts of ``rows (R, N, W)``, in the order they were lived."""
    return rows[:, : -(-rows.shape[1] * part // of)]


def _reward_spread(layout: Layout, *rows: Tensor) -> Tensor:
    """Standard deviation of the rewards of several ``rows (R, N, W)`` together: ``(R,)``."""
    rewards = torch.cat([layout.targets(some)[..., -1] for some in rows], 1)
    return diagnostics.reward_summary(rewards)[1]


def task_layout(spec: RunSpec) -> Layout:
    """Where the fields of the task's packed rows lie."""
    info = task_info(spec.task, spec.drop)
    return Layout(info.obs_dim, info.action_dim)


def _stack(rows: Sequence[np.ndarray], place: Engine) -> Tensor:
    return torch.as_tensor(np.stack(rows)).to(place.device, place.dtype)


def _holdout(p: Prediction) -> tuple[Tensor, Tensor]:
    """Mean squared error and negative log likelihood of the elites in target space: ``(R,)`` each."""
    error = (p.error / p.log_scale.exp()).square()
    return error.mean((1, 2, 3)), (error * (-p.logvar).exp() + p.logvar).mean((1, 2, 3))


def _final(ensemble: GaussianEnsemble, held_rows: Tensor, train_rows: Tensor) -> dict[str, Tensor]:
    """Per-dimension and binned measures of the finished fit, and the geometry of its training data."""
    prediction = diagnostics.predict(ensemble, held_rows)
    geometry = diagnostics.target_geometry(train_rows, ensemble.layout)
    map_ = {"dim_carry": ensemble.map.carry, "dim_scale": ensemble.map.scale}
    return diagnostics.dimensions(prediction) | diagnostics.reward_bins(prediction) | map_ | geometry


class _Notes:
    """Curves and measures of R runs as they come, as tidy frames at the end."""

    def __init__(self, runs: int) -> None:
        self._curves: list[list[tuple[int, float, float]]] = [[] for _ in range(runs)]
        self._rows: list[list[tuple[int, str, int, float]]] = [[] for _ in range(runs)]

    def add_curve(self, updates: Sequence[int], mse: Tensor, nll: Tensor) -> None:
        """One point a run ``(R,), (R,)``, each at its own update."""
        for curve, *point in zip(self._curves, zip(updates, mse.tolist(), nll.tolist(), strict=True), strict=True):
            curve += point

    def add(self, steps: Sequence[int], measures: dict[str, Tensor]) -> None:
        """Scalars ``(R,)``, stored with dim -1, and vectors ``(R, n)``, at each run's own step."""
        for name, values in measures.items():
            for rows, step, value in zip(self._rows, steps, values.tolist(), strict=True):
                columns = enumerate(value) if isinstance(value, list) else [(-1, value)]
                rows += [(step, name, dim, x) for dim, x in columns]

    def of(self, run: int) -> dict[str, Any]:
        """What was noted of one run, for a snapshot."""
        return {"curve": list(self._curves[run]), "rows": list(self._rows[run])}

    def take_back(self, run: int, noted: dict[str, Any]) -> None:
        """What `of` said of one run."""
        self._curves[run], self._rows[run] = (list(map(tuple, noted[name])) for name in ("curve", "rows"))

    def forget(self, steps: Sequence[int]) -> None:
        """Take back what was noted of each run at its step and later."""
        self._curves = [[p for p in curve if p[0] < step] for curve, step in zip(self._curves, steps, strict=True)]
        self._rows = [[row for row in rows if row[0] < step] for rows, step in zip(self._rows, steps, strict=True)]

    def results(self) -> list[Result]:
        """One pair of frames a run."""
        return [
            Result(
                pd.DataFrame(curve, columns=["update", "holdout_mse", "holdout_nll"]),
                pd.DataFrame(rows, columns=["step", "measure", "dim", "value"]),
            )
            for curve, rows in zip(self._curves, self._rows, strict=True)
        ]
