"""What a task is to the learner: its sizes, its named observation groups, its termination rule.

An observation group is a named run of dimensions: the keys of a dm_control or Dict observation, the
parts of a Gymnasium MuJoCo state (qpos, qvel, cfrc_ext, ...), else one group `obs`. Groups can be
dropped, e.g. to take a robot's contact sensors away.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

from mbpo.config import InputError, nearest

UNBOUNDED = 1e9
"""A bound of an action of this size is no bound: 2**31, mujoco's 1e10 and the largest floats all lie beyond."""

OWN = "own"
"""`TaskInfo.termination` of an environment that brings its own rule as an attribute `termination`."""

Groups = dict[str, tuple[int, int]]
"""Group name -> [start, stop) within a flat observation, in order."""


@dataclass(frozen=True)
class TaskInfo:
    """What the learner needs to know of a task, after `drop`.

    `time_limit` is in env steps. `groups` cover [0, obs_dim) without gaps. `termination` names the rule
    in `terminations.TERMINATIONS`, or is `OWN`; a Gymnasium environment that is neither known there nor
    brings a rule gets `never`, even if its episodes do terminate. `notes` are sentences that every
    command tells before it starts.
    """

    id: str
    obs_dim: int
    action_dim: int
    time_limit: int | None
    groups: Groups
    drop: tuple[str, ...]
    termination: str
    notes: tuple[str, ...] = ()


class Rule(NamedTuple):
    """A termination rule by name, the observation groups it reads, and why a better one was not taken."""

    name: str
    reads: tuple[str, ...]
    doubt: str = ""


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

    An attribute `termination` of the environment or of one of its wrappers comes first, the outermost of them; else
    Gymnasium's own MuJoCo classes, v4 and later, are known. A rule is left out where a wrapper outside of it changes
    the observation that it was written for, or where arguments of the class move its bounds.
    """
    changing = ""
    for layer in layers(env):
        own = getattr(layer, "termination", None)
        if own is not None and not callable(own):
            raise InputError(f"task {task!r}: its attribute `termination` is {own!r}, not a function of next_obs")
        rule = Rule(OWN, ()) if own is not None else NEVER
        if own is None and not isinstance(layer, gymnasium.Wrapper):
            rule = _mujoco_rule(layer, {} if env.spec is None else env.spec.kwargs)
        if changing and rule.name != "never":
            return NEVER._replace(
                doubt=f"its termination rule ({rule.name}) is left out, since {changing} changes the observation that "
                f"the rule reads; {GIVE_RULE}"
            )
        if own is not None or rule is not NEVER:
            return rule
        if isinstance(layer, gymnasium.Wrapper) and _changes_observations(layer):
            changing = changing or type(layer).__name__
    return NEVER


def layers(env: gymnasium.Env[Any, Any]) -> Iterator[gymnasium.Env[Any, Any]]:
    """`env`, what it wraps, and so on to the bare environment."""
    yield env
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        yield env


def _changes_observations(layer: gymnasium.Wrapper[Any, Any, Any, Any]) -> bool:
    kind = type(layer)
    if kind.__module__.startswith("mbpo.") or kind.__name__ in _SAME_NUMBERS:
        return False
    return isinstance(layer, gymnasium.ObservationWrapper) or layer.observation_space is not layer.env.observation_space


def _mujoco_rule(bare: gymnasium.Env[Any, Any], given: Mapping[str, Any]) -> Rule:
    """The rule of one of Gymnasium's own classes, made with the arguments `given`."""
    kind = type(bare)
    version = re.fullmatch(r"gymnasium\.envs\.mujoco\.\w+_v(\d+)", kind.__module__)
    if version is None or int(version[1]) < 4:
        return NEVER
    rule = _MUJOCO_RULES.get(kind.__name__.removesuffix("Env"), NEVER)
    if rule.name == "never" or given.get("terminate_when_unhealthy") is False:
        return NEVER
    known = inspect.signature(kind.__init__).parameters
    moved = [n for n in _SHAPING if n in given and n in known and not _equal(given[n], known[n].default)]
    if moved:
        told = f"its termination rule ({rule.name}) is left out, since {moved[0]} = {given[moved[0]]!r} moves it"
        return NEVER._replace(doubt=f"{told}; {GIVE_RULE}")
    return rule


def _equal(one: object, other: object) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


_SHAPING = (
    *("healthy_state_range", "healthy_z_range", "healthy_angle_range", "terminate_when_unhealthy"),
    *("exclude_current_positions_from_observation", "xml_file"),
)
"""Arguments of Gymnasium's MuJoCo environments that decide when they end, or where the observation shows it."""
_SAME_NUMBERS = ("FlattenObservation", "DtypeObservation", "ReshapeObservation")
"""Gymnasium's wrappers that leave a flat float32 observation as it is."""
GIVE_RULE = (
    "give the environment, or its outermost wrapper, a method `termination(next_obs)`, a torch function from (..., O) "
    "to bool (...)"
)


