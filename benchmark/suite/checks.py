"""What no single entry of a page can know: names that point at other entries, and constants that exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.suite.catalogue import Suite
from benchmark.suite.constants import defaults
from benchmark.suite.entries import Protocol
from benchmark.suite.pages import check_known
from mbpo.config import InputError, nearest


def check(suite: Suite) -> None:
    """Raise `InputError` for a name that points at no entry, a constant that does not exist, or a method not whole."""
    for name, entry in suite.methods.items():
        check_known(entry.family, suite.families, f"methods.yaml: {name}.family")
        _check_paths(entry.constants, f"methods.yaml: {name}.constants", null_model=True)
        varying = [path for path, constant in entry.constants.items() if constant.by_task is not None]
        if varying:
            raise InputError(f"methods.yaml: {name}.constants.{varying[0]}: by_task belongs in a family")
    for name, family in suite.families.items():
        _check_paths(family.constants, f"methods.yaml: {name}.constants")
        for path, constant in family.constants.items():
            odd = set(constant.by_task or ()) ^ set(family.tasks or ()) if constant.by_task is not None else set()
            if odd:
                raise InputError(f"methods.yaml: {name}.constants.{path}: {sorted(odd)[0]!r} is not in every by_task")
    for name, protocol in suite.protocols.items():
        _check_protocol(name, protocol, suite)
    _check_methods(suite)


def _check_protocol(name: str, protocol: Protocol, suite: Suite) -> None:
    plans = {kind: getattr(protocol, kind) for kind in ("train", "fit", "replay", "probe")}
    for kind, plan in plans.items():
        if plan is None:
            continue
        _check_paths(plan.overrides, f"protocols.yaml: {name}.{kind}.overrides")
        for beginning, more in getattr(plan, "by_task", {}).items():
            where = f"protocols.yaml: {name}.{kind}.by_task"
            if not any(task.startswith(beginning) for task in suite.tasks):
                raise InputError(f"{where}: {beginning!r}: no task begins so; {nearest(beginning, suite.tasks)}")
            _check_paths(more, f"{where}.{beginning}")
        for task in getattr(plan, "tasks", None) or ():
            check_known(task, suite.tasks, f"protocols.yaml: {name}.{kind}.tasks")
    steps = protocol.train.env_steps
    for key in steps if isinstance(steps, dict) else ():
        check_known(key, ["dmc", "gym", *suite.tasks], f"protocols.yaml: {name}.train.env_steps")
        protocol.train.budget(key)


def _check_methods(suite: Suite) -> None:
    """Every method must come out whole under every protocol, before any run asks for it."""
    for name, entry in suite.methods.items():
        task = (suite.families[entry.family].tasks or list(suite.tasks))[0]
        for protocol in suite.protocols.values():
            suite.method(name, task, protocol)
            if "model" not in entry.constants:
                suite.method(name, task, protocol, "fit")


def _check_paths(constants: Mapping[str, Any], where: str, null_model: bool = False) -> None:
    for path, constant in constants.items():
        if null_model and path == "model" and constant.value is None:
            continue
        if path not in defaults():
            raise InputError(f"{where}: unknown constant {path!r}; {nearest(path, defaults())}")
