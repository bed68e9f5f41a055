"""From signatures, errors and obstacles to one arm and the settings that it should learn with.

The arm is the one with the fewest changes among those whose model fails the least; the settings are what stands between
reward and policy asks for. Both come with the command that applies them.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmark.adjusted import adjusted
from benchmark.diagnosis.evidence import Evidence
from benchmark.diagnosis.obstacles import NOTHING, Change
from benchmark.diagnosis.regress import unexplained
from benchmark.diagnosis.samples import Sample
from benchmark.diagnosis.signatures import LEVELS, RELEVANT, SIGNATURES, Measured, noise_like
from benchmark.suite.load import load_suite
from benchmark.suite.settings import written
from mbpo.envs import task_info
from mbpo.envs.tasks import OWN, kept_columns

PAYS = 0.05
"""Relative difference of raw errors that counts, if all seeds show it."""
RESIDUAL, DIRECT = "norm-only", "ftfl"
"""The pair that differs in the carry alone."""
WORDS: Mapping[str, str] = {
    "mbpo": "the model learns how observations change, with targets as they are",
    "reward-norm": "rewards are divided by their own spread before the model learns them, observations are not",
    "norm-only": "rewards and changes of observations are divided by their own spread before the model learns them",
    "direct-only": "the model learns the next observation itself instead of how it changes",
    "fitted": "targets are divided by their own spread, and each observation is carried over as far as the data say",
    "ftfl": "the model learns the next observation itself, and all targets are divided by their own spread",
}
"""What each arm does, for a reader who has not read the paper."""
UNTOLD = 0.8
"""Share of its own standard deviation by which every arm must err on a sensor that is left out."""
USELESS = 0.02
"""Share of any other output's variance that such a sensor may explain."""


def recommend(
    sample: Sample, m: Measured, arms: Mapping[str, Mapping[str, Any]], change: Change = NOTHING
) -> dict[str, Any]:
    """One arm for the task and what to set beside it, and the better target of each group and dimension, with evidence.

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
    noisy, drop = _noisy(sample, m)
    task = adjusted(sample.info.id, **change.adjust)
    return {
        "arm": arm,
        "normalize": target.normalize,
        "predict": target.predict,
        "words": WORDS[arm],
        "changes": list(change.sentences),
        "settings": dict(change.settings),
        "drop": [*sample.info.drop, *drop],
        "task": task,
        "adjust": dict(change.adjust),
        "command": command(task, arm, [*sample.info.drop, *drop], change.settings),
        "clean": all(sign["severity"] == "none" for sign in arms[first].values()) and not change.sentences,
        "burden": burden,
        "by_group": groups,
        "by_dimension": dimensions,
        "evidence": [*_evidence(m, arms, burden, arm, groups), *noisy],
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


def command(task: str, arm: str, drop: Sequence[str], settings: Mapping[str, Any], verb: str = "run") -> str:
    """The command line that trains `arm` as advised, quoted for a shell."""
    words = ["python", "-m", "benchmark", verb, "--task", task, "--method", arm]
    words += [word for name in drop for word in ("--drop", name)] + written(settings)
    return shlex.join(words)


def _noisy(sample: Sample, m: Measured) -> tuple[list[str], list[str]]:
    """Sentences on observations that are noise, and which of them to leave out, as `--drop` takes them."""
    noise = noise_like(m).all(0) & m.varies[:-1]
    useless = noise & (m.least_error()[:, :-1] > UNTOLD * m.spread[:, :-1]).all(0)
    useless &= _says_nothing(sample, useless)
    lines, drop = [], []
    for name, dims in sample.groups.items():
        count, out = int(noise[dims].sum()), [i for i in dims if useless[i]]
        if not count:
            continue
        whole = count == len(dims)
        line = f"{name} looks like noise in {f'all of its {count}' if whole else f'{count} of {len(dims)}'} dimensions"
        ranges = [name] if whole and len(out) == len(dims) < len(noise) else _ranges(sample, out)
        if not out or len(ranges) > 8 or useless.all():
            lines.append(f"{line}; nothing can be foreseen from it." if whole else f"{line}.")
        elif sample.info.termination == OWN:
            some = ", ".join(sample.names[i] for i in out[:8])
            lines.append(f"{line}; leave these out of the environment's observation: {some}.")
        else:
            drop += ranges
            lines.append(f"{line}; leave these out: {' '.join(f'--drop {part}' for part in ranges)}.")
    return lines, drop


def _says_nothing(sample: Sample, which: np.ndarray) -> bool:
    """Whether the observations `which (O,)` together tell nothing of the others' next values, or of the reward."""
    if not which.any() or which.all():
        return False
    gains = []
    for seed in range(len(sample.train)):
        parts = [Evidence.part_of(sample, seed, name) for name in ("train", "held")]
        outputs = [part.effects(np.append(~which & sample.varies[:-1], sample.varies[-1])) for part in parts]
        if not outputs[0].shape[1]:
            return False
        with_all, without = (
            unexplained(*(np.concatenate([part.obs[:, kept], part.action], 1) for part in parts), *outputs)
            for kept in (np.ones_like(which), ~which)
        )
        gains.append(without - with_all)
    return bool((np.min(gains, axis=0) < USELESS).all())


def _ranges(sample: Sample, dims: Sequence[int]) -> list[str]:
    """Dimensions of the rows as ranges of the whole flat observation: ['3:7', '9']."""
    whole = kept_columns(task_info(sample.info.id).groups, sample.info.drop)
    columns = [whole[sample.columns[i]] for i in dims]
    ranges: list[list[int]] = []
    for column in columns:
        if ranges and ranges[-1][1] == column:
            ranges[-1][1] = column + 1
        else:
            ranges.append([column, column + 1])
    return [f"{start}:{stop}" if stop > start + 1 else str(start) for start, stop in ranges]


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
