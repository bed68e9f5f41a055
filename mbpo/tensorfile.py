"""Small files of tensors with a page of JSON: the safetensors format, which holds numbers and text and runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mbpo.config import InputError
from mbpo.kept import ENDING

_PAGE, _KIND, _VERSION = "mbpo", "kind", "version"
VERSION = 1
"""The version of the page that is written; raised where older code would misread it."""


def write(path: Path, kind: str, tensors: Mapping[str, Tensor], page: Mapping[str, Any]) -> None:
    """Write `tensors` and `page` so that no reader ever sees half of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(owned, draft, {_PAGE: json.dumps({_KIND: kind, _VERSION: VERSION, **page})})
        with open(draft, "rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def page_of(path: Path, kind: str) -> dict[str, Any]:
    """The page of the file at `path` alone. Raises `InputError` as `read` does."""
    return _open(path, kind, tensors=False)[1]


def read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and page of the file at `path`.

    Raises `InputError` for a file that is missing, damaged, of another kind or of a newer version.
    """
    return _open(path, kind, tensors=True)


def _open(path: Path, kind: str, tensors: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            page = json.loads((file.metadata() or {}).get(_PAGE, "{}"))
            found = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"there is no file {str(path)!r}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} is not a whole {ENDING} file: {error}") from None
    if page.get(_KIND) != kind:
        raise InputError(f"{str(path)!r} holds {page.get(_KIND, 'something else')}, not a {kind}")
    if page[_VERSION] > VERSION:
        raise InputError(f"{str(path)!r} was written by a newer version of this project; update it")
    return found, page


def take(into: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Copy the tensors `found` in the file at `path` over those of the same names. Raises `InputError` if they differ.

    A tensor that has a leading axis of one run in memory is stored without it.
    """
    for name, tensor in into.items():
        if name not in found or found[name].shape != tensor.shape[1:]:
            raise InputError(f"{str(path)!r} does not fit what its own page says at {name}; it was changed")
        with torch.no_grad():
            tensor[0].copy_(found[name])
