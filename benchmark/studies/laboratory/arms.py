"""The arms of the laboratory: the whole chain, the chain less one link, and one link without the others.

The chain as it was suspected: synthetic next states lie off the data; critics bootstrap there, where no row trains
them; the actor, which reads large observations, saturates there; its entropy falls below the target; the temperature
winds up; the soft value follows. `CHAIN` has every link, each of `ENDED` takes one out, each of `ALONE` has exact next
states and forces one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from benchmark.studies.laboratory.system import Springs
from mbpo.config import SacConfig

SYSTEM = Springs()
BATCH = 64
EPISODES, STEPS = 100, 100
"""Of the random policy's data."""
START_TEMPERATURE = 0.1
TARGET = -0.5 * SYSTEM.masses
"""Target entropy in nats: the paper's family, -|A| / 2."""
KNOWN_TEMPERATURE = SYSTEM.temperature(TARGET)


@dataclass(frozen=True)
class Arm:
    """One arm: what its synthetic rows are, and what its learner is."""

    name: str
    words: str
    displacement: float = 3.0
    """Noise of synthetic next states, in standard deviations of the data, a dimension."""
    displaced_starts: bool = False
    """Whether half of the synthetic rows start at displaced states, so that critics and actor are trained there."""
    clip: bool = False
    """Whether next states are clipped to the range of the data."""
    obs_scale: float = 30.0
    """Of the observations that the learner reads; the system does not see it."""
    real_rows: int = 4
    """Of 64 in a batch."""
    soft: bool = True
    """Whether the critics' target holds the entropy of the next action."""
    pessimist: bool = True
    """Whether that target holds the lesser of two critics, or their mean."""
    own_action: bool = True
    """Whether the next action in that target is the policy's, or uniformly random."""
    reward: bool = True
    """Whether anything is paid."""
    sac: Mapping[str, Any] = field(default_factory=dict)
    """Changes to the learner's constants."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sac", MappingProxyType(dict(self.sac)))

    @property
    def form(self) -> str:
        """8 hex digits of all that makes the arm but its name and words."""
        made = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("name", "words")}
        return hashlib.sha256(repr({**made, "sac": dict(self.sac)}).encode()).hexdigest()[:8]


HEALTHY = Arm("exact", "exact next states", displacement=0.0)
CHAIN = Arm("chain", "all links: next states displaced by 3 standard deviations")
ENDED = (
    Arm("near", "displaced by 1 standard deviation instead of 3", displacement=1.0),
    Arm("clipped", "next states clipped to the range of the data", clip=True),
    Arm("trained-there", "half of the rows start at displaced states", displaced_starts=True),
    Arm("z-scored", "observations of unit scale", obs_scale=1 / 0.35),
    Arm("half-real", "half of each batch real", real_rows=32),
    Arm("layer-norm", "critics with layer normalization", sac={"critic_norm": "layer"}),
    Arm("bounded-mean", "mean before tanh bounded to 1", sac={"mean_bound": 1.0}),
    Arm("std-floor", "log std at least -2", sac={"min_log_std": -2.0}),
    Arm("unsaturated", "both: mean bounded to 1, log std at least -2", sac={"mean_bound": 1.0, "min_log_std": -2.0}),
    Arm("fixed-alpha", "temperature fixed at its known value",
        sac={"temperature": "fixed", "init_temperature": KNOWN_TEMPERATURE}),
    Arm("capped-alpha", "temperature at most 0.1", sac={"max_temperature": START_TEMPERATURE}),
    Arm("hard-value", "no entropy in the critics' target", soft=False),
    Arm("no-reward", "nothing is ever paid", reward=False),
    Arm("bootstrap-alone", "nothing is paid and no entropy is in the target: critics bootstrap from themselves alone",
        soft=False, reward=False),
    Arm("mean-critics", "the mean of both critics in their target, not the lesser", pessimist=False),
    Arm("random-next-action", "a random next action in the critics' target, not the policy's", own_action=False),
)  # fmt: skip
ALONE = (
    Arm("low-entropy-alone", "exact next states; log std at most -4, so entropy cannot reach its target",
        displacement=0.0, sac={"max_log_std": -4.0}),
    Arm("large-observations-alone", "exact next states; observations 100 times the state", displacement=0.0,
        obs_scale=100.0),
)  # fmt: skip
ARMS = (HEALTHY, CHAIN, *ENDED, *ALONE)


@cache
def data() -> tuple[np.ndarray, np.ndarray]:
    """States (n, 2 m) and actions (n, m) of the random policy, which no one changes."""
    return SYSTEM.random_rows(EPISODES, STEPS)


def constants(arm: Arm) -> SacConfig:
    """The learner of an arm: small and fast, else the paper's family."""
    base = {"hidden_dims": (64, 64), "learning_rate": 1e-3, "batch_size": BATCH, "discount": SYSTEM.discount}
    return SacConfig(**{**base, "init_temperature": START_TEMPERATURE, "target_entropy": TARGET, **arm.sac})


def known_q(arm: Arm, temperature: float) -> float:
    """Mean Q of the soft optimum over the data, in closed form, with the cost of the arm's displacement."""
    states, _ = data()
    share = (BATCH - arm.real_rows) / BATCH
    noise = share * arm.displacement**2 * np.diag(states.var(0))
    reward_part = SYSTEM.reward_part(temperature, states, -states @ SYSTEM.K.T, noise).mean()
    sampled = temperature * SYSTEM.masses / 2  # what a sampled action costs at the first step
    return float(arm.reward * (reward_part - sampled) + SYSTEM.entropy_part(temperature))


def gain(arm: Arm) -> float:
    """How much the critic ``Q = w |obs|`` grows in one sweep of least squares: ``g E[|obs| |next_obs|] / E[|obs|^2]``.

    It is the simplest that grows in proportion to its input, as rectified layers do far from their kinks. Beyond 1 it
    diverges, whatever is paid. Layer normalization takes the size of the input out: there it is the discount.
    """
    if constants(arm).critic_norm == "layer":
        return SYSTEM.discount
    rng = np.random.default_rng(0)
    states, actions = data()
    reach, synthetic = arm.displacement * states.std(0), np.arange(len(states)) % BATCH >= arm.real_rows
    starts = synthetic & (np.arange(len(states)) % 2 == 0) & arm.displaced_starts
    begin = states + starts[:, None] * reach * rng.normal(size=states.shape)
    after = begin @ SYSTEM.A.T + actions @ SYSTEM.B.T + synthetic[:, None] * reach * rng.normal(size=states.shape)
    if arm.clip:
        after = np.where(synthetic[:, None], np.clip(after, states.min(0), states.max(0)), after)
    before, behind = np.linalg.norm(begin, axis=1), np.linalg.norm(after, axis=1)
    return float(SYSTEM.discount * (before * behind).mean() / (before**2).mean())
