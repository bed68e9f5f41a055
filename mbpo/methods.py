"""Methods by name: the paper's two, soft actor-critic, and every target between MBPO and FTFL.

These are the methods whose constants are the same on every task. The benchmark knows more of them, with constants by
task and protocol, in its ``suite/methods.yaml``; a test holds the two to one another.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mbpo.config import InputError, Method, build, nearest

_TARGETS = {
    "mbpo": ("none", "delta"),
    "ftfl": ("both", "next_obs"),
    "norm-only": ("both", "delta"),
    "direct-only": ("none", "next_obs"),
    "reward-norm": ("reward", "delta"),
    "obs-norm": ("obs", "delta"),
    "reward-norm-direct": ("reward", "next_obs"),
    "obs-norm-direct": ("obs", "next_obs"),
    "fitted": ("both", "fitted"),
    "fitted-only": ("none", "fitted"),
    "reward-norm-fitted": ("reward", "fitted"),
    "obs-norm-fitted": ("obs", "fitted"),
}
METHODS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "sac": {"model": None, "utd": 1},
        "sac-utd20": {"model": None, "utd": 20},
        **{name: {"target": {"normalize": how, "predict": what}} for name, (how, what) in _TARGETS.items()},
    }
)
"""Name -> what differs from `Method()`."""


def method(name: str, **changes: Any) -> Method:
    """The method of that name, with `changes`: constants of `Method`, or mappings of those of its parts.

    ``method("ftfl", utd=5, model={"ensemble_size": 3, "hidden_dims": (64, 64), "weight_decay": 1e-4})``.

    Raises:
        InputError: an unknown name or constant, naming the nearest, or a value that is not allowed.
    """
    if not isinstance(name, str) or name not in METHODS:
        told = nearest(name, METHODS) if isinstance(name, str) else f"give a name, not a {type(name).__name__}"
        raise InputError(f"unknown method {name!r}; {told}")
    given: dict[str, Any] = dict(METHODS[name])
    for key, value in changes.items():
        if isinstance(value, Mapping):
            if key in given and given[key] is None:
                raise InputError(f"method {name!r} has no {key}; change one that has, such as 'mbpo'")
            given[key] = {**(given.get(key) or {}), **value}
        else:
            given[key] = value
    return build(Method, given, f"method {name!r}")
