"""What a claim declares: the number it is about, and the rule that settles it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from benchmark.records.store import RETURN
from mbpo.config import Config, InputError, constant, nearest

Verdict = Literal["reproduced", "contradicted", "inconclusive", "incomplete", "invalid"]
VERDICTS: tuple[Verdict, ...] = ("reproduced", "contradicted", "inconclusive", "incomplete", "invalid")
ALL = "all"
"""Stands for the task in the one row of a counting claim."""


class Look(Config):
    """One moment at which the data may be judged, planned before the first."""

    seeds: int = constant(1, "seeds per arm by then", unit="times the protocol's", ge=1, le=100)
    share: float = constant(1.0, "of the level that this look may spend", gt=0, le=1)


class Criterion(Config):
    """When the difference between two arms counts as what the claim says."""

    kind: Literal["difference", "non-inferiority", "equivalence"] = constant(
        "difference", "the region of the shift that is claimed"
    )
    of: Literal["typical seed", "mean", "share"] = constant(
        "typical seed", "what differs: a typical seed (shift of ranks), the mean over seeds, or the share that `reach`"
    )
    reach: float | None = constant(None, "score from which a seed counts in the share", unit="of the score")
    direction: Literal["higher", "lower"] = constant(
        "higher", "where the arm is claimed to lie; for non-inferiority, which side is better"
    )
    margin: float = constant(0.0, "half-width or offset of the region", unit="of the score, or a share of it", ge=0)
    relative: bool = constant(False, "margin is a share of each score of the reference arm")
    detect: float = constant(
        0.0, "difference beyond the bound that seeds are counted for; 0 is none", unit="as the margin", ge=0
    )
    at_least: int | None = constant(None, "counting claim: so many tasks must be confirmed", unit="tasks", ge=1)
    aggregate: bool = constant(False, "judge the mean of normalized scores over all tasks instead of each task")
    looks: tuple[Look, ...] = constant((), "when the data may be looked at; empty is once, at the protocol's seeds")
    level: float = constant(0.05, "family-wise level of each one-sided decision", gt=0, lt=0.5)

    @model_validator(mode="after")
    def _margin_given(self) -> Self:
        if self.kind != "difference" and self.margin == 0:
            raise ValueError(f"a {self.kind} criterion needs a margin above 0")
        return self

    @model_validator(mode="after")
    def _one_family(self) -> Self:
        if self.aggregate and self.at_least is not None:
            raise ValueError("an aggregate has no tasks to count: give aggregate or at_least")
        return self

    @model_validator(mode="after")
    def _share_of_something(self) -> Self:
        if (self.of == "share") != (self.reach is not None):
            raise ValueError("a share of seeds needs the score that counts: give of = share and reach together")
        if self.of == "share" and (self.kind != "difference" or self.margin or self.aggregate):
            raise ValueError("a share of seeds is compared without a margin, task by task")
        return self

    @model_validator(mode="after")
    def _looks_planned(self) -> Self:
        times, shares = [look.seeds for look in self.looks], [look.share for look in self.looks]
        if times != sorted(set(times)) or times[:1] not in ([], [1]):
            raise ValueError("looks come in order, the first at 1 times the protocol's seeds")
        if self.looks and abs(sum(shares) - 1) > 1e-9:
            raise ValueError(f"the shares of the looks add up to {sum(shares):g}; they must add up to 1")
        return self

    @property
    def words(self) -> str:
        """The margin as sentences give it."""
        return f"{self.margin:.0%}" if self.relative else f"{self.margin:g}"

    @property
    def estimand(self) -> str:
        """What is compared, as a reader would say it; the mean where tasks are pooled."""
        if self.of == "share":
            return f"share of seeds that reach {self.reach:g}"
        return "mean over tasks" if self.aggregate else self.of

    @property
    def registered(self) -> float:
        """The true difference beyond the bound that seeds are counted for, as the margin is given; 0 is none."""
        return self.detect or (0.0 if self.kind == "difference" else self.margin)

    @property
    def confidence(self) -> float:
        """Of the two-sided interval that agrees with one-sided decisions at `level`, before Holm."""
        return 1 - 2 * self.level


FIT_MEASURES = (
    "reward_r2", "reward_slope", "reward_pred_mean", "reward_true_mean", "reward_pred_std", "reward_true_std",
    "reward_noise_std", "reward_std_ratio", "logvar_target", "logvar_raw", "at_floor", "at_ceiling", "calibration_obs",
    "calibration_reward", "error_over_delta", "error_over_next_obs",
    "reward_synthetic_std", "reward_error_over_replay",
)  # fmt: skip
TRAIN_MEASURES = (
    RETURN, "q_mean", "critic_loss", "actor_loss", "temperature", "entropy", "real_reward_mean", "real_reward_std",
    "synthetic_reward_mean", "synthetic_reward_std", "model_holdout_mse", "reward_r2", "logvar_target", "logvar_raw",
    "critic_bias", "critic_bias_over", "critic_bias_under", "mc_q", "mc_reward_part", "mc_entropy_part",
    "log_prob_mean", "log_std_mean", "pre_tanh_mean_abs", "pre_tanh_mean_max", "saturated_share",
    "reward_error_over_replay", "error_over_delta", "policy_error_over_delta", "feature_rank", "feature_norm",
    "critic_gradient_norm", "actor_gradient_norm", "synthetic_reward_outside", "synthetic_obs_outside",
    "synthetic_saturated_share", "synthetic_q_mean",
)  # fmt: skip
NEED_VARYING_REWARD = ("reward_r2", "reward_slope", "reward_std_ratio", "reward_error_over_replay")
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
    "reward_error_over_replay": "reward error, in spreads of the whole replay's rewards",
    "policy_error_over_delta": "model error at the policy's steps, over their size",
    "synthetic_obs_outside": "share of synthetic observations off the data",
    "synthetic_reward_outside": "share of synthetic rewards out of range",
    "synthetic_saturated_share": "saturated share at synthetic next states",
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
        if kind == "train" and self.window is None:
            raise InputError(f"{where}.window: a train run needs one")
        if kind == "probe" and self.window is not None:
            raise InputError(f"{where}.window: a probe run has one moment; leave it out")
        if kind == "fit" and self.window is not None and not 0 < self.window[0] < self.window[1] == 1:
            raise InputError(
                f"{where}.window: a fit run is read at its end; give one such as [0.8, 1], or leave it out"
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
