"""A sample as the obstacles read it, and what each of them says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from benchmark.diagnosis.samples import Sample
from mbpo.config import Method
from mbpo.envs import make_env

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Part:
    """Rows of one seed, training or held-out: ``obs, next_obs (N, O)``, ``action (N, A)``, ``reward, starts (N,)``."""

    obs: Array
    action: Array
    next_obs: Array
    reward: Array
    starts: Array

    def effects(self, varies: Array) -> Array:
        """What a step does: the increments that vary, and the reward ``(N, D)``."""
        moved = (self.next_obs - self.obs)[:, varies[:-1]]
        return np.concatenate([moved, self.reward[:, None]], axis=1) if varies[-1] else moved


@dataclass(frozen=True)
class Evidence:
    """The rows of a sample in double precision, and the constants that a learner would have on its task."""

    sample: Sample
    method: Method

    @property
    def obs(self) -> Array:
        """Of the training rows ``(S, N, O)``."""
        return self.sample.train[..., : len(self.sample.columns)].astype(np.float64)

    @property
    def reward(self) -> Array:
        """``(S, N)``."""
        return self.sample.train[..., -2].astype(np.float64)

    @property
    def mask(self) -> Array:
        """0 where a step ended the episode ``(S, N)``."""
        return self.sample.train[..., -1]

    @property
    def starts(self) -> Array:
        """Whether a row is the first of its episode ``(S, N)``."""
        return np.stack([self.part(s, "train").starts for s in range(len(self.sample.train))])

    @property
    def varies(self) -> Array:
        """Which outputs vary ``(O + 1,)``."""
        return self.sample.varies

    @property
    def paid(self) -> bool:
        """Whether the reward varies at all."""
        return bool(self.sample.varies[-1])

    @property
    def ordered(self) -> bool:
        """Whether rows follow one another as they were lived."""
        return bool(self.starts.mean() < 0.5)

    @property
    def horizon(self) -> float:
        """Steps that the discount looks ahead."""
        return min(1.0 / max(1.0 - self.method.sac.discount, 1e-6), 1e6)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Of the environment's own actions ``(A,), (A,)``."""
        env = make_env(self.sample.info.id)
        try:
            box: Any = env.env.action_space
            return box.low.ravel(), box.high.ravel()
        finally:
            env.close()

    def part(self, seed: int, which: Literal["train", "held"]) -> Part:
        """The rows of one seed."""
        return self.part_of(self.sample, seed, which)

    @staticmethod
    def part_of(sample: Sample, seed: int, which: str) -> Part:
        """The rows of one seed of `sample`, 'train' or 'held'."""
        rows = getattr(sample, which)[seed].astype(np.float64)
        layout = sample.layout
        o, a = layout.obs_dim, layout.action_dim
        obs, action, next_obs = rows[:, :o], rows[:, o : o + a], rows[:, o + a : 2 * o + a]
        follows = (obs[1:] == next_obs[:-1]).all(1) & (rows[:-1, -1] != 0)
        return Part(obs, action, next_obs, rows[:, -2], np.concatenate([[True], ~follows]))


@dataclass(frozen=True)
class Obstacle:
    """One sign, judged, and what to change: constants, changes of the task, and the words for both."""

    id: str
    title: str
    meaning: str
    mild: float
    severe: float
    value: float | None
    seeds: tuple[float, ...]
    severity: str | None
    why: str = ""
    change: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    adjust: Mapping[str, float] = field(default_factory=dict)

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to say of it."""
        return self.severity in (None, "none")

    def advise(
        self, change: str, settings: Mapping[str, Any] | None = None, adjust: Mapping[str, float] | None = None
    ) -> Obstacle:
        """The same with what to change."""
        return replace(self, change=change, settings=settings or {}, adjust=adjust or {})

    def not_judged(self, why: str) -> Obstacle:
        """The same without a severity."""
        return replace(self, severity=None, why=why, change="", settings={}, adjust={})

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON knows them."""
        return {**vars(self), "seeds": list(self.seeds), "settings": dict(self.settings), "adjust": dict(self.adjust)}


def judged(
    id: str,
    title: str,
    meaning: str,
    values: Array,
    mild: float,
    severe: float,
    known: bool = True,
    below: bool = False,
) -> Obstacle:
    """A sign from its value in every seed ``(S,)``; `known` False where it cannot be judged."""
    values = np.asarray(values, np.float64)
    if not known or not np.isfinite(values).all():
        return Obstacle(id, title, meaning, mild, severe, None, (), None, "nothing to judge it by")
    beyond = [level for level, bound in (("mild", mild), ("severe", severe))
              if (values <= bound if below else values >= bound).all()]  # fmt: skip
    middle = float(np.median(values))
    return Obstacle(
        id, title, meaning, mild, severe, middle, tuple(map(float, values)), beyond[-1] if beyond else "none"
    )


def rounded(value: float) -> float:
    """The value to one significant digit, 1, 2 or 5."""
    if value <= 0 or not math.isfinite(value):
        return value
    power = math.floor(math.log10(value))
    digit = min((1, 2, 5, 10), key=lambda d: abs(math.log(value / (d * 10.0**power))))
    return float(f"{digit * 10.0**power:.1g}")
