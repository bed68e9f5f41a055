"""All-or-nothing snapshots of a whole training state.

A snapshot is a folder written under a temporary name, whose sentinel file comes last, then renamed.
One without its sentinel is a torn write and is passed over; one that has it and does not load is an
error, never a silent restart.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mbpo.config import InputError

_SENTINEL = "COMPLETE"


def save(folder: Path, step: int, tree: dict[str, Any]) -> Path:
    """Write `tree` (tensors, numbers, strings, lists, dicts) as snapshot `step`; drop older ones after."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:012d}"
    if final.exists():
        return final
    draft = folder / f".{final.name}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    with open(draft / "state.pt", "wb") as file:
        torch.save(tree, file)
        file.flush()
        os.fsync(file.fileno())
    (draft / _SENTINEL).write_text(f"{step}\n")
    draft.rename(final)
    for old in complete(folder):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def complete(folder: Path) -> list[Path]:
    """Complete snapshots in `folder`, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / _SENTINEL).exists())


def load(folder: Path) -> dict[str, Any] | None:
    """The newest complete snapshot in `folder`, on the CPU, or None if there is none.

    Raises:
        InputError: a complete snapshot that cannot be read.
    """
    found = complete(folder)
    if not found:
        return None
    try:
        tree = torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(
            f"checkpoint {found[-1]} is damaged ({type(error).__name__}); delete the folder to train from the start"
        ) from error
    return dict(tree)


@torch.no_grad()
def copy_into(live: Any, saved: Any, where: str = "state") -> None:
    """Copy the tensors of `saved` into those of `live`, a tree of the same form.

    Raises:
        InputError: the trees differ in form, naming the place.
    """
    if isinstance(live, Tensor):
        if not isinstance(saved, Tensor) or live.shape != saved.shape:
            raise InputError(f"checkpoint does not fit this run at {where}; delete it to train from the start")
        live.copy_(saved)
        return
    keys = live.keys() if isinstance(live, dict) else range(len(live))
    if len(live) != len(saved):
        raise InputError(f"checkpoint does not fit this run at {where}; delete it to train from the start")
    for key in keys:
        copy_into(live[key], saved[key], f"{where}.{key}")
