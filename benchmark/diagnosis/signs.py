"""Signs that something goes wrong in one training run, each a number over time with a limit that was fixed beforehand.

A sign sets in at the first evaluation beyond its limit whose next one is beyond it as well, or that is the last: one
evaluation may be an accident. What happens between two evaluations nobody saw: of signs that set in at one evaluation
the one furthest beyond its limit is told first, for what grows by factors went beyond it earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.records.frames import DERIVED
from benchmark.records.store import RETURN, Record
from mbpo.config import Method

_SETTLED = 0.2
"""Of its start: a temperature that a sound learner keeps below, for want of one to compare with."""
MILD, OFF = 2.0, 0.5
"""Factors from which a predicted standard deviation counts as wrong, as in `diagnose`."""


@dataclass(frozen=True)
class Course:
    """One run's measures by evaluation, from the first that followed an update."""

    method: Method
    table: pd.DataFrame  # env_steps -> measures
    start: pd.Series  # the untrained evaluation
    reference: pd.DataFrame | None = None  # the same of a run without a model, on the same task

    def __getitem__(self, measure: str) -> pd.Series:
        return self.table[measure]

    def beside(self, measure: str) -> pd.Series | None:
        """The reference's `measure` at the same env steps, interpolated; None without a reference that has it."""
        if self.reference is None or measure not in self.reference:
            return None
        known = self.reference[measure].dropna()
        if known.empty:
            return None
        steps = self.table.index.to_numpy(float)
        return pd.Series(np.interp(steps, known.index.to_numpy(float), known.to_numpy(float)), self.table.index)

    def most_paid(self) -> pd.Series:
        """The largest size of a real reward; mean and three standard deviations in records that do not hold it."""
        if {"real_reward_low", "real_reward_high"} <= set(self.table):
            return pd.concat([self["real_reward_low"].abs(), self["real_reward_high"].abs()], axis=1).max(axis=1)
        return self["real_reward_mean"].abs() + 3.0 * self["real_reward_std"]

    def paid_by_entropy(self) -> pd.Series:
        """What the entropy of one action adds to a value, in size: temperature times log density."""
        return self["temperature"] * self._density()

    def paid_so_far(self) -> pd.Series:
        """The most that reward and entropy of one step have paid by each evaluation; critics forget slowly."""
        first = self.start["temperature"] * self._density().iloc[0]
        return self.most_paid().cummax() + self.paid_by_entropy().cummax().clip(lower=first)

    def _density(self) -> pd.Series:
        return (self["log_prob_mean"] if "log_prob_mean" in self.table else self["entropy"]).abs()


def course(record: Record, reference: Record | None = None) -> Course:
    """The course of a `train` record, beside that of another."""
    whole = _wide(record)
    learned = whole[whole["updates"] > 0] if "updates" in whole else whole.iloc[1:]
    beside = None if reference is None else _wide(reference)
    return Course(record.spec.constants, learned, whole.iloc[0], beside)


def _wide(record: Record) -> pd.DataFrame:
    scalars = record.diagnostics[record.diagnostics["dim"] == -1]
    wide = scalars.pivot_table(index="step", columns="measure", values="value", aggfunc="last")
    wide[RETURN] = record.curve.groupby("env_steps")[RETURN].mean().reindex(wide.index)
    return wide


@dataclass(frozen=True)
class Sign:
    """One thing that may go wrong: how it is read, from where it counts, and which constants would test it."""

    id: str
    title: str
    measure: str  # what the number is, for a reader
    needs: tuple[str, ...]
    read: Callable[[Course], pd.Series]
    limit: float  # beyond it means above
    source: str  # of the limit
    arms: tuple[str, ...]  # fields of `mbpo.config.Method` that would show whether it is the cause


def _reward_error(c: Course) -> pd.Series:
    return DERIVED["reward_error_over_replay"][1](c.table)


def _wrong_ends(c: Course) -> pd.Series:
    return (c["termination_false"] + c["termination_missed"]) / c["real_terminated_share"].clip(lower=0.01)


def _ceiling(c: Course) -> pd.Series:
    calibration = c["calibration_obs"]
    return c["at_ceiling"].where((calibration > MILD) | (calibration < OFF), 0.0)


def _error_at_policy(c: Course) -> pd.Series:
    error = c["policy_error_over_delta"]
    return error.where(error > 2.0 * c["error_over_delta"], 0.0) / 100.0


def _temperature(c: Course) -> pd.Series:
    other = c.beside("temperature")
    ratio = c["temperature"] / (_SETTLED * c.start["temperature"] if other is None else other)
    return ratio.where(c.paid_by_entropy() > c.most_paid(), 0.0)


def _critic(c: Course) -> pd.Series:
    payable = c.paid_so_far() / max(1.0 - c.method.sac.discount, 1e-3)
    return c["q_mean"].abs() / payable.clip(lower=1e-12)


def _rank_lost(c: Course) -> pd.Series:
    return c["feature_rank"].iloc[0] / c["feature_rank"].clip(lower=1e-3)


