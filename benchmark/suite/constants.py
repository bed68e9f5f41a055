"""How a method's constants come about: layers of them by dotted path, later ones winning.

The layers are those of its family (some of them by task), the protocol's overrides, and the method's own. The method's
own come last because they are what makes it that method: a protocol that shrinks every network must not turn
`ftfl-tuned` into `ftfl`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel

from benchmark.records.spec import Kind
from benchmark.suite.entries import Constant, Family
from mbpo.config import Method

READ_WITHOUT_MODEL = ("model", "sac", "utd", "random_steps", "real_capacity")
"""What SAC reads of a method. The rest stays at its default, so that it cannot give equal runs unequal keys."""
READ = {
    "train": tuple(Method.model_fields),
    "fit": ("model", "target"),
    "probe": ("model", "target", "sac"),
}
"""What a run of each kind reads of a method that has a model."""


class ConstantRow(NamedTuple):
    """One line of the table of constants."""

    constant: str
    value: Any
    unit: str
    source: str
    origin: str  # "family paper", "method ftfl", "protocol quick"


@cache
def defaults() -> dict[str, ConstantRow]:
    """Every constant of a `Method` by its dotted path, as mbpo/config.py has it."""
    return {row.constant: row for row in _leaves(Method(), "")}


def _leaves(config: BaseModel, prefix: str) -> Iterator[ConstantRow]:
    values = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        part = getattr(config, name)
        if isinstance(part, BaseModel):
            yield from _leaves(part, f"{prefix}{name}.")
        else:
            about = field.json_schema_extra
            assert isinstance(about, dict), "a field of mbpo/config.py is a `constant`"
            yield ConstantRow(prefix + name, values[name], str(about["unit"]), str(about["source"]), "default")


def with_defaults(family: Family) -> Family:
    """`family` with the default and the source in mbpo/config.py of every constant that it does not state itself."""
    stated = {path: Constant(value=row.value, source=row.source) for path, row in defaults().items()}
    return family.model_copy(update={"constants": stated | family.constants})


def resolve(layers: Sequence[tuple[str, Mapping[str, Constant]]], task: str, kind: Kind) -> list[ConstantRow]:
    """Of every constant that a run of `kind` reads, what the last layer says; each layer comes with its origin."""
    rows: dict[str, ConstantRow] = {}
    for origin, constants in layers:
        for path, constant in constants.items():
            value = constant.value if constant.by_task is None else constant.by_task[task]
            unit = defaults()[path].unit if path in defaults() else ""
            rows[path] = ConstantRow(path, value, unit, constant.source, origin)
    if "model" in rows:  # only ever null: a method without a model
        read: tuple[str, ...] = READ_WITHOUT_MODEL
        rows = {path: row for path, row in rows.items() if not path.startswith("model.")}
    else:
        read = READ[kind]
    return [row for path, row in rows.items() if path.split(".")[0] in read]


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The values of dotted paths as a tree of mappings."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[name] = value
    return tree
