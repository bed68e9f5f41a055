"""Probes: what synthetic rows do to critics and policies, apart from exploration and from all that a run lives through.

Each run starts from a policy that another run reached, that run's replay, and a model fitted on it. Two questions:

* *critics*: trained on for that fixed policy on batches with a share of synthetic rows, how far do they end from its
  Monte-Carlo soft returns?
* *policies*: actor and critics go on together on such batches; is the policy that they reach a better one?

All shares are tried side by side. Shares and arms of one seed have their start, their draws and their episodes in
common, so at share 0 all arms return the same numbers, and what differs elsewhere is the model's doing. The model is
fitted and asked in full precision; that of the run is for the updates of critics and actor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmark.records.spec import RunSpec
from benchmark.records.store import COLUMNS, DIAGNOSTICS
from benchmark.running.bench import (
    Bench,
    batch,
    critics_along,
    deterministic,
    evaluators,
    imagine,
    learners,
    settle,
    traces,
)
from benchmark.running.course import Course, Stage, fit_length
from benchmark.running.fit import data_set, task_layout
from benchmark.running.job import Result
from benchmark.running.replays import load_policy
from mbpo import diagnostics, fitting
from mbpo.dynamics import GaussianEnsemble
from mbpo.envs import task_info
from mbpo.envs.terminations import termination_for
from mbpo.episodes import Episodes, Trace
from mbpo.fast.engine import engine
from mbpo.sac import Sac, draw_critics, update, update_critic
from mbpo.state import Run
from mbpo.streams import Streams

Progress = Callable[[int, int], None]


def probe_job(
    specs: Sequence[RunSpec],
    *,
    cache: Path,
    device: str = "auto",
    progress: Progress | None = None,
    course: Course | None = None,
) -> list[Result]:
    """Fit, then probe the runs of one lockstep job, in the order of `specs`.

    Args:
        specs: `probe` runs that share everything but target and seed.
        cache: where the replays are that they start from.
        device: as for `mbpo.train`.
        progress: called with (updates done, updates in all).
        course: the snapshots that it goes on from and makes; none by default.

    Raises:
        InputError: the policy at that step, or so many rows of the replay, were not kept.
    """
    first = specs[0]
    assert first.fit is not None and first.probe is not None and first.constants.model is not None
    used, layout = engine(device, first.precision), task_layout(first)
    data = {seed: data_set(spec, layout, cache) for seed, spec in {spec.seed: spec for spec in specs}.items()}
    real, held = (
        torch.as_tensor(np.stack([data[spec.seed][part] for spec in specs])).to(used.device, used.dtype)
        for part in (0, 1)
    )
    streams = Streams([Run(spec.constants, spec.seed).entropy for spec in specs], used.device, used.dtype)
    sac = Sac(first.constants.sac, layout, streams)
    load_policy(cache, specs, sac)
    ensemble = GaussianEnsemble(first.constants.model, [spec.constants.target for spec in specs], layout, streams)
    course = course or Course()
    course.common = {"model": ensemble.state()}
    if course.fit:
        fitting.fit(ensemble, real, streams, keeper=course.stage("fit 1"))
    bench = Bench(
        task=first.task,
        drop=first.drop,
        seeds=tuple(spec.seed for spec in specs),
        budget=first.probe,
        sac=sac,
        model=ensemble.sample,
        real=real,
        terminated=termination_for(task_info(first.task, first.drop)),
        engine=used,
    )
    measured = diagnostics.model_report(ensemble, held) if course.fit else None
    return probe(bench, measured, progress, course, fit_length(first))


def probe(
    bench: Bench,
    measured: dict[str, Tensor] | None = None,
    progress: Progress | None = None,
    course: Course | None = None,
    before: int = 0,
) -> list[Result]:
    """Both parts for every run of `bench`; `measured` are scalars ``(R,)`` of its models, stored at step 0.

    `before` are the updates that its snapshots count for what came earlier.
    """
    notes, course = _Notes(bench), course or Course()
    for name, values in (measured or {}).items():
        notes.add(0, name, values.tolist())
    if course.at != "policies":
        train_critics(bench, notes, progress or _untold, course.stage("critics", notes, before))
    kept = course.stage("policies", notes, before + bench.budget.critic_updates)
    train_policies(bench, notes, progress or _untold, kept)
    return notes.results()


def _untold(done: int, total: int) -> None:
    """Progress that nobody asked for."""


def train_critics(bench: Bench, notes: _Notes, progress: Progress, kept: Stage) -> None:
    """Critics for the fixed policies at every share; their bias before any update and every `look_every` of them."""
    budget, streams, episodes = bench.budget, bench.streams("critic"), traces(bench)
    sac, synthetic = evaluators(bench), bench.blank(len(bench.seeds))
    live = {"sac": sac.state(), "synthetic": synthetic}
    begun = kept.restore(live, streams)
    if not begun:
        _note_bias(bench, sac, episodes, 0, notes)
    for done in range(begun + 1, budget.critic_updates + 1):
        if (done - 1) % budget.branch_every == 0:
            synthetic.copy_(imagine(bench, bench.sac, streams))
            settle(bench, sac, streams, synthetic)
        rows = batch(bench, streams, synthetic, bench.sac.config.batch_size)
        noise = bench.spread(streams.normal("sac", rows.shape[1], bench.layout.action_dim))
        draw = [bench.spread(numbers) for numbers in draw_critics(sac.config, streams)]
        with bench.engine.products():
            info = update_critic(sac, rows, noise, *draw)
        if done % budget.look_every == 0 or done == budget.critic_updates:
            notes.add_shares(done, "critic_loss", info["critic_loss"])
            _note_bias(bench, sac, episodes, done, notes)
            progress(done, budget.updates)
        kept.offer(done, lambda: live, streams)


def train_policies(bench: Bench, notes: _Notes, progress: Progress, kept: Stage) -> None:
    """Actor and critics together from where they stand, at every share; returns before and after."""
    budget, streams, shares = bench.budget, bench.streams("policy"), range(len(bench.budget.shares))
    sac = learners(bench, bench.sac, bench.row_runs)
    synthetic = bench.blank(len(bench.row_runs))
    live = {"sac": sac.state(), "synthetic": synthetic}
    begun = kept.restore(live, streams)
    if not begun:
        before = deterministic(bench, bench.sac)
        for q in shares:
            notes.add_episodes(q, 0, before)
    for done in range(begun + 1, budget.policy_updates + 1):
        if (done - 1) % budget.branch_every == 0:
            synthetic.copy_(imagine(bench, sac, streams))
        rows = batch(bench, streams, synthetic, bench.sac.config.batch_size)
        noise = bench.spread(streams.normal("sac", 2, rows.shape[1], bench.layout.action_dim))
        draw = [bench.spread(numbers) for numbers in draw_critics(sac.config, streams)]
        with bench.engine.products():
            info = update(sac, rows, noise, *draw)
        if done % budget.look_every == 0 or done == budget.policy_updates:
            for name, values in (info | {"temperature": sac.alpha}).items():
                notes.add_shares(budget.critic_updates + done, f"policy_{name}", values)
            progress(budget.critic_updates + done, budget.updates)
        kept.offer(done, lambda: live, streams)
    lost = ~torch.stack([p.detach().isfinite().flatten(1).all(1) for p in sac.actor.parameters]).all(0)
    notes.add(budget.updates, "diverged", lost.view(-1, len(shares)).any(1).double().tolist())
    for q in shares if budget.policy_updates else ():
        rows_of_share = range(q, len(bench.row_runs), len(shares))
        notes.add_episodes(q, budget.policy_updates, deterministic(bench, learners(bench, sac, rows_of_share)))


def _note_bias(bench: Bench, sac: Sac, episodes: Sequence[Sequence[Trace]], step: int, notes: _Notes) -> None:
    """Q less Monte-Carlo return at every share, and the parts of that return, which all shares have in common."""
    for r, mine in enumerate(episodes):
        alpha = float(sac.alpha[r * len(bench.budget.shares)])
        for q, values in enumerate(critics_along(bench, sac.critic, r, mine)):
            against = diagnostics.critic_bias(mine, [v.tolist() for v in values], bench.sac.config.discount, alpha)
            notes.add_share(r, step, "critic_bias", q, against.bias)
            notes.add_share(r, step, "critic_q", q, against.q)
        notes.add_one(r, step, "mc_reward_part", against.reward_part)
        notes.add_one(r, step, "mc_entropy_part", against.entropy_part)


class _Notes:
    """Episodes and measures of R runs as they come, as tidy frames at the end."""

    def __init__(self, bench: Bench) -> None:
        self._shares = bench.budget.shares
        self._curves: list[list[tuple[int, int, int, float, int]]] = [[] for _ in bench.seeds]
        self._rows: list[list[tuple[int, str, int, float]]] = [[] for _ in bench.seeds]

    def add(self, step: int, name: str, values: Sequence[float]) -> None:
        """A scalar of every run ``(R,)``, stored with dim -1."""
        for r, value in enumerate(values):
            self.add_one(r, step, name, value)

    def add_one(self, run: int, step: int, name: str, value: float) -> None:
        """A scalar of one run."""
        self._rows[run].append((step, name, -1, value))

    def add_share(self, run: int, step: int, name: str, q: int, value: float) -> None:
        """A measure of one run at its q-th share, stored with the share as its dim."""
        self._rows[run].append((step, name, self._shares[q], value))

    def add_shares(self, step: int, name: str, values: Tensor) -> None:
        """A measure ``(R Q,)`` of every run at every share."""
        for row, value in enumerate(values.tolist()):
            self.add_share(row // len(self._shares), step, name, row % len(self._shares), value)

    def add_episodes(self, q: int, updates: int, played: Episodes) -> None:
        """Episodes ``(R, n)`` of the policies at the q-th share."""
        for curve, returns, lengths in zip(self._curves, played.returns, played.lengths, strict=True):
            pairs = zip(returns.tolist(), lengths.tolist(), strict=True)
            curve += [(self._shares[q], updates, episode, *pair) for episode, pair in enumerate(pairs)]

    def of(self, run: int) -> dict[str, Any]:
        """What was noted of one run, for a snapshot."""
        return {"curve": list(self._curves[run]), "rows": list(self._rows[run])}

    def take_back(self, run: int, noted: dict[str, Any]) -> None:
        """What `of` said of one run."""
        self._curves[run], self._rows[run] = (list(map(tuple, noted[name])) for name in ("curve", "rows"))

    def results(self) -> list[Result]:
        """One pair of frames a run, with two scalars that compare the largest share with the start.

        ``bias_shift`` is the last bias of the critics at the largest share less that at the smallest,
        ``policy_gain`` the mean return reached at the largest share less that of the policy before.
        """
        low, high = min(self._shares), max(self._shares)
        results = []
        for curve, rows in zip(self._curves, self._rows, strict=True):
            episodes, measures = pd.DataFrame(curve, columns=COLUMNS["probe"]), pd.DataFrame(rows, columns=DIAGNOSTICS)
            bias = measures[measures["measure"] == "critic_bias"].groupby("dim")["value"].last()
            mine = episodes[episodes["share"] == high].groupby("updates")["episode_return"].mean()
            scalars = {"bias_shift": bias[high] - bias[low], "policy_gain": mine.iloc[-1] - mine.iloc[0]}
            last = int(measures["step"].max())
            added = pd.DataFrame([(last, name, -1, value) for name, value in scalars.items()], columns=DIAGNOSTICS)
            results.append(Result(episodes, pd.concat([measures, added], ignore_index=True)))
        return results
