"""Trees of tensors, dicts and lists of them: what a snapshot holds, copied, cut to one run, or compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from mbpo.config import InputError


@torch.no_grad()
def copy_into(live: Any, saved: Any, where: str = "state") -> None:
    """Copy the tensors of `saved` into those of `live`, a tree of the same form.

    Raises:
        InputError: the trees differ in form, with the path to where.
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


def of_run(tree: Any, run: int, runs: int) -> Any:
    """The part of a tree of tensors that belongs to one of `runs`: views ``(1, ...)`` of tensors ``(R, ...)``.

    What all runs have in common, such as Adam's step counts ``(1, n)``, is kept whole.
    """
    return _mapped(tree, lambda tensor: tensor[run : run + 1] if len(tensor) == runs else tensor)


def own(tree: Any) -> Any:
    """The same tree on the CPU with memory of its own: a saved view would drag along all runs."""
    return _mapped(tree, lambda tensor: tensor.detach().cpu().clone())


def _mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {name: _mapped(value, change) for name, value in tree.items()}
    return [_mapped(value, change) for value in tree] if isinstance(tree, list) else change(tree)


def same_keys(trees: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names that all of `trees` have. Raises `InputError` where they differ."""
    first, *rest = [list(tree) for tree in trees]
    if any(set(other) != set(first) for other in rest):
        raise InputError("the checkpoints of these runs hold different measures; train them in as many calls")
    return first
