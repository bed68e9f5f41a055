"""Where kept policies lie and what their files are called: a folder a run, named by its key. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mbpo.config import InputError

ENDING = ".safetensors"
FINAL, BEST = "final", "best"
FOLDERS = (Path(".cache/policies"), Path("results/policies"))
"""Where a key is looked for: what runs keep by themselves, and what was kept with the results."""
LEAST = 6
"""Digits of a key that name a run."""


def find(path_or_key: Path | str, which: str = FINAL, folders: Sequence[Path] = FOLDERS) -> Path:
    """The file that `load_policy` would read. Raises `InputError` where there is none, or more than one run fits."""
    path = Path(path_or_key)
    if path.is_file():
        return path
    key = str(path_or_key)
    held = [path] if path.is_dir() else []
    if not held and len(key) >= LEAST and key.isalnum():
        held = [place for folder in folders for place in sorted(folder.glob(f"{key}*")) if place.is_dir()]
    if len({place.name for place in held}) > 1:
        raise InputError(f"{key!r} names several runs: {', '.join(sorted({place.name for place in held}))}")
    files = [place / f"{which}{ENDING}" for place in held]
    for file in files:
        if file.is_file():
            return file
    if held:
        there = sorted(file.stem for place in held for file in place.glob(f"*{ENDING}"))
        raise InputError(f"{key!r} has no {which!r} policy; there is {', '.join(there) or 'none'}")
    where = " or ".join(str(folder) for folder in folders)
    raise InputError(f"{key!r} is neither a file nor the key of a run whose policy is kept in {where}")
