"""Records reduced to numbers: one score per run for the verdicts, tidy tables for figures and pages.

A score is the mean over a stated window, never the best. A window is two shares of training, so that one claim reads
the same under a short and a long protocol: ``[0.8, 1]`` holds all evaluations of the last fifth, ``[0, 0]`` the one
before the first update. A `fit` run has one moment, its end, and takes no window.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Literal, Self

import numpy as np
import pandas as pd
from pydantic import model_validator

from benchmark.judging.evidence import Score
from benchmark.store import Record
from mbpo.config import Config, InputError, constant, nearest

RETURN = "episode_return"
FIT_MEASURES = (
    "reward_r2", "reward_slope", "reward_pred_mean", "reward_true_mean", "reward_pred_std", "reward_true_std",
    "reward_noise_std", "reward_std_ratio", "logvar_target", "logvar_raw", "at_floor", "at_ceiling", "calibration_obs",
    "calibration_reward", "error_over_delta", "error_over_next_obs",
)  # fmt: skip
TRAIN_MEASURES = (
    RETURN, "q_mean", "critic_loss", "actor_loss", "temperature", "entropy", "real_reward_mean", "real_reward_std",
    "synthetic_reward_mean", "synthetic_reward_std", "model_holdout_mse", "reward_r2", "logvar_target", "logvar_raw",
    "critic_bias", "critic_bias_over", "critic_bias_under", "mc_q", "mc_reward_part", "mc_entropy_part",
    "log_prob_mean", "log_std_mean", "pre_tanh_mean_abs", "pre_tanh_mean_max", "saturated_share",
)  # fmt: skip
NEED_VARYING_REWARD = ("reward_r2", "reward_slope", "reward_std_ratio")
"""NaN where every held-out reward is the same."""
PROBE_MEASURES = (*FIT_MEASURES, "bias_shift", "policy_gain")
MEASURES = {"fit": FIT_MEASURES, "train": TRAIN_MEASURES, "probe": PROBE_MEASURES}


NAMES = {
    "reward_r2": "reward R\N{SUPERSCRIPT TWO}",
    "reward_std_ratio": "reward spread ratio",
    "critic_bias": "critic less soft return",
    "mc_q": "critic's value",
    "mc_reward_part": "discounted reward of the policy",
    "mc_entropy_part": "entropy part of the soft return",
    "bias_shift": "what synthetic rows add to the critic's bias",
    "policy_gain": "return gained on synthetic rows",
    "logvar_target": "log-variance in target units",
    "logvar_raw": "log-variance in the environment's units",
}
"""How a reader would call a measure; others by their own name."""


class Estimand(Config):
    """Which number of a run a claim is about."""

    measure: str = constant(RETURN, "episode_return, or a scalar of diagnostics.csv")
    window: tuple[float, float] | None = constant(None, "evaluations averaged, inclusive", unit="shares of training")
    transform: Literal["none", "abs", "abs-log", "log10"] = constant(
        "none", "applied to the mean; abs is the distance from 0, abs-log that of a ratio from 1, log10 its magnitude"
    )

    @model_validator(mode="after")
    def _window_in_order(self) -> Self:
        if self.window is not None and not 0 <= self.window[0] <= self.window[1] <= 1:
            raise ValueError(f"window = {list(self.window)}: give two shares of training in order, such as [0.8, 1]")
        return self

    def check(self, kind: str, where: str) -> None:
        """Raise `InputError` if a run of this `kind` has no such number."""
        if self.measure not in MEASURES[kind]:
            raise InputError(f"{where}.measure = {self.measure!r}: {nearest(self.measure, MEASURES[kind])}")
        if (self.window is None) != (kind != "train"):
            raise InputError(
                f"{where}.window: a {kind} run {'needs one' if kind == 'train' else 'has one moment; leave it out'}"
            )

    @property
    def name(self) -> str:
        """The measure as a reader would call it."""
        return NAMES.get(self.measure, self.measure.replace("_", " "))

    @property
    def words(self) -> str:
        """The estimand as a reader would say it."""
        forms = {"none": "{}", "abs": "|{}|", "abs-log": "|log {}|", "log10": "log10 of {}"}
        name = forms[self.transform].format(self.name)
        if self.window is None:
            return f"{name}, held out" if self.measure in FIT_MEASURES else name
        if self.window == (0.0, 0.0):
            return f"{name} before training"
        low, high = (f"{share:.0%}" for share in self.window)
        span = "all evaluations" if self.window == (0.0, 1.0) else f"evaluations from {low} to {high} of training"
        return f"mean {name} over {span}"


def score(record: Record, estimand: Estimand) -> Score:
    """The run's one number, with what decides whether it may be compared with others."""
    low, high = estimand.window or (1.0, 1.0)
    if estimand.measure == RETURN:
        rows = record.curve.rename(columns={"env_steps": "step", RETURN: "value"})
    else:
        rows = _scalar_rows(record, estimand.measure)
    if record.spec.budget is not None:
        total = record.spec.budget.env_steps
        rows = rows[(rows["step"] >= low * total) & (rows["step"] <= high * total)]
    else:
        rows = rows[rows["step"] == rows["step"].max()]
    value = float(rows["value"].mean(skipna=False)) if len(rows) else math.nan
    if estimand.transform == "abs":
        value = abs(value)
    elif estimand.transform == "abs-log":
        value = abs(math.log(value)) if value > 0 else math.nan
    elif estimand.transform == "log10":
        value = math.log10(value) if value > 0 else math.nan
    still = estimand.measure in NEED_VARYING_REWARD and math.isnan(value) and record.last("reward_true_std") == 0
    undefined = "the held-out rewards do not vary, so more transitions are needed" if still else ""
    return Score(record.spec.seed, value, len(rows), engine(record), diverged(record), undefined)


def engine(record: Record) -> str:
    """Short name of what computed the run: simulator fingerprint and package releases. Unequal ones are never pooled.

    Python's own release and a wheel's local label ("+cpu") are left out: neither changes what is computed.
    """
    versions = dict(record.provenance.get("versions", {}))
    releases = {name: str(version).split("+")[0] for name, version in versions.items() if name != "python"}
    canonical = json.dumps([record.provenance.get("engine"), releases], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def diverged(record: Record) -> bool:
    """Whether training stopped because numbers left all bounds."""
    rows = _scalar_rows(record, "diverged")
    return bool((rows["value"] > 0).any())


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
    """Scalars over the course of runs: ``task, method, seed, step, measure, value``."""
    wanted = list(measures)
    frames = []
    for record in records:
        table = record.diagnostics
        rows = table[table["measure"].isin(wanted) & (table["dim"] == -1)]
        frames.append(_tagged(record, rows[["step", "measure", "value"]]))
    return _joined(frames, ["task", "method", "seed", "step", "measure", "value"])


def matrix(frame: pd.DataFrame, value: str) -> np.ndarray:
    """(seeds, tasks) of the seeds that every task has; columns in order of first appearance."""
    wide = frame.pivot(index="seed", columns="task", values=value)[list(dict.fromkeys(frame["task"]))]
    return wide.dropna().to_numpy()


def _scalar_rows(record: Record, measure: str) -> pd.DataFrame:
    table = record.diagnostics
    return table[(table["measure"] == measure) & (table["dim"] == -1)]


def _tagged(record: Record, rows: pd.DataFrame) -> pd.DataFrame:
    tagged = rows.copy()
    for position, (name, value) in enumerate(
        (("task", record.spec.task), ("method", record.spec.arm), ("seed", record.spec.seed))
    ):
        tagged.insert(position, name, value)
    return tagged


def _joined(frames: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
