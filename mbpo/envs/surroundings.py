"""What a whole process shares, so that an environment that changes it changes more than itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

DIRECTORY, DTYPE = "the working directory", "torch's default dtype"
GRAVE = {
    DIRECTORY: "results would be written elsewhere; give it whole paths",
    DTYPE: "networks would be made in another precision; give its own tensors a dtype",
}
"""Changes that make what comes after wrong, and what to do; others are only told."""
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def look() -> dict[str, Any]:
    """The state of this process, by name. Of torch only where that is imported already."""
    torch = sys.modules.get("torch")
    return {
        DIRECTORY: os.getcwd(),
        "what signals that end a program do": {number: signal.getsignal(number) for number in _SIGNALS},
        "NumPy's handling of floating-point errors": np.geterr(),
        **({} if torch is None else {DTYPE: torch.get_default_dtype(), "torch's threads": torch.get_num_threads()}),
    }


def changed(before: Mapping[str, Any]) -> list[str]:
    """The names of what is otherwise than `before`, which is put back."""
    now = look()
    names = [name for name, value in before.items() if now[name] != value]
    for name in names:
        with suppress(OSError, RuntimeError, ValueError, TypeError):  # what cannot be put back is told nevertheless
            _put_back(name, before[name])
    return names


def _put_back(name: str, value: Any) -> None:
    torch = sys.modules.get("torch")
    ways: dict[str, Callable[[Any], Any]] = {
        DIRECTORY: os.chdir,
        "what signals that end a program do": _heed,
        "NumPy's handling of floating-point errors": lambda errors: np.seterr(**errors),
        **({} if torch is None else {DTYPE: torch.set_default_dtype, "torch's threads": torch.set_num_threads}),
    }
    ways[name](value)


def _heed(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        if threading.current_thread() is threading.main_thread() and handler is not None:
            signal.signal(number, handler)
