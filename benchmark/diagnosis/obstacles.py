"""What stands between reward and policy: signs that the learner, not the model, would fail, each with what to change.

A model may fit perfectly and the agent learn nothing, because rewards are tiny beside the pay for acting at random, an
action's bounds are far wider than what acts, or an observation is no state. Each is measured from the transitions of
the sample in every seed; its severity is the highest threshold that every seed lies beyond. Thresholds were fixed on
the toys of `benchmark.toys` and on the thermostat of the examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmark.diagnosis import actions, past
from benchmark.diagnosis.evidence import Evidence, Obstacle, judged, rounded
from benchmark.words import count, number

LATE = "the past acts: see hidden-state"
AIM = 10.0
"""Size of the values that a rescaled reward is to have: networks start with values of about 1."""
SPARSE = 0.05
"""Share of rewards unlike the usual one below which they count as rare."""
REWARDED = 30
"""Paid steps that the random phase should bring."""
MOST_RANDOM = 1_000
"""A third of what `run` trains by default."""


def spread(e: Evidence) -> np.ndarray:
    """The size of what can be earned ``(S,)``: the reward's standard deviation, or that of paid steps where rare."""
    away, unlike = _unusual(e)
    with np.errstate(invalid="ignore"):
        rare = np.sqrt((np.square(away) * unlike).sum(1) / unlike.sum(1))
    return np.where((unlike.mean(1) < SPARSE) & unlike.any(1), rare, e.reward.std(1))


def usual(e: Evidence) -> np.ndarray:
    """The most frequent reward of each seed ``(S,)``."""
    most = []
    for rewards in e.reward:
        values, counts = np.unique(rewards, return_counts=True)
        most.append(values[counts.argmax()])
    return np.array(most)


