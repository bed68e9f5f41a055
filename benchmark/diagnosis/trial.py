"""Whether the advice holds: the advised arm and the default one trained for a few minutes, side by side.

Both have the same small constants, the advised one its settings on top. Returns are in the units of the task as it is,
so a multiplied reward is divided again. Three seeds a side decide only what is plain: the advice held if every seed
with it ends above every seed without, which happens once in twenty trials by chance alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmark.adjusted import original
from benchmark.records.spec import RunSpec
from benchmark.records.store import RETURN, Record, Store
from benchmark.running.cost import CPU, hours
from benchmark.running.outcome import final_return
from benchmark.suite.load import load_suite, specs
from benchmark.suite.settings import with_settings
from benchmark.words import number
from mbpo.config import InputError
from mbpo.envs import EnvBatch

PROTOCOL, DEFAULT = "quick", "mbpo"
CONSTANTS: Mapping[str, Any] = {
    "utd": 5,
    "sac.batch_size": 64,
    "model.updates": 300,
    "model.batch_size": 128,
    "rollout.per_step": 50,
}
"""On top of the quick protocol's."""
SEEDS, MINUTES = 3, 4
LENGTHS = (3_000, 2_500, 2_000, 1_500, 1_000)
"""Env steps of training: the longest that fits the minutes is taken."""
WITHOUT, WITH, FREE = f"{DEFAULT} as it is", "as advised", "sac, no model"
EPISODES = 20
"""Of random actions, to compare with."""
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Trial:
    """The runs of each side, and the factor by which each side's returns are divided."""

    arms: Mapping[str, tuple[RunSpec, ...]]
    factors: Mapping[str, float]

    @property
    def specs(self) -> list[RunSpec]:
        """All runs."""
        return [spec for group in self.arms.values() for spec in group]

    @property
    def steps(self) -> int:
        """Env steps of each."""
        return self.specs[0].length

    @property
    def changes(self) -> bool:
        """Whether the advice changes anything at all."""
        return [s.key for s in self.arms[WITHOUT]] != [s.key for s in self.arms[WITH]]


def plan(
    task: str,
    drop: Sequence[str],
    advice: Mapping[str, Any],
    minutes: float = MINUTES,
    seeds: int = SEEDS,
    constants: Mapping[str, Any] = CONSTANTS,
    steps: int | None = None,
) -> Trial:
    """The runs to compare, as long as fit into `minutes` by a fixed estimate for one core.

    Raises `InputError` where not even the shortest does.
    """
    for length in (steps,) if steps else LENGTHS:
        trial = _plan(task, drop, advice, length, seeds, constants)
        if steps or 60 * hours(trial.specs, CPU) <= minutes:
            return trial
    least = 60 * hours(trial.specs, CPU)
    raise InputError(f"--check-minutes {minutes}: the shortest comparison takes about {least:.0f}; give so many")


def _plan(
    task: str, drop: Sequence[str], advice: Mapping[str, Any], steps: int, seeds: int, constants: Mapping[str, Any]
) -> Trial:
    def group(task: str, drop: Sequence[str], arm: str, settings: Mapping[str, Any]) -> tuple[RunSpec, ...]:
        own = load_suite().methods[arm].constants
        small = {path: value for path, value in settings.items() if path not in own}
        if "model" in own:
            small = {path: value for path, value in small.items() if path.split(".")[0] not in ("model", "rollout")}
        page = with_settings(load_suite().protocol(PROTOCOL), "train", small, [arm])
        page = page.model_copy(update={"train": page.train.model_copy(update={"env_steps": steps})})
        return tuple(specs("train", [task], [arm], page, seeds, drop=drop))

    _, changed = original(advice["task"])
    _, before = original(task)
    arms = {
        WITHOUT: group(task, drop, DEFAULT, constants),
        WITH: group(advice["task"], advice["drop"], advice["arm"], {**constants, **advice["settings"]}),
        FREE: group(task, drop, "sac", constants),
    }
    factor = changed.get("reward", 1.0) / before.get("reward", 1.0)
    return Trial(arms, {WITHOUT: 1.0, WITH: factor, FREE: 1.0})


