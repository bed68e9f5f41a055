"""From a task id to its simulator, as a Gymnasium environment with its own spaces.

    dmc:domain-task          any task of dm_control's suite, e.g. dmc:hopper-hop
    gym:Id-v5                any registered Gymnasium id
    gym:module:Id-v0         the same, after importing `module`, which registers it
    gym:Id-v0?size=3         with arguments for `gymnasium.make`, joined by &, such as max_episode_steps=500

`known_tasks` lists those that the suite is built on.
"""

from __future__ import annotations

import ast
import copy
import difflib
import importlib
import math
import os
import sys
import warnings
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from mbpo.config import InputError, nearest

DMC15 = (
    *("hopper-hop", "hopper-stand", "humanoid-stand", "humanoid-walk", "humanoid-run"),  # the paper's seven,
    *("quadruped-walk", "quadruped-run"),  # then the rest of the set that is known as DMC15
    *("walker-run", "reacher-hard", "swimmer-swimmer6", "cheetah-run", "acrobot-swingup"),
    *("pendulum-swingup", "finger-turn_hard", "fish-swim"),
)
GYM8 = (
    *("InvertedPendulum-v5", "Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5"),
    *("AntTruncatedObs-v5", "HumanoidTruncatedObs-v5"),
)
SUITES = ("dmc", "gym")
Array = np.ndarray[Any, Any]
_specs: dict[tuple[str, str], EnvSpec] = {}
"""(module, id) -> what that module registered: two modules may register one id."""


def known_tasks() -> list[str]:
    """The tasks that the suite is built on, the paper's seven first; many others load as well."""
    return [f"dmc:{name}" for name in DMC15] + [f"gym:{name}" for name in GYM8]


def split_task(task: str) -> tuple[str, str]:
    """'dmc:hopper-hop' -> ('dmc', 'hopper-hop'); `InputError` without a known suite before the colon."""
    suite, colon, name = task.partition(":")
    if not colon:
        ids = {known.partition(":")[2]: known for known in known_tasks()}
        close = difflib.get_close_matches(task, ids, n=1, cutoff=0.5)
        example = ids[close[0]] if close else "dmc:hopper-hop"
        raise InputError(f"task {task!r} does not say its suite: write e.g. {example!r}")
    if suite not in SUITES:
        raise InputError(f"task {task!r}: unknown suite {suite!r}; {nearest(suite, SUITES)}")
    return suite, name


def load(task: str) -> gymnasium.Env[Any, Any]:
    """A fresh environment of `task`, with its own spaces and without Gymnasium's costly checker.

    Raises `InputError` for an unknown task or a module that does not import.
    """
    suite, name = split_task(task)
    return DmcEnv(name) if suite == "dmc" else _gym_env(task, name)


class DmcEnv(gymnasium.Env[Mapping[str, Any], Array]):
    """One dm_control suite task as a Gymnasium environment, e.g. ``DmcEnv("hopper-hop")``.

    The time limit truncates; only a task that ends with discount 0 terminates.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._env = copy.deepcopy(_dmc_prototype(name))
        limit = self._env._step_limit  # no public name; time_limit / control_timestep, so not always whole
        self.time_limit = None if math.isinf(limit) else math.ceil(limit)
        action = self._env.action_spec()
        low, high = (np.broadcast_to(bound, action.shape) for bound in (action.minimum, action.maximum))
        # Unlimited actuators are given as +-1e10, which is mujoco's mjMAXVAL.
        self.action_space = spaces.Box(
            np.where(low > -1e10, low, -np.inf), np.where(high < 1e10, high, np.inf), dtype=np.float64
        )
        parts = self._env.observation_spec()
        self.observation_space = spaces.Dict(
            [(key, spaces.Box(-np.inf, np.inf, part.shape, np.float64)) for key, part in parts.items()]
        )
        self._diverged = importlib.import_module("dm_control.rl.control").PhysicsError
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Mapping[str, Any], dict[str, Any]]:
        """Start an episode; with `seed`, the one that ``suite.load(..., {"random": seed})`` starts with."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed)
        self._steps = 0
        return self._env.reset().observation, {}

    def step(self, action: Array) -> tuple[Mapping[str, Any], float, bool, bool, dict[str, Any]]:
        """One control step; `InputError` if the simulation diverges."""
        self._steps += 1
        try:
            step = self._env.step(action)
        except self._diverged as error:
            raise InputError(f"task 'dmc:{self.name}': simulation diverged at step {self._steps}: {error}") from None
        last = step.last()
        terminated = last and step.discount == 0.0
        return step.observation, step.reward, terminated, last and not terminated, {}

    def close(self) -> None:
        """Free the simulation."""
        self._env.close()


