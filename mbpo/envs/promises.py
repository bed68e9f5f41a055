"""What a learner takes an environment's word for, tried on short episodes before hours are spent.

Two copies get one seed and equal actions, one copy gets them twice, and two copies are stepped side by side: an episode
has to follow from its seed and its actions alone. On the same steps dimensions are looked for that float32 or a network
cannot carry. The named tasks are left out: the tests of this project try them.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from mbpo.config import InputError
from mbpo.envs import aside, surroundings
from mbpo.envs.flat import FlatEnv, make_env
from mbpo.envs.load import Array, is_named
from mbpo.envs.simulators import sentence
from mbpo.envs.tasks import group_of

STEPS = 40
"""Most steps of a trial episode."""
SECONDS = 5.0
"""Time after which the first trial episode is cut, so that a slow environment is not tried for minutes."""
HUGE = 1e5
"""Size of an observation from which on networks that read it raw do not learn."""
TICKS = 4
"""Steps of float32 that an observation must change by, in the median, to count as resolved."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Findings:
    """Sentences on a task: what makes numbers wrong, what keeps them from being repeated, what to know."""

    wrong: tuple[str, ...] = ()
    unrepeatable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """All sentences, the gravest first."""
        return (*self.wrong, *self.unrepeatable, *self.notes)


class _Seen(NamedTuple):
    """One step or reset."""

    obs: Array  # (O,) float32
    reward: float
    terminated: bool
    truncated: bool


def check(task: str, drop: Sequence[str] = (), repeatable: bool = True) -> tuple[str, ...]:
    """Refuse a task that breaks its promises; tell and return what else is to be known of it.

    With `repeatable` False a seed that decides nothing is told, not refused. Raises `InputError`.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_default_dtype() != torch.float32:
        raise InputError(
            f"torch's default dtype is {torch.get_default_dtype()}, and networks would be made in it; set it back to "
            "torch.float32 (precision='fp64' asks for float64)"
        )
    findings = examine(task, drop)
    refused = (*findings.wrong, *(findings.unrepeatable if repeatable else ()))
    if refused:
        raise InputError(refused[0])
    for line in findings.all:
        log.warning("%s", line)
    return findings.all


def examine(task: str, drop: Sequence[str] = (), finite: bool = True) -> Findings:
    """Try the environment of `task` on short episodes; `finite` as for `make_env`.

    Raises `InputError` where it raises, or hangs, or does not fit.
    """
    if is_named(task):
        env = make_env(task, drop, finite)
        env.close()
        return Findings(notes=env.info.notes)
    return aside.call(task, _examine, task, drop, finite) if aside.is_due(task) else _examine(task, drop, finite)


def lived(task: str, drop: Sequence[str], steps: int) -> Array:
    """What the first episode of `task` returns to at most `steps` random actions, one after the other: float64."""
    return aside.call(task, _lived, task, drop, steps) if aside.is_due(task) else _lived(task, drop, steps)


def _lived(task: str, drop: Sequence[str], steps: int) -> Array:
    env = make_env(task, drop)
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, env.info.action_dim)).astype(np.float32)
    with blamed(task):
        obs, _ = env.reset(seed=0)
        seen = [obs]
        for action in actions:
            obs, reward, terminated, truncated, _ = env.step(action)
            seen.append(np.append(obs, reward))
            if terminated or truncated:
                break
    env.close()
    return np.asarray(np.concatenate(seen), np.float64)


@contextmanager
def blamed(task: str) -> Iterator[None]:
    """Inside, an error of the environment's own code becomes an `InputError` that says where it was raised."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        if Path(at.filename).parent == Path(__file__).parent:  # of another process: its sentence says it all
            raise InputError(" ".join(str(error).split())) from error
        where = f"{Path(at.filename).name}, line {at.lineno}"
        raise InputError(f"task {task!r}: the environment raised {sentence(error)} ({where})") from error


def _examine(task: str, drop: Sequence[str], finite: bool) -> Findings:
    before = surroundings.look()
    with blamed(task):
        findings = _tried(task, drop, finite)
    changes = [f"task {task!r}: the environment changes {name}" for name in surroundings.changed(before)]
    grave = [f"{line}: {why}" for line in changes for name, why in surroundings.GRAVE.items() if line.endswith(name)]
    notes = [line for line in changes if not line.endswith(tuple(surroundings.GRAVE))]
    return Findings((*findings.wrong, *grave), findings.unrepeatable, (*findings.notes, *notes))


def _tried(task: str, drop: Sequence[str], finite: bool) -> Findings:
    env = make_env(task, drop, finite)
    try:
        tap = env.env = _Tap(env.env)
        rng = np.random.default_rng(0)
        actions = rng.uniform(-1.0, 1.0, (STEPS, env.info.action_dim)).astype(np.float32)
        first = _episode(env, 0, actions, time.monotonic() + SECONDS)
        actions = actions[: len(first) - 1]
        other = make_env(task, drop, finite)
        try:
            wrong, unrepeatable = _copies(env, other, first, actions)
        finally:
            other.close()
        _episode(env, 1, actions)
        return Findings(wrong, unrepeatable, (*env.info.notes, *_numbers(env, tap.raw)))
    finally:
        env.close()


