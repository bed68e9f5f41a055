"""Whether what came before tells of the next step what the present observation does not: then it is no state.

Actions that act late, and quantities that are not observed, such as speeds, both show so.
"""

from __future__ import annotations

import numpy as np

from benchmark.diagnosis.evidence import Evidence, Obstacle, Part, judged
from benchmark.diagnosis.regress import unexplained, with_past

MILD, SEVERE = 0.4, 0.7
LEFT = 0.01
"""Share of an output's variance that must be left open by the present for the past to matter."""
CANDIDATES: tuple[tuple[str, int], ...] = (
    *(("past_actions", n) for n in (1, 2, 3, 4)),
    *(("past", n) for n in (1, 2)),
)
"""What could be observed too, by the names of `benchmark.adjusted`, the least first."""
NEAR, NEARLY = 1.15, 0.05
"""Times the least error, plus this share of the error without, that a smaller addition may have."""
WORDS = {
    "past_actions": "the last {n} actions (the present action acts late)",
    "past": "the last {n} observations and actions (something that matters is not observed, such as a speed)",
}


def hidden_state(e: Evidence) -> Obstacle:
    """The past tells of the next step what the present does not."""
    title = "Observations leave out what matters"
    meaning = (
        "share of what the present observation and action leave open of a step, in held-out rows, that earlier ones "
        "explain; mean over the outputs that are left open at all"
    )
    if not e.ordered:
        return judged("hidden-state", title, meaning, np.zeros(1), MILD, SEVERE, known=False)
    errors = np.stack([_errors(e, s) for s in range(len(e.sample.train))])  # (S, 1 + candidates)
    gains = 1 - errors[:, 1:].min(1) / np.maximum(errors[:, 0], 1e-12)
    sign = judged("hidden-state", title, meaning, np.where(errors[:, 0] > 0, gains, 0.0), MILD, SEVERE)
    if sign.quiet:
        return sign
    mean = errors.mean(0)
    near = mean[1:] <= NEAR * mean[1:].min() + NEARLY * mean[0]
    name, n = CANDIDATES[int(np.flatnonzero(near)[0])]
    what = WORDS[name].format(n=n).replace("the last 1 actions", "the last action")
    what = what.replace("the last 1 observations and actions", "the last observation and action")
    return sign.advise(
        f"What happens next depends on the past as well: {100 * (sign.value or 0):.0f} % of what observation and "
        "action "
        f"leave open. Add to the observation {what}.",
        adjust={name: n},
    )


def _errors(e: Evidence, seed: int) -> np.ndarray:
    """Mean unexplained share with the present alone and with each candidate ``(1 + candidates,)``; 0 for none."""
    parts = [e.part(seed, "train"), e.part(seed, "held")]
    outputs = [part.effects(e.varies)[_aged(part)] for part in parts]
    now = [np.concatenate([part.obs, part.action], 1)[_aged(part)] for part in parts]
    base = unexplained(now[0], now[1], *outputs).clip(max=1.0)  # a constant guess leaves 1
    counted = np.flatnonzero((base > LEFT) & ~_noise(parts[0], e))
    if not len(counted):
        return np.zeros(1 + len(CANDIDATES))
    shares = [base]
    for name, n in CANDIDATES:
        more = [_earlier(part, name, n)[_aged(part)] for part in parts]
        columns = [np.concatenate([a, b], 1) for a, b in zip(now, more, strict=True)]
        shares.append(unexplained(columns[0], columns[1], *outputs).clip(max=1.0))
    return np.array([share[counted].mean() for share in shares])


def _aged(part: Part) -> np.ndarray:
    """The rows that have as much past as any candidate asks for ``(N,)``."""
    most = max(n for _, n in CANDIDATES)
    return with_past([part.action] * most, part.starts, range(1, most + 1))[1]


def _earlier(part: Part, name: str, n: int) -> np.ndarray:
    columns = part.action if name == "past_actions" else np.concatenate([part.obs, part.action], 1)
    return with_past([columns] * n, part.starts, range(1, n + 1))[0]


def _noise(part: Part, e: Evidence) -> np.ndarray:
    """Which outputs are of white noise ``(D,)``: of them the past tells nothing, and all is open."""
    obs, after = part.obs[:, e.varies[:-1]], part.next_obs[:, e.varies[:-1]]
    a, b = obs - obs.mean(0), after - after.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        carry = np.nan_to_num((a * b).mean(0) / np.square(a).mean(0))
        ratio = np.square(after - obs).mean(0) / np.square(b).mean(0)
    noise = (np.abs(carry) < 0.1) & (ratio > 1.5)
    return np.append(noise, False) if e.varies[-1] else noise