@lru_cache(maxsize=64)
def _dmc_prototype(name: str) -> Any:
    """A loaded task, never stepped: a copy costs a tenth of compiling the model again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glfw complains of a missing display; nothing here renders
        suite = importlib.import_module("dm_control.suite")
    known = [f"{domain}-{task}" for domain, task in suite.ALL_TASKS]
    if name not in known:
        raise _unknown(f"dmc:{name}", name, known, DMC15)
    domain, _, task = name.partition("-")
    return suite.load(domain, task)


def _gym_env(task: str, name: str) -> gymnasium.Env[Any, Any]:
    spec, arguments = gym_spec(task), arguments_of(task)
    try:
        return gymnasium.make(spec, disable_env_checker=True, **arguments)
    except InputError:
        raise
    except Exception as error:  # whatever a constructor raises, the task cannot be made
        told = " ".join(str(error).split())
        if isinstance(error, TypeError) and "argument" in told:
            told += f"; give arguments as in '{task.partition('?')[0]}?name=value'"
        raise InputError(f"task {task!r} cannot be made: {told or type(error).__name__}") from error


def gym_spec(task: str) -> EnvSpec:
    """What is registered under the id of a `gym:` task, by its own module if it names one."""
    suite, name = split_task(task)
    assert suite == "gym"
    module, _, env_id = name.partition("?")[0].rpartition(":")
    if ":" not in name:
        if env_id not in gymnasium.registry:
            raise _unknown(task, env_id, gymnasium.registry, GYM8)
        return gymnasium.registry[env_id]
    before = dict(gymnasium.registry)
    _import(task, module)
    for changed, spec in gymnasium.registry.items():
        if before.get(changed) is not spec:
            _specs[module, changed] = spec
    if env_id not in gymnasium.registry:
        raise _unknown(task, env_id, gymnasium.registry, GYM8)
    spec = gymnasium.registry[env_id]
    others = [of for (of, known), theirs in _specs.items() if known == env_id and theirs is spec and of != module]
    if (module, env_id) not in _specs or not others:  # else another module has registered the id since
        _specs[module, env_id] = spec
    return _specs[module, env_id]


def arguments_of(task: str) -> dict[str, Any]:
    """The arguments after the question mark of a task: 'gym:Id-v0?size=3' -> {'size': 3}."""
    found: dict[str, Any] = {}
    _, mark, tail = task.partition("?")
    for part in tail.split("&") if mark else ():
        name, equals, value = part.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"task {task!r}: {part!r} is not an argument; write name=value, joined by &")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    limit = found.get("max_episode_steps", 1)
    if type(limit) is not int or limit < 1:
        raise InputError(f"task {task!r}: max_episode_steps = {limit}: a whole number of at least 1 is needed")
    return found


def with_episode_steps(task: str, steps: int) -> str:
    """The id of `task` with its episodes cut after `steps`. Raises `InputError` if it is cut already, or not gym:."""
    if split_task(task)[0] != "gym":
        raise InputError(
            f"--max-episode-steps is for gym: tasks; those of dm_control, as {task!r}, have their own limit"
        )
    if "max_episode_steps" in arguments_of(task):
        raise InputError(f"task {task!r} and --max-episode-steps both say where episodes end: give one of the two")
    return f"{task}{'&' if '?' in task else '?'}max_episode_steps={steps}"


def is_named(task: str) -> bool:
    """Whether the task is of a suite that a release of its package defines; a user's own may change under its id."""
    suite, name = split_task(task)
    if suite == "dmc" or task in known_tasks():
        return True
    if "?" in name:
        return False
    return name.startswith("benchmark.") or (":" not in name and _is_gymnasiums(name))


def _is_gymnasiums(env_id: str) -> bool:
    entry = gymnasium.registry[env_id].entry_point if env_id in gymnasium.registry else ""
    return str(entry if isinstance(entry, str) else getattr(entry, "__module__", "")).startswith("gymnasium.")


def _import(task: str, module: str) -> None:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # a script's own folder comes first in sys.path, not where it was called
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a module raises; ValueError is an empty name
        kind = "" if isinstance(error, ImportError | SyntaxError | ValueError) else f"{type(error).__name__}: "
        raise InputError(f"task {task!r}: module {module!r} does not import: {kind}{error}") from error


def _unknown(task: str, name: str, known: Iterable[str], short: Iterable[str]) -> InputError:
    """The refusal of a name that is not among `known`; `short` is listed when nothing comes near."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    prefix = task.removesuffix(name)
    hint = f"did you mean {prefix + close[0]!r}?" if close else "known: " + ", ".join(short)
    return InputError(f"unknown task {task!r}; {hint}")


def _register_truncated(name: str, entry_point: str, *left_out: str) -> None:
    """MBPO's form of a task: without contact forces, inertias and the like."""
    if name not in gymnasium.registry:
        kwargs = {f"include_{part}_in_observation": False for part in left_out}
        gymnasium.register(name, f"gymnasium.envs.mujoco.{entry_point}", max_episode_steps=1000, kwargs=kwargs)


_register_truncated("AntTruncatedObs-v5", "ant_v5:AntEnv", "cfrc_ext")
_register_truncated("HumanoidTruncatedObs-v5", "humanoid_v5:HumanoidEnv", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")
