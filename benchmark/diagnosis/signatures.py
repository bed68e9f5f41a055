"""Signatures of a failing model, each a number per arm and seed with thresholds that were fixed beforehand.

An arm's severity is the highest threshold that every seed lies beyond. With n seeds the chance that all of them do
while the median does not is at most 2^-n: 12.5 % for three, 3.1 % for five.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmark.running.job import Result

RELEVANT = 0.1
"""Noise and errors below this share of a dimension's own standard deviation are ignored: a critic hardly sees them."""
FLOOR_NOISE = 0.25
"""Share of a dimension's standard deviation from which the noise of the lower log-variance bound counts."""
OTHER_CARRY = {
    "mbpo": ("direct-only",),
    "reward-norm": ("direct-only",),
    "direct-only": ("mbpo",),
    "norm-only": ("ftfl",),
    "ftfl": ("norm-only",),
    "fitted": ("norm-only", "ftfl"),
}
"""Which arms tell what another carry would have done under the same (or nearly the same) normalization."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Measured:
    """The finished fits of all arms and seeds, and the data's own numbers. D = O + 1, the reward last."""

    values: Mapping[str, Mapping[str, Array]]  # arm -> measure -> (S,) or (S, D)
    spread: Array  # (S, D) standard deviation of next_obs and of the reward
    signal: Array  # (S, D) the same, or that of the increment where that is less: what there is to predict
    geometry: Mapping[str, Array]  # as `diagnostics.target_geometry`: (S, O) and (S,)
    varies: Array  # (D,) bool

    def of(self, arm: str, measure: str) -> Array:
        """``(S,)`` or ``(S, D)``."""
        return self.values[arm][measure]

    def noise(self, arm: str) -> Array:
        """Root mean predicted variance in units of the environment ``(S, D)``."""
        return np.nan_to_num(self.of(arm, "dim_calibration")) * self.error(arm)

    def error(self, arm: str) -> Array:
        """Root mean squared held-out error in units of the environment ``(S, D)``."""
        return self.of(arm, "dim_error_std")

    def least_error(self) -> Array:
        """The least error that any arm reached ``(S, D)``: what the data allow."""
        return np.asarray(np.fmin.reduce([self.error(arm) for arm in self.values]))  # NaN: that arm diverged

    @property
    def varying_obs(self) -> Array:
        """Which of the targets are observations that vary ``(D,)``."""
        return self.varies & (np.arange(len(self.varies)) < len(self.varies) - 1)

    def share(self, which: Array, reward: bool = True) -> Array:
        """Share ``(S,)`` of the varying dimensions that `which (S, D)` or ``(S, O)`` marks."""
        counted = (self.varies if reward else self.varying_obs)[: which.shape[1]]
        return np.asarray(which[:, counted].mean(1) if counted.any() else np.zeros(len(which)))


def measured(
    results: Mapping[str, Sequence[Result]],
    spread: Array,
    signal: Array,
    geometry: Mapping[str, Array],
    varies: Array,
) -> Measured:
    """Gather the last line of every fit: ``results[arm][seed]``."""
    values = {}
    for arm, fits in results.items():
        last = [_last(fit) for fit in fits]
        values[arm] = {name: np.stack([seed[name] for seed in last]) for name in last[0]}
    return Measured(values, spread, signal, geometry, varies)


def _last(fit: Result) -> dict[str, Array]:
    table = fit.diagnostics[fit.diagnostics["step"] == fit.diagnostics["step"].max()]
    return {
        str(name): np.asarray(rows["value"].iloc[0] if rows["dim"].iloc[0] < 0 else rows.sort_values("dim")["value"])
        for name, rows in table.groupby("measure")
    }


@dataclass(frozen=True)
class Signature:
    """One way to fail: what is measured, and from where it counts as mild and as severe."""

    id: str
    title: str
    measure: Callable[[Measured, str], Array]  # (measured, arm) -> (S,)
    meaning: str
    mild: float
    severe: float
    of_reward: bool = False
    of_data: bool = False  # the same for every arm
    decides: bool = True  # whether the choice of an arm counts it
    applies: Callable[[Measured, str], Array] | None = None  # (S,) bool: seeds in which it may count at all

    @property
    def below(self) -> bool:
        """Whether small values are the bad ones."""
        return self.severe < self.mild


def _reward_learnable(m: Measured, arm: str) -> Array:
    """Some other arm explains a further fifth of the reward's variance: the loss is the arm's own."""
    best = np.fmax.reduce([m.of(name, "reward_r2") for name in m.values])
    return np.asarray(best - m.of(arm, "reward_r2") > 0.2)


def _inflation_raw(m: Measured, arm: str) -> Array:
    least = np.maximum(m.least_error(), RELEVANT * m.spread)
    noise = np.maximum(m.noise(arm), least)
    counted = m.varying_obs
    return np.asarray(
        2.0 * np.log(noise[:, counted] / least[:, counted]).mean(1) if counted.any() else 0.0 * noise[:, 0]
    )


def _inflation_target(m: Measured, arm: str) -> Array:
    counted = m.varying_obs
    both = [m.of(name, "dim_logvar_target")[:, counted].mean(1) for name in (arm, "ftfl")]
    return np.asarray(both[0] - both[1])


