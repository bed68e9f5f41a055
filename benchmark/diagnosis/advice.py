"""From signatures and errors to one arm: the fewest changes among those that fail the least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.diagnosis.samples import Sample
from benchmark.diagnosis.signatures import LEVELS, RELEVANT, SIGNATURES, Measured, noise_like
from benchmark.suite.load import load_suite

PAYS = 0.05
"""Relative difference of raw errors that counts, if all seeds show it."""
RESIDUAL, DIRECT = "norm-only", "ftfl"
"""The pair that differs in the carry alone."""


def recommend(sample: Sample, m: Measured, arms: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One arm for the task, and the better target of each group and dimension, with the evidence.

    An arm's burden is the sum of its signatures' severities, mild 1 and severe 2, less those that do not decide. Of the
    arms of least burden, those that every seed shows worse than another of them are left; the first of the rest, in the
    order of `arms` (fewest changes first), is recommended. The first arm is kept whenever its burden is 0.
    """
    burden = {arm: _burden(signs) for arm, signs in arms.items()}
    first = next(iter(arms))
    least = min(burden.values())
    tied = [arm for arm in arms if burden[arm] == least]
    arm = first if burden[first] == least == 0 else _not_worse(m, tied)[0]
    target = load_suite().method(arm, sample.info.id, kind="fit").target
    groups = {name: _carry(m, dims) for name, dims in sample.groups.items()}
    dimensions = [{"name": name, **_carry(m, [i])} for i, name in enumerate(sample.names)]
    return {
        "arm": arm,
        "normalize": target.normalize,
        "predict": target.predict,
        "clean": all(sign["severity"] == "none" for sign in arms[first].values()),
        "burden": burden,
        "by_group": groups,
        "by_dimension": dimensions,
        "evidence": [*_evidence(m, arms, burden, arm, groups), *_noisy(sample, m)],
    }


def _burden(signs: Mapping[str, Any]) -> int:
    decisive = [signs[sign.id]["severity"] for sign in SIGNATURES if sign.decides]
    return sum(LEVELS.index(level) for level in decisive if level is not None) + 2 * len(_diverged(signs))


def _diverged(signs: Mapping[str, Any]) -> list[str]:
    return [name for name, sign in signs.items() if sign["severity"] is None and sign["interval"] is not None]


def _not_worse(m: Measured, arms: Sequence[str]) -> list[str]:
    """The arms that no other beats in every seed, in mean log error of observations or in R2 of the reward."""
    kept = []
    for arm in arms:
        beaten = any(
            (_log_ratio(m, arm, other, np.flatnonzero(m.varies[:-1])) > PAYS).all()
            or (m.varies[-1] and (m.of(other, "reward_r2") - m.of(arm, "reward_r2") > PAYS).all())
            for other in arms
        )
        if not beaten:
            kept.append(arm)
    return kept or list(arms)


def _log_ratio(m: Measured, arm: str, other: str, dims: Sequence[int] | np.ndarray) -> np.ndarray:
    """Mean over dimensions of log (error of `arm` / error of `other`), ``(S,)``.

    Errors below a thousandth of the signal count as equal.
    """
    dims = np.asarray([i for i in dims if m.varies[i]], int)
    if not len(dims):
        return np.zeros(len(m.signal))
    least = 1e-3 * m.signal[:, dims]
    one, two = (np.maximum(m.error(name)[:, dims], least) for name in (arm, other))
    return np.asarray(np.log(one / two).mean(1))


def _carry(m: Measured, dims: Sequence[int]) -> dict[str, Any]:
    """Which target errs less on these dimensions, in the environment's units, and by how much."""
    varying = [i for i in dims if m.varies[i]]
    if not varying:
        return {"predict": None, "error_ratio": None, "interval": None}
    ratios = np.exp(_log_ratio(m, DIRECT, RESIDUAL, varying))
    matters = bool((np.maximum(m.error(DIRECT), m.error(RESIDUAL)) > RELEVANT * m.signal)[:, varying].any())
    predict = "either"
    if matters and (ratios < 1 - PAYS).all():
        predict = "next_obs"
    elif matters and (ratios > 1 + PAYS).all():
        predict = "delta"
    interval = [float(ratios.min()), float(ratios.max())]
    return {"predict": predict, "error_ratio": float(np.median(ratios)), "interval": interval}


def _noisy(sample: Sample, m: Measured) -> list[str]:
    """Which groups are noise, in part or whole."""
    noise = noise_like(m).all(0) & m.varies[:-1]
    lines = []
    for name, dims in sample.groups.items():
        count = int(noise[dims].sum())
        if count == len(dims):
            mend = f"try --drop {name}" if len(sample.groups) > 1 else "nothing can be foreseen from it"
            lines.append(f"{name} looks like noise in all of its {count} dimensions; {mend}.")
        elif count:
            lines.append(f"{name} looks like noise in {count} of {len(dims)} dimensions.")
    return lines


def _evidence(
    m: Measured,
    arms: Mapping[str, Mapping[str, Any]],
    burden: Mapping[str, int],
    arm: str,
    groups: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """The reasons, a sentence each."""
    first = next(iter(arms))
    lines = []
    for sign in SIGNATURES:
        before, after = arms[first][sign.id], arms[arm][sign.id]
        if before["severity"] not in (None, "none") and sign.decides:
            line = f"{sign.title}: {before['severity']} for {first} ({_short(before['value'])})"
            lines.append(
                line + (f", {after['severity']} for {arm} ({_short(after['value'])})." if arm != first else ".")
            )
    if arm == first and burden[first] == 0:
        lines.append(f"No signature of {first} that decides is mild or severe: nothing has to be switched on.")
    elif burden[arm]:
        lines.append(f"{arm} is the least burdened arm, not a clean one: {burden[arm]} against {burden[first]}.")
    better = {p: [n for n, g in groups.items() if g["predict"] == p] for p in ("delta", "next_obs")}
    for predict, names in better.items():
        if names:
            words = "the increment" if predict == "delta" else "the next observation"
            lines.append(f"With normalized targets, predicting {words} errs less on {', '.join(names)}.")
    if all(better.values()):
        lines.append("No single carry suits all groups: predict = 'fitted' finds one for each dimension.")
    if m.varies[-1] and arms[first]["reward-collapse"]["severity"] in (None, "none"):
        held_out = [
            f"{_short(float(np.median(m.of(name, 'reward_r2'))))} for {name}" for name in dict.fromkeys([first, arm])
        ]
        lines.append(f"Held-out reward R2: {', '.join(held_out)}.")
    return lines


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
