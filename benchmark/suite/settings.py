"""Constants that a user sets for one call, on top of a protocol's: ``sac.init_temperature=1e-4``.

They are part of the run's key like every constant. What makes a method that method cannot be set: another method is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmark.records.spec import Kind
from benchmark.suite.catalogue import Suite
from benchmark.suite.constants import READ, READ_WITHOUT_MODEL, defaults
from benchmark.suite.entries import Protocol
from benchmark.suite.load import load_suite
from mbpo.config import InputError, nearest

Settings = Mapping[str, Any]
"""Dotted path of a constant -> its value."""
_WORDS = {"none": None, "null": None, "true": True, "false": False}


def parse(given: Iterable[str]) -> dict[str, Any]:
    """``["sac.discount=0.995"]`` as a mapping. Raises `InputError` for another form and for an unknown constant."""
    settings: dict[str, Any] = {}
    for text in given:
        path, equals, value = text.partition("=")
        path, value = path.strip(), value.strip()
        if not equals or not value:
            raise InputError(f"--set {text!r}: write constant=value, such as sac.discount=0.995")
        if path not in defaults():
            raise InputError(f"--set {path}: no such constant; {nearest(path, defaults())}")
        if path in settings:
            raise InputError(f"--set {path}: given twice")
        settings[path] = _value(value)
    return settings


def written(settings: Settings) -> list[str]:
    """The words of a command line that set them."""
    return [word for path, value in settings.items() for word in ("--set", f"{path}={_text(value)}")]


def with_settings(
    protocol: Protocol, kind: Kind, settings: Settings, methods: Sequence[str], suite: Suite | None = None
) -> Protocol:
    """`protocol` with `settings` on every task, for runs of `kind`.

    Raises `InputError` for a constant that makes one of `methods` what it is, and for one that none of them reads.
    """
    suite = suite or load_suite()
    for path in settings:
        _check(path, kind, methods, suite)
    if not settings:
        return protocol
    changed: dict[str, Any] = {}
    for name in ("train",) if kind == "train" else ("fit", "probe"):
        plan = getattr(protocol, name)
        if plan is None:
            continue
        if name == "probe":
            changed[name] = plan.model_copy(update={"overrides": {**plan.overrides, **settings}})
        else:  # every task's id begins with nothing, and the last entry wins
            changed[name] = plan.model_copy(update={"by_task": {**plan.by_task, "": dict(settings)}})
    return protocol.model_copy(update=changed)


def _check(path: str, kind: Kind, methods: Sequence[str], suite: Suite) -> None:
    part, read = path.split(".")[0], False
    if part == "target":
        raise InputError(f"--set {path}: the target is what tells methods apart; give another --method")
    for name in methods:
        own = suite.methods[name].constants if name in suite.methods else {}
        if path in own:
            raise InputError(f"--set {path}: {name!r} is what it is by its own {path} = {_text(own[path].value)}")
        without = "model" in own
        read |= part in (READ_WITHOUT_MODEL if without else READ[kind]) and not (without and part == "model")
    if methods and not read:
        raise InputError(f"--set {path}: no {kind!r} run of {', '.join(methods)} reads it; leave it out")


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
