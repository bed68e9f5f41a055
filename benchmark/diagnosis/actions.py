"""Whether actions act, and within which part of their bounds: what one step does beyond what the state tells."""

from __future__ import annotations

import numpy as np

from benchmark.diagnosis.evidence import Evidence, Obstacle, judged
from benchmark.diagnosis.regress import residuals
from benchmark.words import number

CLIPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
"""Factors by which an action is widened and clipped, to see where it saturates."""


def wide_actions(e: Evidence) -> Obstacle:
    """Only a small part of an action's bounds does anything more."""
    parts = np.stack([_saturation(e, s) for s in range(len(e.reward))])  # (S, A)
    sign = judged(
        "wide-actions", "Actions saturate inside their bounds",
        "how many times wider an action's bounds are than the part beyond which it does no more; the action of which "
        "all seeds say most", parts[:, parts.min(0).argmax()], 3.0, 10.0,
    )  # fmt: skip
    if sign.quiet:
        return sign
    dim, all_of_them = int(parts.min(0).argmax()), bool((parts.min(0) >= 3.0).all())
    middles = np.median(parts, axis=0)
    factor = 1.0 / float(middles.min() if all_of_them else middles[dim])
    low, high = e.bounds
    middle, half = (high[dim] + low[dim]) / 2, factor * (high[dim] - low[dim]) / 2
    change = (
        f"Action {dim} does no more beyond about {number(float(middle - half))} to {number(float(middle + half))}, "
        "and its "
        f"bounds are {number(float(low[dim]))} to {number(float(high[dim]))}: nearly all that is tried is an "
        "extreme. Give "
        f"its Box bounds that are {1 / factor:g} times narrower, and diagnose again."
    )
    return sign.advise(change, adjust={"actions": factor} if all_of_them else {})


def _saturation(e: Evidence, s: int) -> np.ndarray:
    """By how much each action ``(A,)`` may be widened and clipped and still explain as much; 1 for not at all."""
    train, held = e.part(s, "train"), e.part(s, "held")
    left = residuals(train.obs, held.obs, train.effects(e.varies), held.effects(e.varies))
    factors = np.ones(train.action.shape[1])
    for dim in range(len(factors)):
        explained = np.stack(
            [_by_one(train.action[:, dim], held.action[:, dim], left, factor) for factor in CLIPS]
        )  # (K, D)
        of = int(explained.max(0).argmax())
        scores = explained[:, of]
        if scores.max() > 0.02 and scores.max() > 1.05 * scores[0]:
            factors[dim] = CLIPS[int(np.flatnonzero(scores >= 0.995 * scores.max())[0])]
    return factors


def _by_one(train: np.ndarray, held: np.ndarray, left: tuple[np.ndarray, np.ndarray], factor: float) -> np.ndarray:
    """Share ``(D,)`` of held-out residuals explained by one action, widened by `factor` and clipped, and its square."""
    a, b = (np.clip(factor * x, -1, 1) for x in (train, held))
    x, y = (np.stack([np.ones_like(c), c, c * c], 1) for c in (a, b))
    weights, *_ = np.linalg.lstsq(x, left[0], rcond=None)
    variance = np.square(left[1]).mean(0)
    open_ = variance > 1e-9 * variance.max()  # of what never changes nothing is explained
    shares = 1 - np.square(left[1] - y @ weights).mean(0) / np.where(open_, variance, 1.0)
    return np.where(open_, shares, 0.0)


def idle_actions(e: Evidence) -> Obstacle:
    """An action changes nothing that is observed or paid."""
    shares = np.stack([_effect(e, s) for s in range(len(e.reward))])  # (S, A)
    dim = int(shares.max(0).argmin())
    sign = judged(
        "idle-actions", "Actions do nothing",
        "share of what the observations leave open, in the output that shows most of it, that the least of the actions "
        "explains at once",
        shares[:, dim], 0.003, 0.001, below=True,
    )  # fmt: skip
    if sign.quiet:
        return sign
    return sign.advise(
        f"Action {dim} changes nothing at once that is observed or paid. See that its bounds are those that the "
        "environment acts on, and that it is connected at all."
    )


def _effect(e: Evidence, s: int) -> np.ndarray:
    """The most that each action explains of any output, beyond chance ``(A,)``."""
    train, held = e.part(s, "train"), e.part(s, "held")
    left = residuals(train.obs, held.obs, train.effects(e.varies), held.effects(e.varies))
    best = []
    for dim in range(train.action.shape[1]):
        best.append(max(_by_one(train.action[:, dim], held.action[:, dim], left, factor).max() for factor in (1, 32)))
    return np.array(best)