def outcome(trial: Trial, store: Store) -> dict[str, Any]:
    """What came of it, ready for JSON: curves, final returns, and a sentence."""
    first = trial.arms[WITHOUT][0]
    by_chance = random_returns(first.task, first.drop)
    records = {name: [store.read(spec) for spec in group] for name, group in trial.arms.items()}
    arms = {name: _arm(found, trial.factors[name]) for name, found in records.items()}
    return {
        "env_steps": trial.steps,
        "seeds": len(trial.arms[WITHOUT]),
        "constants": {**CONSTANTS},
        "random": {"mean": float(np.mean(by_chance)), "spread": float(np.std(by_chance))},
        "arms": arms,
        "keys": {name: [spec.key for spec in group] for name, group in trial.arms.items()},
        **verdict(arms[WITHOUT]["final"], arms[WITH]["final"], by_chance, trial.changes),
    }


def _arm(records: Sequence[Record], factor: float) -> dict[str, Any]:
    curves = [record.curve.groupby("env_steps")[RETURN].mean() / factor for record in records]
    table = pd.concat(curves, axis=1)
    return {
        "final": [final_return(record) / factor for record in records],
        "env_steps": [int(step) for step in table.index],
        "curves": [table.iloc[:, i].tolist() for i in range(table.shape[1])],
    }


def verdict(
    without: Sequence[float], advised: Sequence[float], by_chance: Sequence[float], changes: bool
) -> dict[str, Any]:
    """Whether the advice held, by final returns per seed, with the sentence that says so."""
    usual, wide = float(np.mean(by_chance)), float(np.std(by_chance))
    learned = bool(np.mean(advised) > usual + wide)
    level = f"random actions return {number(usual)}"
    if not changes:
        held = learned
        words = (
            f"The advice is to change nothing, and {DEFAULT} as it is "
            f"{'learns' if learned else 'learned nothing that shows in so few steps'}: "
            f"{number(float(np.mean(without)))}, "
            f"{level}."
        )
    elif min(advised) > max(without):
        held = True
        words = (
            f"The advice held: every seed with it ended above every seed without ({_means(without, advised)}; {level})."
        )
    elif max(advised) < min(without):
        held = False
        words = (
            f"The advice did not hold: every seed with it ended below every seed without ({_means(without, advised)})."
        )
    else:
        held = None
        words = f"Open: the seeds with and without the advice overlap ({_means(without, advised)}; {level})."
        words += " Both learned." if learned and np.mean(without) > usual + wide else ""
    return {"held": held, "learned": learned, "sentence": words}


def _means(without: Sequence[float], advised: Sequence[float]) -> str:
    return f"{number(float(np.mean(advised)))} against {number(float(np.mean(without)))} on average"


def random_returns(task: str, drop: Sequence[str] = (), episodes: int = EPISODES) -> list[float]:
    """Returns of whole episodes of uniformly random actions."""
    envs = EnvBatch(task, 1, drop)
    rng, returns = np.random.default_rng(0), []
    try:
        for seed in range(episodes):
            envs.reset([10_000 + seed])
            total, over = 0.0, False
            while not over:
                _, reward, terminated, truncated = envs.step(rng.uniform(-1, 1, (1, envs.info.action_dim)))
                total, over = total + float(reward[0]), bool(terminated[0] or truncated[0])
            returns.append(total)
    finally:
        envs.close()
    return returns


def lines(check: Mapping[str, Any]) -> list[str]:
    """The outcome for a terminal: a curve, the mean and the seeds of each side."""
    constants = ", ".join(f"{name} {value}" for name, value in check["constants"].items())
    text = [f"checked by training: {check['seeds']} seeds a side, {check['env_steps']:,} env steps, {constants}"]
    curves = {name: np.mean(arm["curves"], axis=0) for name, arm in check["arms"].items()}
    low, high = (float(f([f(curve) for curve in curves.values()])) for f in (np.min, np.max))
    for name, arm in check["arms"].items():
        seeds = ", ".join(number(value) for value in arm["final"])
        text.append(f"  {name:<15} {bars(curves[name], low, high)}  {number(float(np.mean(arm['final'])))}  ({seeds})")
    text.append(f"  {'random actions':<15} {' ' * len(next(iter(curves.values())))}  {number(check['random']['mean'])}")
    return [*text, check["sentence"]]


def bars(curve: Sequence[float] | np.ndarray, low: float, high: float) -> str:
    """A curve as a row of bars, from the least to the largest value of all curves."""
    if not high > low:
        return BARS[0] * len(curve)
    return "".join(BARS[round((len(BARS) - 1) * (float(value) - low) / (high - low))] for value in curve)
