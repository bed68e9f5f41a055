"""The source text behind a user's own environment, as a digest: with another text it is another environment.

Covered are the files that define the environment's class, the classes it inherits from, the wrappers around it and the
function that makes it, but for those of Gymnasium, of this project and of Python itself. Comments and layout do not
count. Not covered is what those files import or read: other modules, XML models, data, environment variables. Of a
script or a session in which the class is defined itself, the class alone counts, where its text can be found at all.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mbpo.envs.load import gym_spec, is_named, load, split_task
from mbpo.envs.tasks import layers

_OTHERS = frozenset({*sys.stdlib_module_names, "gymnasium", "mbpo", "numpy"})
_SCRIPTS = ("__main__", "__mp_main__")


@cache
def digest(task: str) -> str | None:
    """16 hex digits of the source behind `task`; None for a named task, and where no text is to be found."""
    if is_named(task):
        return None
    env = load(task)
    try:
        kinds = [kind for layer in layers(env) for kind in type(layer).__mro__]
    finally:
        env.close()
    texts = {_name(thing): text for thing in [*kinds, *_makers(task)] if (text := _text(thing)) is not None}
    if not texts:
        return None
    told = "\n".join(f"{name} {hashlib.sha256(text).hexdigest()}" for name, text in sorted(texts.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _makers(task: str) -> Iterator[Any]:
    """The function that is registered as the task's entry point, if it is one."""
    entry = gym_spec(task).entry_point if split_task(task)[0] == "gym" else None
    if callable(entry):
        yield entry


def _name(thing: Any) -> str:
    """The module of a class or function, or of a script its own name."""
    module = str(getattr(thing, "__module__", ""))
    return f"script:{thing.__qualname__}" if module in _SCRIPTS else module


def _text(thing: Any) -> bytes | None:
    """What decides about a class or function; None where that is somebody else's or cannot be found."""
    module = str(getattr(thing, "__module__", ""))
    if not module or module.split(".")[0] in _OTHERS:
        return None
    try:
        if module in _SCRIPTS:
            return _meaning(inspect.cleandoc(inspect.getsource(thing)).encode())
        return _meaning(Path(inspect.getsourcefile(thing) or inspect.getfile(thing)).read_bytes())
    except (OSError, TypeError):
        return None


def _meaning(source: bytes) -> bytes:
    """Python's own reading of a text, which has neither comments nor layout; other files as they are."""
    try:
        return ast.dump(ast.parse(source)).encode()
    except (SyntaxError, ValueError):
        return source