SIGNS = (
    Sign(
        "wrong-ends", "Synthetic rollouts end wrongly",
        "wrong ends of predictions, held out, over the share of real steps that end",
        ("termination_false", "termination_missed", "real_terminated_share"), _wrong_ends, 0.5,
        "ours: half as many wrong ends as there are ends (no fewer than one step in a hundred counts)",
        ("rollout.schedule", "real_ratio"),
    ),
    Sign(
        "reward-lost", "The reward model is lost",
        "root mean squared error of the predicted reward, held out, in standard deviations of the real one",
        ("reward_r2", "reward_true_std", "real_reward_std"), _reward_error, 1.0,
        "no better than a constant guess, R2 of 0: severe in `diagnose`; FTFL, section 4.2",
        ("target.normalize", "model.reward_head", "rollout.reward"),
    ),
    Sign(
        "reward-absurd", "Synthetic rewards are absurd",
        "share of synthetic rewards beyond the range of the real ones by a tenth of it",
        ("synthetic_reward_outside",), lambda c: c["synthetic_reward_outside"], 0.1,
        "ours: one row in ten",
        ("rollout.clip", "rollout.reward", "rollout.noise"),
    ),
    Sign(
        "reward-overspread", "Synthetic rewards are too wide",
        "standard deviation of synthetic over that of real rewards",
        ("synthetic_reward_std", "real_reward_std"),
        lambda c: c["synthetic_reward_std"] / c["real_reward_std"].where(c["real_reward_std"] > 0), 5.0,
        "severe in `diagnose`",
        ("target.normalize", "rollout.noise", "model.min_logvar"),
    ),
    Sign(
        "variance-ceiling", "Variances stick to their upper bound",
        "share of outputs at the upper bound of the log-variance, where predicted and actual errors differ by a factor "
        "of two",
        ("at_ceiling", "calibration_obs"), _ceiling, 0.2,
        "severe in `diagnose`; FTFL, section 4.3",
        ("model.max_logvar", "model.logvar_bounds", "target.predict"),
    ),
    Sign(
        "model-at-policy", "The model fails where the policy goes",
        "size of its error on real steps of the policy over the size of the step, where that is twice the one held out",
        ("policy_error_over_delta", "error_over_delta"), _error_at_policy, 1.0,
        "worse than to predict that nothing changes",
        ("model.fit_every", "rollout.schedule", "real_ratio"),
    ),
    Sign(
        "rows-off-data", "Synthetic observations lie off the data",
        "share of synthetic next observations with a number beyond the real ones' range by a tenth of it",
        ("synthetic_obs_outside",), lambda c: c["synthetic_obs_outside"], 0.5,
        "ours: every second row",
        ("rollout.clip", "rollout.noise", "sac.obs_norm"),
    ),
    Sign(
        "saturation", "The policy saturates",
        "mean size of the Gaussian's mean before tanh",
        ("pre_tanh_mean_abs",), lambda c: c["pre_tanh_mean_abs"], 3.0,
        "tanh 3 is 0.995: the average action is at its bound",
        ("sac.mean_bound", "sac.mean_penalty", "sac.target_entropy_scale"),
    ),
    Sign(
        "temperature", "The temperature winds up",
        "temperature over that of a learner without a model at the same step (where no such record is, over a fifth of "
        "its own start), where entropy pays more than the largest real reward",
        ("temperature", "entropy", "real_reward_mean", "real_reward_std"), _temperature, 10.0,
        "ours: an order of magnitude; the claims of the chapter `entropy` ask for a factor of 3.2 on average",
        ("sac.temperature", "sac.max_temperature", "sac.backup", "sac.critic_norm"),
    ),
    Sign(
        "critic", "The critics hold what nothing pays",
        "size of the mean value over what the best step so far, in reward and entropy, would be worth if paid for ever",
        ("q_mean", "temperature", "entropy", "real_reward_mean", "real_reward_std"), _critic, 3.0,
        "ours: three times the largest value that is possible",
        ("sac.critic_norm", "sac.critics", "sac.reset_every", "utd"),
    ),
    Sign(
        "features", "The critics' features collapse",
        "effective rank of the critics' last hidden layer at the first evaluation over that of now",
        ("feature_rank",), _rank_lost, 4.0,
        "ours: three quarters of the rank lost; the rank is that of Kumar et al. 2021",
        ("sac.critic_norm", "sac.reset_every", "utd"),
    ),
    Sign(
        "not-finite", "Actor or critic is not finite",
        "1 once a parameter of actor or critic is not finite, or the environment failed",
        ("diverged",), lambda c: c["diverged"], 0.5,
        "the run counts as what it scored before",
        ("sac.learning_rate",),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Onset:
    """A sign's values, and where it set in: the env steps of that evaluation and of the one before, or None."""

    sign: Sign
    values: pd.Series
    at: int | None
    before: int

    @property
    def times_limit(self) -> float:
        """How far beyond its limit it set in, as a factor."""
        return self.value / self.sign.limit

    @property
    def value(self) -> float:
        """The value at its onset; the largest one where it did not set in."""
        return float(self.values.max() if self.at is None else self.values.loc[self.at])


def onset(sign: Sign, c: Course) -> Onset | None:
    """When `sign` set in; None where the record lacks what it needs."""
    if not set(sign.needs) <= set(c.table) or c.table.empty:
        return None
    values = sign.read(c).astype(float)
    if values.isna().all():
        return None
    beyond = (values > sign.limit).to_numpy()
    lasting = beyond & np.append(beyond[1:], True)
    steps = [int(c.start.name), *map(int, c.table.index)]
    first = int(np.argmax(lasting)) if lasting.any() else None
    return Onset(sign, values, None if first is None else steps[first + 1], steps[first or 0])


def onsets(c: Course, signs: Sequence[Sign] = SIGNS) -> tuple[list[Onset], list[Sign]]:
    """All signs that can be judged, those that set in first and in time, and those that cannot."""
    read = [(sign, onset(sign, c)) for sign in signs]
    judged = [found for _, found in read if found is not None]
    judged.sort(key=lambda o: (o.at is None, o.at or 0, 0.0 if o.at is None else -o.times_limit))
    return judged, [sign for sign, found in read if found is None]