def _copies(
    env: FlatEnv, other: FlatEnv, first: Sequence[_Seen], actions: Array
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is wrong, and what cannot be repeated, with two copies of one environment, `first` being the one's first."""
    task = f"task {env.info.id!r}"
    fresh = _difference(env, first, _episode(other, 0, actions))
    if fresh:
        return (), (
            f"{task}: two copies given one seed and equal actions differ ({fresh}), so reset(seed=...) does not decide "
            "the episode: no run could be repeated or resumed; draw every random number from self.np_random",
        )
    again = _difference(env, first, _episode(env, 0, actions))
    if again:
        return (
            f"{task}: one copy given one seed and equal actions twice differs from its first time ({again}), so it "
            "carries something over from earlier episodes, as running normalization inside does: training and "
            "evaluation would see different environments; let reset clear it",
        ), ()
    beside = _difference(env, first, _episode(env, 0, actions, beside=other))
    if beside:
        return (
            f"{task}: a copy differs while another is stepped beside it ({beside}), so copies share a state: every run "
            "and every evaluation would disturb the others; keep the state in the environment's own attributes",
        ), ()
    return (), ()


class _Tap(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps every raw observation that passes."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.raw: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's."""
        returned = self.env.reset(seed=seed, options=options)
        self._keep(returned)
        return returned

    def step(self, action: Any) -> Any:
        """As the environment's."""
        returned = self.env.step(action)
        self._keep(returned)
        return returned

    def _keep(self, returned: Any) -> None:
        if isinstance(returned, tuple):
            obs = returned[0]
            self.raw.append({k: np.array(v) for k, v in obs.items()} if isinstance(obs, Mapping) else np.array(obs))


def _episode(
    env: FlatEnv, seed: int, actions: Array, until: float = np.inf, beside: FlatEnv | None = None
) -> list[_Seen]:
    """One episode of `actions` (T, A) as far as it goes; `beside` lives an episode of its own between the steps."""
    obs, _ = env.reset(seed=seed)
    seen, ended = [_Seen(obs, 0.0, False, False)], True
    for action in actions:
        if beside is not None:
            if ended:
                beside.reset(seed=seed + 1)
            _, _, *ends, _ = beside.step(-action)
            ended = any(ends)
        obs, reward, terminated, truncated, _ = env.step(action)
        seen.append(_Seen(obs, reward, terminated, truncated))
        if terminated or truncated or time.monotonic() > until:
            break
    return seen


def _difference(env: FlatEnv, one: Sequence[_Seen], other: Sequence[_Seen]) -> str:
    """The first difference of two episodes in a few words, or nothing."""
    for step, (a, b) in enumerate(zip(one, other, strict=False)):
        when = f"at step {step}" if step else "at reset"
        unequal = ~((a.obs == b.obs) | (np.isnan(a.obs) & np.isnan(b.obs)))
        if unequal.any():
            dim = int(np.argmax(unequal))
            return f"{group_of(env.info.groups, dim)} is {a.obs[dim]:.6g} and {b.obs[dim]:.6g} {when}"
        if not np.array_equal(a.reward, b.reward, equal_nan=True):
            return f"the reward is {a.reward:.6g} and {b.reward:.6g} {when}"
        if a[2:] != b[2:]:
            return f"terminated and truncated are {a[2:]} and {b[2:]} {when}"
    return "" if len(one) == len(other) else f"one ends after {len(one) - 1} steps, the other after {len(other) - 1}"


def _numbers(env: FlatEnv, raw: Sequence[Any]) -> list[str]:
    """Sentences on dimensions that float32, or a network, cannot carry, from raw observations in the order lived."""
    groups = env.info.groups
    try:
        rows = np.stack([_row(obs, list(groups)) for obs in raw]).astype(np.float64)
    except (KeyError, TypeError, ValueError):
        return []
    if rows.shape[1] != env.info.obs_dim or len(rows) < 3:  # groups left out of a plain array
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        size, change = np.abs(rows).max(0), np.abs(np.diff(rows, axis=0))
        moves = np.array([np.median(c[c > 0]) if (c > 0).any() else 0.0 for c in change.T])
        tick = np.spacing(np.minimum(size, 1e38).astype(np.float32)).astype(np.float64)
        coarse = (moves > 0) & (moves < TICKS * tick)
        told = {
            "constant on every step tried, so it says nothing": moves == 0,
            "too large for float32 to resolve its changes; give it from a nearer origin": coarse,
            f"{HUGE:g} or larger, too large for networks that read it raw; give it in larger units, or set "
            "sac.obs_norm": (size >= HUGE) & ~coarse & (moves > 0),
        }
    lines = []
    for what, which in told.items():
        dims = [int(i) for i in np.flatnonzero(which)]
        if dims:
            some = ", ".join(f"{group_of(groups, i)} ({rows[-1, i]:.10g})" for i in dims[:4])
            more = f" and {len(dims) - 4} more" if len(dims) > 4 else ""
            lines.append(f"task {env.info.id!r}: {some}{more}: {what}")
    return lines


def _row(obs: Any, names: Sequence[str]) -> Array:
    return np.concatenate([np.ravel(obs[name]) for name in names]) if isinstance(obs, Mapping) else np.ravel(obs)
