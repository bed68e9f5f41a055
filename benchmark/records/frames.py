"""Records as tidy tables, for figures and pages."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from benchmark.records.store import RETURN, Record


def scalars(records: Iterable[Record]) -> pd.DataFrame:
    """Last scalars of `fit` runs: ``task, method, seed, measure, value``."""
    frames = []
    for record in records:
        rows = record.diagnostics[record.diagnostics["dim"] == -1]
        rows = rows[rows["step"] == rows["step"].max()]
        frames.append(_tagged(record, rows[["measure", "value"]]))
    return _joined(frames, ["task", "method", "seed", "measure", "value"])


def reward_bins(records: Iterable[Record]) -> pd.DataFrame:
    """True against predicted reward by quantile of the true: ``task, method, seed, bin, true, predicted``."""
    frames = []
    for record in records:
        rows = record.diagnostics[record.diagnostics["measure"].isin(["reward_true_bin", "reward_pred_bin"])]
        wide = rows.pivot(index="dim", columns="measure", values="value").reset_index()
        wide = wide.rename(columns={"dim": "bin", "reward_true_bin": "true", "reward_pred_bin": "predicted"})
        if {"true", "predicted"} <= set(wide.columns):
            frames.append(_tagged(record, wide[["bin", "true", "predicted"]]))
    return _joined(frames, ["task", "method", "seed", "bin", "true", "predicted"])


def curves(records: Iterable[Record]) -> pd.DataFrame:
    """Learning curves of `train` runs: ``task, method, seed, env_steps, episode_return``, the mean over episodes."""
    frames = []
    for record in records:
        means = record.curve.groupby("env_steps", sort=True)[RETURN].mean().reset_index()
        frames.append(_tagged(record, means))
    return _joined(frames, ["task", "method", "seed", "env_steps", RETURN])


def traces(records: Iterable[Record], measures: Iterable[str]) -> pd.DataFrame:
    """Scalars over the course of runs, stored or derived: ``task, method, seed, step, measure, value``."""
    wanted = set(measures)
    derived = sorted(wanted & DERIVED.keys())
    frames = []
    for record in records:
        table = record.diagnostics
        rows = table[table["measure"].isin(wanted - DERIVED.keys()) & (table["dim"] == -1)]
        made = [part for measure in derived if len(part := scalar_rows(record, measure))]
        frames.append(_tagged(record, pd.concat([rows, *made])[["step", "measure", "value"]]))
    return _joined(frames, ["task", "method", "seed", "step", "measure", "value"])


def matrix(frame: pd.DataFrame, value: str) -> np.ndarray:
    """(seeds, tasks) of the seeds that every task has; columns in order of first appearance."""
    wide = frame.pivot(index="seed", columns="task", values=value)[list(dict.fromkeys(frame["task"]))]
    return wide.dropna().to_numpy()


def _spread_of_synthetic(v: pd.DataFrame) -> pd.Series:
    return np.hypot(v["reward_pred_std"], v["reward_noise_std"])


def _error_over_replay(v: pd.DataFrame) -> pd.Series:
    """Root mean squared reward error, in spreads of the replay: held-out rewards may hardly vary."""
    share = (1.0 - v["reward_r2"]).clip(lower=0.0) ** 0.5
    return share * v["reward_true_std"] / v["real_reward_std"].where(v["real_reward_std"] > 0)


DERIVED = {
    "reward_synthetic_std": (("reward_pred_std", "reward_noise_std"), _spread_of_synthetic),
    "reward_error_over_replay": (("reward_r2", "reward_true_std", "real_reward_std"), _error_over_replay),
}
"""Measures that are functions of stored ones: their sources, and how they come from them."""


def scalar_rows(record: Record, measure: str) -> pd.DataFrame:
    """``step, value`` and more of one scalar of a run, stored or derived."""
    table = record.diagnostics
    if measure in DERIVED and not (table["measure"] == measure).any():
        sources, make = DERIVED[measure]
        rows = table[table["measure"].isin(sources) & (table["dim"] == -1)]
        wide = rows.pivot(index="step", columns="measure", values="value")
        if not set(sources) <= set(wide.columns):
            return pd.DataFrame({"step": [], "measure": [], "dim": [], "value": []})
        return make(wide).rename("value").reset_index().assign(measure=measure, dim=-1)
    return table[(table["measure"].to_numpy() == measure) & (table["dim"].to_numpy() == -1)]


def _tagged(record: Record, rows: pd.DataFrame) -> pd.DataFrame:
    tagged = rows.copy()
    for position, (name, value) in enumerate(
        (("task", record.spec.task), ("method", record.spec.arm), ("seed", record.spec.seed))
    ):
        tagged.insert(position, name, value)
    return tagged


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