def _at_floor(m: Measured, arm: str) -> Array:
    held = (m.of(arm, "dim_at_floor") >= 0.5) & (m.noise(arm) >= FLOOR_NOISE * m.spread) & (m.noise(arm) > m.error(arm))
    reward = held[:, -1] & m.varies[-1]
    return np.maximum(m.share(held, reward=False), 0.2 * reward)


def _at_ceiling(m: Measured, arm: str) -> Array:
    noise, error = m.noise(arm), m.error(arm)
    off = (noise > 1.25 * error) | (error > 1.25 * noise)  # noise of just that size sits there by right
    return m.share(off & (m.of(arm, "dim_at_ceiling") >= 0.5))


def noise_like(m: Measured) -> Array:
    """Observations ``(S, O)`` whose next value does not depend on this one and whose increments vary more."""
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(m.geometry["fitted_carry"]) < 0.1) & (m.geometry["increment_ratio"] > 1.5))


def _miscalibrated(m: Measured, arm: str) -> Array:
    noise, error = m.noise(arm), m.error(arm)
    off = (noise > 2 * error) | (error > 2 * noise)
    return m.share(off & (np.maximum(noise, error) > RELEVANT * m.spread))


def _wrong_carry(m: Measured, arm: str) -> Array:
    other = np.fmin.reduce([m.error(name) for name in OTHER_CARRY[arm]])
    error = m.error(arm)
    return m.share((error > 1.05 * other) & (error > RELEVANT * m.signal), reward=False)


SIGNATURES = (
    Signature(
        "reward-collapse", "The reward is lost", lambda m, arm: m.of(arm, "reward_r2"),
        "held-out R² of the predicted reward, where another arm explains at least a fifth more of its variance",
        0.5, 0.0, of_reward=True, applies=_reward_learnable,
    ),
    Signature(
        "reward-overspread", "Synthetic rewards are too wide", lambda m, arm: m.of(arm, "reward_std_ratio"),
        "standard deviation of what would enter the synthetic buffer over that of the true reward",
        2.0, 5.0, of_reward=True,
    ),
    Signature(
        "variance-inflation-raw", "Predicted variance is inflated, in the environment's units", _inflation_raw,
        "mean over observations of log (predicted variance / least squared error that any arm reached)", 0.7, 1.4,
    ),
    Signature(
        "variance-inflation-target", "Predicted variance is inflated, as the paper plots it", _inflation_target,
        "mean log-variance in target space less that of ftfl. Spaces of two target maps are not comparable, so no "
        "recommendation rests on it", 1.0, 3.0, decides=False,
    ),
    Signature(
        "ceiling-saturation", "Variances stick to their upper bound", _at_ceiling,
        "share of dimensions with half of their outputs at the upper log-variance bound and a predicted standard "
        "deviation that is off by a quarter or more", 0.05, 0.2,
    ),
    Signature(
        "floor-saturation", "Variances stick to their lower bound", _at_floor,
        "share of observations with half of their outputs at the lower bound, where it adds noise of a quarter "
        "of their own standard deviation or more; 0.2 if the reward does so", 0.1, 0.4,
    ),
    Signature(
        "miscalibration", "Predicted and actual errors disagree", _miscalibrated,
        "share of dimensions whose predicted standard deviation is off by a factor of two, where either is at least a "
        "tenth of the dimension's own", 0.1, 0.4,
    ),
    Signature(
        "target-mismatch", "The other target would err less", _wrong_carry,
        "share of observations on which predicting the increment instead of the value, or the value instead of the "
        "increment, leaves at least 5 % less error", 0.25, 0.6,
    ),
    Signature(
        "noise-like-sensors", "Sensors look like noise", lambda m, arm: m.share(noise_like(m)),
        "share of observations whose next value does not depend on this one (carry below 0.1) and whose increments "
        "vary more than they do; a property of the data", 0.05, 0.3, of_data=True, decides=False,
    ),
)  # fmt: skip
LEVELS = ("none", "mild", "severe")


def judge(signature: Signature, m: Measured, arm: str) -> dict[str, Any]:
    """Median and range over seeds, and the severity: None where it cannot be judged."""
    if signature.of_reward and not m.varies[-1]:
        return {"severity": None, "value": None, "interval": None, "seeds": [], "why": "the reward does not vary"}
    values = signature.measure(m, arm)
    if not signature.of_data and not np.isfinite(m.error(arm)).all():
        values = np.full(len(m.signal), np.nan)
    finite = np.isfinite(values).all()
    return {
        "value": float(np.median(values)),
        "interval": [float(values.min()), float(values.max())],
        "seeds": [float(value) for value in values],
        "severity": _severity(signature, values, m, arm) if finite else None,
        "why": "" if finite else "the fit diverged",
    }


def _severity(signature: Signature, values: Array, m: Measured, arm: str) -> str:
    if signature.applies is not None and not signature.applies(m, arm).all():
        return "none"
    sign = -1 if signature.below else 1
    worst = [level for level, bound in (("mild", signature.mild), ("severe", signature.severe))
             if (sign * values > sign * bound).all()]  # fmt: skip
    return worst[-1] if worst else "none"