def check_action_space(task: str, space: spaces.Space[Any], clipping: bool = False) -> spaces.Box:
    """`space` if it is a bounded Box of real numbers, else `InputError`; `clipping` if a `ClipAction` is around it."""
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        kind = type(space).__name__ + (f" of {space.dtype}" if isinstance(space, spaces.Box) else "")
        raise InputError(f"task {task!r} has a {kind} action space: a Box of real numbers is needed")
    if math.prod(space.shape) == 0:
        raise InputError(f"task {task!r} has no actions: its action space has shape {space.shape}")
    open_ended = np.flatnonzero(~(np.isfinite(space.low) & np.isfinite(space.high)))
    if open_ended.size:
        hint = (
            "leave ClipAction out, since actions are clipped anyway"
            if clipping
            else "give its Box a finite low and high"
        )
        raise InputError(f"task {task!r}: action {open_ended[0]} is unbounded; {hint}")
    low, high = space.low.ravel(), space.high.ravel()
    absurd = np.flatnonzero((np.abs(low) >= UNBOUNDED) | (np.abs(high) >= UNBOUNDED))
    if absurd.size:
        i = absurd[0]
        raise InputError(
            f"task {task!r}: action {i} has the bounds [{low[i]:.4g}, {high[i]:.4g}], which stand for unbounded: "
            "actions are scaled to them, so only the extremes could be reached; give its Box the bounds that it acts on"
        )
    if (low >= high).any():
        i = int(np.argmax(low >= high))
        raise InputError(f"task {task!r}: action {i} has the bounds [{low[i]:g}, {high[i]:g}]; low must be below high")
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
    """`groups` less what `drop` names, closed up: groups, or ranges of the flat observation such as '3:7' or '5'.

    What is left of a group in parts goes by its own range: ``obs[0:3]``. Refused if `rule` reads one of them, or none
    is left.
    """
    size = max(stop for _, stop in groups.values())
    for name in drop:
        columns = _columns_of(name, groups)
        if columns is None:
            raise InputError(
                f"task {task!r}: no observation group {name!r} to drop; {nearest(name, groups)}; a range of its {size} "
                "observations is written 3:7"
            )
        if not columns or columns[-1] >= size:
            raise InputError(f"task {task!r}: --drop {name}: ranges of its {size} observations lie within 0:{size}")
        if rule.name == OWN:
            raise InputError(
                f"task {task!r}: {name!r} cannot be dropped, its own `termination` function takes the full observation"
            )
        if any(_overlap(columns, groups[read]) for read in rule.reads if read in groups):
            raise InputError(f"task {task!r}: {name!r} cannot be dropped, its termination rule ({rule.name}) reads it")
    kept = _consecutive(_parts(groups, kept_columns(groups, drop)))
    if not kept:
        raise InputError(f"task {task!r}: drop = {tuple(drop)} leaves no observation")
    return kept


def kept_columns(groups: Groups, drop: Sequence[str]) -> list[int]:
    """The dimensions of the whole flat observation that are left without `drop`, in order."""
    gone = {column for name in drop for column in _columns_of(name, groups) or ()}
    return [column for _, (start, stop) in groups.items() for column in range(start, stop) if column not in gone]


def is_partial(groups: Groups, kept: Groups) -> bool:
    """Whether some group was left in parts, so that it is no key of a Dict any more."""
    return any(name not in groups for name in kept)


def _columns_of(name: str, groups: Groups) -> range | None:
    """The dimensions that one entry of `drop` names; None where it is neither a group nor a range."""
    if name in groups:
        return range(*groups[name])
    written = re.fullmatch(r"(\d{1,9})(?::(\d{1,9}))?", name)
    if written is None:
        return None
    start = int(written[1])
    return range(start, start + 1 if written[2] is None else int(written[2]))


def _overlap(columns: range, group: tuple[int, int]) -> bool:
    return columns.start < group[1] and group[0] < columns.stop


def _parts(groups: Groups, columns: Sequence[int]) -> dict[str, int]:
    """Sizes of the groups made of `columns`: whole ones by their name, others by their ranges within the group."""
    sizes: dict[str, int] = {}
    for name, (start, stop) in groups.items():
        mine = [column - start for column in columns if start <= column < stop]
        if len(mine) == stop - start:
            sizes[name] = len(mine)
            continue
        first = None
        for i, column in enumerate(mine):
            first = column if first is None else first
            if i + 1 == len(mine) or mine[i + 1] != column + 1:
                sizes[f"{name}[{first}:{column + 1}]"] = column + 1 - first
                first = None
    return sizes


def _consecutive(sizes: Mapping[str, int]) -> Groups:
    groups: Groups = {}
    start = 0
    for name, size in sizes.items():
        if size:
            groups[name] = (start, start + size)
            start += size
    return groups


def group_of(groups: Groups, dim: int) -> str:
    """Name and index of one dimension within its group, e.g. 'touch[1]', whatever else of that group was left out."""
    name, start = next((name, start) for name, (start, stop) in groups.items() if start <= dim < stop)
    part = re.fullmatch(r"(.*)\[(\d+):\d+\]", name)
    return f"{name}[{dim - start}]" if part is None else f"{part[1]}[{int(part[2]) + dim - start}]"
