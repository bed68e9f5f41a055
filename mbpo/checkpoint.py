"""All-or-nothing snapshots of a whole training state.

A snapshot is a folder written under a temporary name, whose sentinel file comes last, then renamed.
One without its sentinel is a torn write and is passed over. The sentinel holds the digest of the
state: one that does not match is an error, never a silent restart nor a silent change of numbers.
"""

from __future__ import annotations

import hashlib
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
    if (final / _SENTINEL).exists():
        return final
    draft = folder / f".{final.name}.{os.getpid()}"
    for torn in folder.glob(".step-*"):  # of a killed process: a job's folder has one owner at a time
        shutil.rmtree(torn, ignore_errors=True)
    draft.mkdir()
    with open(draft / "state.pt", "wb") as file:
        torch.save(tree, file)
        file.flush()
        os.fsync(file.fileno())
    (draft / _SENTINEL).write_text(_digest(draft / "state.pt") + "\n")
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    for old in complete(folder):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)
    return final


def _digest(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def complete(folder: Path) -> list[Path]:
    """Complete snapshots in `folder`, oldest first."""
    return sorted(p for p in folder.glob("step-*") if (p / _SENTINEL).exists())


def load(folder: Path) -> dict[str, Any] | None:
    """The newest complete snapshot in `folder`, on the CPU, or None if there is none.

    Raises:
        InputError: a complete snapshot whose state is missing or not what was written.
    """
    found = complete(folder)
    if not found:
        return None
    state = found[-1] / "state.pt"
    if not state.exists() or _digest(state) != (found[-1] / _SENTINEL).read_text().strip():
        raise InputError(f"checkpoint {found[-1]} is damaged; delete the folder to train from the start")
    return dict(torch.load(state, map_location="cpu", weights_only=True))


@torch.no_grad()
def copy_into(live: Any, saved: Any, where: str = "state") -> None:
    """Copy the tensors of `saved` into those of `live`, a tree of the same form.

    Raises:
        InputError: the trees differ in form, naming the place.
    """
    if isinstance(live, Tensor):
        fits = isinstance(saved, Tensor) and live.shape == saved.shape
    elif isinstance(live, dict):
        fits = isinstance(saved, dict) and live.keys() == saved.keys()
    else:
        fits = isinstance(saved, list) and len(live) == len(saved)
    if not fits:
        raise InputError(f"checkpoint does not fit this run at {where}; delete it to train from the start")
    if isinstance(live, Tensor):
        live.copy_(saved)
        return
    for key in live.keys() if isinstance(live, dict) else range(len(live)):
        copy_into(live[key], saved[key], f"{where}.{key}")
