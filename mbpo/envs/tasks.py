"""What a task is to the learner: its sizes, its named observation groups, its termination rule.

An observation group is a named run of dimensions: the keys of a dm_control or Dict observation, the
parts of a Gymnasium MuJoCo state (qpos, qvel, cfrc_ext, ...), else one group `obs`. Groups can be
dropped, e.g. to take a robot's contact sensors away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from mbpo.config import InputError, nearest

OWN = "own"
"""`TaskInfo.termination` of an environment that brings its own rule as an attribute `termination`."""

Groups = dict[str, tuple[int, int]]
"""Group name -> [start, stop) within a flat observation, in order."""


@dataclass(frozen=True)
class TaskInfo:
    """What the learner needs to know of a task, after `drop`.

    `time_limit` is in env steps, None without one. `groups` cover [0, obs_dim) without gaps.
    `termination` names the rule in `terminations.TERMINATIONS`, or is `OWN`; a Gymnasium environment
    that is neither known there nor brings a rule gets `never`, even if its episodes do terminate.
    """

    id: str
    obs_dim: int
    action_dim: int
    time_limit: int | None
    groups: Groups
    drop: tuple[str, ...]
    termination: str


class Rule(NamedTuple):
    """A termination rule by name, and the observation groups whose positions or values it reads."""

    name: str
    reads: tuple[str, ...]


NEVER = Rule("never", ())
_MUJOCO_RULES = {
    "InvertedPendulum": Rule("inverted_pendulum", ("qpos",)),
    "InvertedDoublePendulum": Rule("inverted_double_pendulum", ("obs",)),
    "Hopper": Rule("hopper", ("qpos", "qvel")),
    "Walker2d": Rule("walker2d", ("qpos",)),
    "Ant": Rule("ant", ("qpos",)),
    "Humanoid": Rule("humanoid", ("qpos",)),
    **dict.fromkeys(("HalfCheetah", "HumanoidStandup", "Pusher", "Reacher", "Swimmer"), NEVER),
}


def termination_rule(task: str, env: gymnasium.Env[Any, Any]) -> Rule:
    """The rule by which `env` ends an episode early, as a name and what it reads.

    An attribute `termination` of the bare environment comes first; else Gymnasium's MuJoCo tasks,
    v4 and later, are known by name.
    """
    own = getattr(env.unwrapped, "termination", None)
    if own is not None:
        if not callable(own):
            raise InputError(f"task {task!r}: its attribute `termination` is {own!r}, not a function of next_obs")
        return Rule(OWN, ())
    spec = env.spec
    if spec is not None and spec.namespace is None and (spec.version or 0) >= 4:
        return _MUJOCO_RULES.get(spec.name.removesuffix("TruncatedObs"), NEVER)
    return NEVER


def check_action_space(task: str, space: spaces.Space[Any]) -> spaces.Box:
    """`space` if it is a bounded Box of real numbers, else `InputError`."""
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        kind = type(space).__name__ + (f" of {space.dtype}" if isinstance(space, spaces.Box) else "")
        raise InputError(f"task {task!r} has a {kind} action space: a Box of real numbers is needed")
    if math.prod(space.shape) == 0:
        raise InputError(f"task {task!r} has no actions: its action space has shape {space.shape}")
    open_ended = np.flatnonzero(~(np.isfinite(space.low) & np.isfinite(space.high)))
    if open_ended.size:
        raise InputError(f"task {task!r}: action {open_ended[0]} is unbounded; give its Box a finite low and high")
    return space


def observation_space(task: str, space: spaces.Space[Any], by_name: bool) -> spaces.Box | spaces.Dict:
    """`space` if it is a Box or a Dict of Boxes, its keys in name order if `by_name`; else `InputError`."""
    if isinstance(space, spaces.Box):
        return space
    if not isinstance(space, spaces.Dict):
        kind = type(space).__name__
        raise InputError(f"task {task!r} has a {kind} observation space: a Box or a Dict of Boxes is needed")
    for name, part in space.items():
        if not isinstance(part, spaces.Box):
            raise InputError(f"task {task!r}: observation {name!r} is a {type(part).__name__}, a Box is needed")
    return spaces.Dict(sorted(space.items())) if by_name else space


def observation_groups(task: str, space: spaces.Box | spaces.Dict, structure: object = None) -> Groups:
    """Named groups of the whole observation, in order. Empty ones are left out.

    `structure` is the `observation_structure` of Gymnasium's MuJoCo tasks (name -> number of
    dimensions), used if it adds up to the size of a Box.
    """
    if isinstance(space, spaces.Dict):
        sizes = {name: math.prod(part.shape or ()) for name, part in space.items()}
    else:
        named = structure if isinstance(structure, Mapping) else {}
        sizes = {str(name): int(n) for name, n in named.items() if not str(name).startswith("skipped")}
        if sum(sizes.values()) != math.prod(space.shape):
            sizes = {"obs": math.prod(space.shape)}
    groups = _consecutive(sizes)
    if not groups:
        raise InputError(f"task {task!r} observes nothing: its observation has 0 dimensions")
    return groups


def without(task: str, groups: Groups, drop: Sequence[str], rule: Rule) -> Groups:
    """`groups` less those of `drop`, closed up. Refused if `rule` reads one of them, or none is left."""
    for name in drop:
        if name not in groups:
            raise InputError(f"task {task!r}: no observation group {name!r} to drop; {nearest(name, groups)}")
        if rule.name == OWN:
            raise InputError(
                f"task {task!r}: {name!r} cannot be dropped, its own `termination` function takes the full observation"
            )
        if name in rule.reads:
            raise InputError(f"task {task!r}: {name!r} cannot be dropped, its termination rule ({rule.name}) reads it")
    kept = _consecutive({name: stop - start for name, (start, stop) in groups.items() if name not in drop})
    if not kept:
        raise InputError(f"task {task!r}: drop = {tuple(drop)} leaves no observation")
    return kept


def _consecutive(sizes: Mapping[str, int]) -> Groups:
    groups: Groups = {}
    start = 0
    for name, size in sizes.items():
        if size:
            groups[name] = (start, start + size)
            start += size
    return groups


def group_of(groups: Groups, dim: int) -> str:
    """Name and place of one dimension, e.g. 'touch[1]'."""
    name, start = next((name, start) for name, (start, stop) in groups.items() if start <= dim < stop)
    return f"{name}[{dim - start}]"