def _unusual(e: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """How far each reward is from the usual one, and whether it is another ``(S, N)``."""
    common = usual(e)[:, None]
    away = e.reward - common
    return away, np.abs(away) > 1e-9 * np.abs(e.reward).max() + 1e-6 * np.abs(common)


def small_reward(e: Evidence) -> Obstacle:
    """Rewards are small beside the pay for acting at random."""
    sac, wide = e.method.sac, spread(e)
    start = sac.init_temperature * (wide if sac.init_temperature_unit == "reward-std" else 1.0)
    sign = judged(
        "small-reward", "Rewards are small beside the pay for acting at random",
        "the temperature that the learner starts with over the spread of the rewards",
        start / np.maximum(wide, 1e-30), 10.0, 100.0, e.paid,
    )  # fmt: skip
    if sign.quiet:
        return sign
    size = float(np.median(wide))
    updates = np.log(sign.value or 1.0) / (sac.temperature_learning_rate or sac.learning_rate)
    slow = (
        f"The learner is also paid for acting at random: at first {number(float(np.median(start)))} a nat, while "
        f"rewards vary by {number(size)}. Until that pay has sunk to the rewards' size, some {updates:,.0f} updates or "
        f"{updates / e.method.utd:,.0f} env steps, it learns to act at random."
    )
    if sign.severity == "mild":
        value = rounded(size)
        return sign.advise(f"{slow} Start the temperature at {value:g}.", settings={"sac.init_temperature": value})
    factor, temperature = _rescaled(e)
    change = (
        f"{slow} A lower temperature alone would not do, since networks start with values that are far larger than "
        f"such rewards are worth. Multiply the reward by {factor:,.15g} and start the temperature at {temperature:g}."
    )
    return sign.advise(change, adjust={"reward": factor}, settings={"sac.init_temperature": temperature})


def worth(e: Evidence) -> np.ndarray:
    """What the critics have to hold ``(S,)``: the size of a reward times the steps that the discount looks ahead."""
    return np.asarray((np.abs(e.reward.mean(1)) + e.reward.std(1)) * e.horizon)


def _rescaled(e: Evidence) -> tuple[float, float]:
    """The factor of the reward with which values are about `AIM`, and the spread of the rewards then."""
    factor = rounded(AIM / float(np.median(worth(e))))
    return factor, rounded(factor * float(np.median(spread(e))))


def large_reward(e: Evidence) -> Obstacle:
    """Values are too large for critics to reach."""
    sign = judged(
        "large-reward", "Values are large",
        "size of the reward times the steps that the discount looks ahead: what the critics have to hold",
        worth(e), 3e3, 3e4, e.paid,
    )  # fmt: skip
    if sign.quiet:
        return sign
    factor, temperature = _rescaled(e)
    change = (
        f"The critics start near 0 and have to climb to some {number(sign.value)} in small steps. Divide the reward "
        f"by {1 / factor:,.6g} and start the temperature at {temperature:g}, the spread of the rewards then."
    )
    return sign.advise(change, adjust={"reward": factor}, settings={"sac.init_temperature": temperature})


def observation_size(e: Evidence) -> Obstacle:
    """Observations are far from the size that networks are made for."""
    kept = e.sample.varies[:-1]
    largest = np.sqrt(np.square(e.obs[..., kept]).mean(1)).max(-1) if kept.any() else np.ones(len(e.obs))
    sign = judged(
        "observation-size", "Observations are large or tiny",
        "root mean square of the largest observation, or 1 over it: actor and critics read observations as they are",
        np.maximum(largest, 1.0 / np.maximum(largest, 1e-30)), 10.0, 100.0,
        bool(kept.any()) and e.method.sac.obs_norm == "none",
    )  # fmt: skip
    if sign.quiet:
        return sign
    name = e.sample.names[int(np.flatnonzero(kept)[np.square(e.obs[..., kept]).mean((0, 1)).argmax()])]
    return sign.advise(
        f"Actor and critics read observations as they are, and {name} has a size of "
        f"{number(float(np.median(largest)))}. "
        "Let the learner divide each by its own spread.",
        settings={"sac.obs_norm": "running"},
    )


def far_sight(e: Evidence) -> Obstacle:
    """Rewards change more slowly than the discount looks ahead."""
    sign = judged(
        "short-sight", "The discount looks less far than rewards take to change",
        "steps until a reward is no longer told by an earlier one (correlation below 1/e), over those that the "
        "discount "
        "looks ahead",
        np.array([_memory(e.reward[s], e.starts[s]) for s in range(len(e.reward))]) / e.horizon, 1.0, 3.0,
        e.paid and e.ordered,
    )  # fmt: skip
    if sign.quiet:
        return sign
    steps = (sign.value or 1.0) * e.horizon
    discount = round(min(1 - 1 / (2 * steps), 0.998), 4)
    return sign.advise(
        f"A reward here stays what it was for some {number(steps)} steps, and the discount of "
        f"{e.method.sac.discount:g} "
        f"looks {number(e.horizon)} ahead. Raise it to {discount:g}; or let each action last {rounded(steps / 20):g} "
        "steps in the environment.",
        settings={"sac.discount": discount},
    )


def _memory(reward: np.ndarray, starts: np.ndarray) -> float:
    """Steps after which the correlation of rewards within episodes falls below 1/e ``(N,) -> ``; the last one tried."""
    centred, episode = reward - reward.mean(), np.cumsum(starts)
    variance, longest = float(np.square(centred).mean()), int(np.bincount(episode).max())
    if variance == 0:
        return 1.0
    lag = 1
    while lag < longest // 2:
        same = episode[lag:] == episode[:-lag]
        if not same.any() or float((centred[lag:] * centred[:-lag])[same].mean()) < variance / np.e:
            return float(lag)
        lag = max(lag + 1, int(1.1 * lag))
    return float(max(lag, 1))


def short_episodes(e: Evidence) -> Obstacle:
    """Episodes are cut long before the discount stops looking."""
    limit = e.sample.info.time_limit or 1_000
    sign = judged(
        "short-episodes", "Episodes are cut before the discount stops looking",
        "steps that the discount looks ahead over the steps of an episode",
        np.full(len(e.reward), e.horizon / limit), 3.0, 10.0,
    )  # fmt: skip
    if sign.quiet:
        return sign
    discount = round(max(1 - 1 / limit, 0.5), 3)
    return sign.advise(
        f"Episodes are cut after {count(limit, 'step')}, and the discount looks {number(e.horizon)} ahead, into states "
        f"that no episode reaches. Lower it to {discount:g}.",
        settings={"sac.discount": discount},
    )


def rare_reward(e: Evidence) -> Obstacle:
    """Random actions are hardly ever paid."""
    share = _unusual(e)[1].mean(1)
    sign = judged(
        "rare-reward", "Random actions are hardly ever paid",
        "share of rewards that are not the most frequent one", share, SPARSE, 0.005, e.paid, below=True,
    )  # fmt: skip
    if sign.quiet:
        return sign
    common = float(np.median(usual(e)))
    known = f"Under random actions {number(100 * (sign.value or 0))} % of the steps pay anything but {number(common)}."
    steps = int(rounded(REWARDED / max(sign.value or 0.0, 1e-9)))
    if steps > MOST_RANDOM:
        return sign.advise(f"{known} Pay for coming nearer too: there is hardly anything to learn from as it is.")
    if steps <= e.method.random_steps:
        return sign.advise(f"{known} Expect learning to start late; pay for coming nearer too, if you can.")
    return sign.advise(
        f"{known} Act at random for {steps:,} steps before learning, so that some {REWARDED} of them are paid; or "
        "pay for "
        "coming nearer too.",
        settings={"random_steps": steps},
    )


def early_ends(e: Evidence) -> Obstacle:
    """Random actions end episodes at once."""
    ends = (e.mask == 0).mean(1)
    sign = judged(
        "early-ends", "Random actions end episodes soon", "share of steps that end an episode", ends, 0.05, 0.25
    )
    if sign.quiet:
        return sign
    steps = 1 / (sign.value or 1.0)
    change = (
        f"Under random actions an episode ends after {number(steps)} steps: the model knows the start of episodes only."
    )
    if float(np.median(e.reward.mean(1))) < 0:
        change += (
            " Rewards are negative on average, so to end early may pay: add a constant that makes a step worth more "
            "than "
            "none."
        )
    return sign.advise(change)


def no_limit(e: Evidence) -> Obstacle:
    """Episodes have neither limit nor end."""
    unlimited = any("sets its episodes no limit" in note for note in e.sample.info.notes)
    never = float(not (e.mask == 0).any()) * unlimited
    sign = judged(
        "no-limit", "Episodes never end", "1 where there is neither a limit nor an end",
        np.full(len(e.reward), never), 0.5, 2.0,
    )  # fmt: skip
    if sign.quiet:
        return sign
    return sign.advise(
        "Nothing ends an episode, so it is cut after 1,000 steps. Say where it should be: --max-episode-steps 200."
    )


OBSTACLES: Sequence[Callable[[Evidence], Obstacle]] = (
    small_reward,
    large_reward,
    rare_reward,
    far_sight,
    short_episodes,
    no_limit,
    early_ends,
    observation_size,
    actions.wide_actions,
    actions.idle_actions,
    past.hidden_state,
)


@dataclass(frozen=True)
class Change:
    """All that the obstacles advise: constants, changes of the task (`benchmark.adjusted`), and the words for both."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    adjust: Mapping[str, float] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()


NOTHING = Change()


def obstacles(e: Evidence) -> list[Obstacle]:
    """Every one, judged. What a hidden state explains is not counted twice."""
    every = [measure(e) for measure in OBSTACLES]
    hidden = next(o for o in every if o.id == "hidden-state").severity in ("mild", "severe")
    return [o.not_judged(LATE) if hidden and o.id == "idle-actions" else o for o in every]


def change(every: Sequence[Obstacle]) -> Change:
    """What they advise together; of two that set the same, the first wins."""
    settings: dict[str, Any] = {}
    adjust: dict[str, float] = {}
    for obstacle in every:
        settings |= {name: value for name, value in obstacle.settings.items() if name not in settings}
        adjust |= {name: value for name, value in obstacle.adjust.items() if name not in adjust}
    return Change(settings, adjust, tuple(o.change for o in every if o.change))
