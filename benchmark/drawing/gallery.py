"""Figures that need not be drawn again: each is kept with the digest of all that decides how it looks.

``figures/manifest.json`` says of every figure of the last report what it was made from (its numbers, the code under
`benchmark`, the libraries) and what was made: digests of its file and of its elements on the page. A figure is taken
over only where all of these are as they were; where anything differs, or cannot be told, it is drawn.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Mapping
from contextlib import ContextDecorator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ft2font

MANIFEST = Path("figures") / "manifest.json"
PAGE = "report.html"
SOURCES = Path(__file__).parents[1]
LIBRARIES = ("matplotlib", "numpy", "pandas")
_ELEMENT = re.compile(r'<svg role="img".*?</svg>', re.DOTALL)


@dataclass(frozen=True)
class Drawn:
    """A figure as it stands on a page: its caption, and an svg element for each width."""

    caption: str
    elements: tuple[str, ...]


class Gallery:
    """The figures under the results folder `folder`; `earlier` is where those of the last report are."""

    def __init__(self, folder: Path, earlier: Path | None = None) -> None:
        self.folder, self.earlier = Path(folder), Path(earlier or folder)
        page = self.earlier / PAGE
        text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
        self._elements = {_sha256(element): element for element in _ELEMENT.findall(text)}
        self._before = _read(self.earlier / MANIFEST)
        self._now: dict[str, Any] = {}

    def draw(
        self, place: str, name: str, inputs: object, make: Callable[[Path], Mapping[str, Drawn]]
    ) -> dict[str, Drawn]:
        """The figures `name` under the subfolder `place`, taken over or made.

        Args:
            place: subfolder of the results, such as ``figures``.
            name: of the figure, or of a group that is drawn together.
            inputs: all numbers and words that the figures are made of.
            make: draws and saves ``<figure>.svg`` in the folder that it is given.
        """
        key = _key(inputs)
        group = f"{place}/{name}"
        drawn = self._taken_over(place, self._before.get(group), key)
        if drawn is None:
            drawn = dict(make(self.folder / place))
        if key is not None and drawn:
            self._now[group] = {"inputs": key, "figures": {n: self._entry(place, n, d) for n, d in drawn.items()}}
        return drawn

    def write(self) -> None:
        """Write the manifest of the figures that were made or taken over; none where there is no figure."""
        if self._now:
            path = self.folder / MANIFEST
            path.parent.mkdir(parents=True, exist_ok=True)
            # In the order of the page, which the figures of a group keep when they are taken over.
            path.write_text(json.dumps(self._now, indent=1) + "\n", encoding="utf-8")

    def _entry(self, place: str, name: str, drawn: Drawn) -> dict[str, Any]:
        file = _sha256((self.folder / place / f"{name}.svg").read_text(encoding="utf-8"))
        return {"caption": drawn.caption, "file": file, "elements": [_sha256(text) for text in drawn.elements]}

    def _taken_over(self, place: str, entry: Any, key: str | None) -> dict[str, Drawn] | None:
        """The figures of an entry of the manifest, or None where one is not what was drawn from these inputs."""
        if key is None or not isinstance(entry, dict) or entry.get("inputs") != key:
            return None
        found: dict[str, Drawn] = {}
        files: dict[str, str] = {}
        for name, told in entry["figures"].items():
            path = self.earlier / place / f"{name}.svg"
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            elements = [self._elements.get(digest) for digest in told["elements"]]
            if _sha256(text) != told["file"] or None in elements:
                return None
            files[name] = text
            found[name] = Drawn(told["caption"], tuple(str(element) for element in elements))
        if self.folder != self.earlier:
            for name, text in files.items():
                path = self.folder / place / f"{name}.svg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
        return found


def _read(path: Path) -> dict[str, Any]:
    """The entries of a manifest that are whole; none of one that cannot be read."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {
            group: entry
            for group, entry in entries.items()
            if all({"caption", "file", "elements"} <= figure.keys() for figure in entry["figures"].values())
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _surroundings() -> str:
    """The digest of all code of the benchmark, of the libraries that draw, and of their settings."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        digest.update(f"{path.relative_to(SOURCES)}\0".encode() + path.read_bytes() + b"\0")
    told = [f"{name} {version(name)}" for name in LIBRARIES] + [platform.python_version(), platform.machine()]
    told.append(ft2font.__freetype_version__)
    settings = {name: value for name, value in mpl.rcParams.copy().items() if not name.startswith("backend")}
    digest.update(repr((told, sorted(settings.items()))).encode())
    return digest.hexdigest()


def _key(inputs: object) -> str | None:
    """The digest of `inputs` and of what surrounds them; None of inputs that cannot be told apart."""
    digest = hashlib.sha256(_surroundings().encode())
    try:
        _feed(digest.update, inputs)
    except TypeError:
        return None
    return digest.hexdigest()


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    """Feed a digest with `value` by type and content; raises `TypeError` for a type that it does not know."""
    update(f"<{type(value).__qualname__}>".encode())
    parts: list[Any]
    if value is None or isinstance(value, bool | int | float | str | bytes | np.generic):
        update(repr(value).encode())
        return
    if isinstance(value, np.ndarray) and value.dtype != object:
        update(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        return
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = [value.__module__, value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    elif isinstance(value, CodeType):
        parts = [value.co_code, value.co_names, list(value.co_consts)]
    elif isinstance(value, partial):
        parts = [value.func, value.args, value.keywords]
    elif isinstance(value, ContextDecorator) and {"func", "args", "kwds"} <= vars(value).keys():
        parts = [vars(value)[name] for name in ("func", "args", "kwds")]  # of `contextlib.contextmanager`
    elif callable(value) and hasattr(value, "__self__") and not isinstance(value.__self__, ModuleType):
        parts = [value.__self__, value.__name__]  # a bound method
    elif isinstance(value, type | np.ufunc) or (callable(value) and isinstance(getattr(value, "__name__", None), str)):
        parts = [getattr(value, "__module__", ""), value.__name__]
    elif isinstance(value, pd.DataFrame):
        parts = [list(value.columns), value.index, *(value[column].array for column in value.columns)]
    elif isinstance(value, pd.Series):
        parts = [value.name, value.index, value.array]
    elif isinstance(value, pd.RangeIndex):
        parts = [value.start, value.stop, value.step]
    elif isinstance(value, pd.Index | pd.api.extensions.ExtensionArray):
        parts = [str(value.dtype), np.asarray(value) if value.dtype != "Int64" else value.tolist()]
    elif isinstance(value, np.ndarray):
        parts = [value.shape, *value.ravel().tolist()]
    elif isinstance(value, Mapping):
        parts = [item for pair in value.items() for item in pair]
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, set | frozenset):
        parts = sorted(value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, field.name) for field in fields(value)]
    elif value is pd.NA or value is pd.NaT:
        return
    else:
        raise TypeError(f"a {type(value)} cannot be told from another")
    update(f"{len(parts)}".encode())
    for part in parts:
        _feed(update, part)
