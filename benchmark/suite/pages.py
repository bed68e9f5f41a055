"""The YAML pages under `suite/`, read into checked mappings and entries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from mbpo.config import Config, InputError, build, nearest

SUITE = Path(__file__).parent
C = TypeVar("C", bound=Config)


def load_page(name: str, folder: Path = SUITE, keys: Sequence[str] = ()) -> dict[str, Any]:
    """One YAML page as a mapping; with `keys`, exactly these at its top.

    Raises `InputError` for a page that cannot be read or parsed, and for a key that is unknown, missing or given twice.
    """
    path = folder / name
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except OSError as error:
        raise InputError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not text in UTF-8: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
    page = mapping(data, name)
    for key in page if keys else ():
        if key not in keys:
            raise InputError(f"{name}: unknown key {key!r}; {nearest(key, keys)}")
    for key in keys:
        if key not in page:
            raise InputError(f"{name}: the key {key!r} is missing")
    return page


def mapping(data: Any, where: str) -> dict[str, Any]:
    """`data` if it is a mapping from names. Raises `InputError` if not."""
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InputError(f"{where}: a mapping from names is needed here, not {type(data).__name__}")
    return data


def entries(cls: type[C], data: Any, where: str, name_field: str = "") -> dict[str, C]:
    """Each entry of the mapping `data` as a `cls`, whose `name_field` takes its name. Raises `InputError`."""
    named = {}
    for name, entry in mapping(data, where).items():
        fields = mapping(entry, f"{where}: {name}")
        named[name] = build(cls, {name_field: name, **fields} if name_field else fields, f"{where}: {name}")
    return named


def check_known(name: Any, known: Iterable[str], where: str) -> None:
    """Raise `InputError`, with the nearest choice, for a name that is not among the `known`."""
    if name not in (known := list(known)):
        raise InputError(f"{where} = {name!r}: not a choice; {nearest(str(name), known)}")


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast, where it is built in


class _UniqueKeys(_LOADER):
    """YAML keeps the last of two equal keys in silence; this refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made
