"""Validated, frozen configuration: strict names, one clear sentence for whatever is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class InputError(ValueError):
    """Unusable input. The message is one sentence: what is wrong and how to mend it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'did you mean X?' for the closest known name, else the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known)


class Config(BaseModel):
    """Frozen, and strict about names: an unknown key is an error that names the nearest field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def constant(default: Any, doc: str, *, unit: str = "", source: str = "", **bounds: Any) -> Any:
    """A field with its meaning, unit and source; `bounds` are pydantic's (gt, ge, lt, le)."""
    return Field(default, description=doc, json_schema_extra={"unit": unit, "source": source}, **bounds)


C = TypeVar("C", bound=Config)


def build(cls: type[C], data: Mapping[str, Any], where: str = "") -> C:
    """Validate `data` into `cls`; `where` is the file or method that an error names.

    Raises:
        InputError: one sentence for the first fault: the field, the value, the nearest valid choice.
    """
    try:
        return cls.model_validate(data)
    except ValidationError as error:
        raise InputError(_sentence(cls, error, where)) from None


def _sentence(cls: type[Config], error: ValidationError, where: str) -> str:
    fault = error.errors()[0]
    path = ".".join([where, *map(str, fault["loc"])] if where else map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown field; {nearest(str(fault['loc'][-1]), _fields(cls, fault['loc'][:-1]))}"
    if fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        return f"{path} = {fault['input']!r}: not a choice; {nearest(str(fault['input']), expected)}"
    if fault["type"] == "missing":
        return f"{path}: this field is required"
    message = fault["msg"].removeprefix("Value error, ").replace("Input should", "should")
    if fault["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path} = {fault['input']!r}: {message}"


def _fields(cls: Any, path: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that `path` leads to from `cls`."""
    for step in path:
        annotation = cls.model_fields[step].annotation if step in getattr(cls, "model_fields", {}) else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not models:
            return []
        cls = models[0]
    return list(cls.model_fields)
