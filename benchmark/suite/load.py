"""The pages under `suite/`: tasks, methods and protocols as data, read once and checked whole.

A method on a task is three layers of constants, later ones winning: its family's (some of them by task), the protocol's
overrides, and the method's own. The method's own come last because they are what makes it that method: a protocol that
shrinks every network must not turn `ftfl-tuned` into `ftfl`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel

from benchmark.records.spec import FitBudget, Kind, Precision, Replay, RunSpec
from benchmark.suite.entries import Constant, Family, MethodEntry, Protocol, TaskEntry
from mbpo.config import Config, InputError, Method, build, nearest

__all__ = ["SUITE", "Protocol", "Suite", "TaskEntry", "load_page", "load_suite", "specs"]

SUITE = Path(__file__).parent
READ_WITHOUT_MODEL = ("model", "sac", "utd", "random_steps", "real_capacity")
"""What SAC reads of a method. The rest stays at its default, so that it cannot give equal runs unequal keys."""
READ = {
    "train": tuple(Method.model_fields),
    "fit": ("model", "target"),
    "probe": ("model", "target", "sac"),
}
"""What a run of each kind reads of a method that has a model."""
Source = Literal["random", "replay"]
"""Whose data a fit is made on: a uniformly random policy's, or those of the protocol's `replay` plan."""
C = TypeVar("C", bound=Config)


class ConstantRow(NamedTuple):
    """One line of the table of constants."""

    constant: str
    value: Any
    unit: str
    source: str
    origin: str  # "family paper", "method ftfl", "protocol quick"


@dataclass(frozen=True)
class Suite:
    """All pages but the claims."""

    tasks: Mapping[str, TaskEntry]
    families: Mapping[str, Family]
    methods: Mapping[str, MethodEntry]
    protocols: Mapping[str, Protocol]

    def task(self, name: str) -> TaskEntry:
        """The task's entry; a registered task that is on no page gets one without scores. Raises `InputError`."""
        if name in self.tasks:
            return self.tasks[name]
        if ":" not in name:
            raise InputError(f"unknown task {name!r}; {nearest(name, self.tasks)}")
        info = import_module("mbpo.envs").task_info(name)
        sizes = {"obs_dim": info.obs_dim, "action_dim": info.action_dim, "time_limit": info.time_limit}
        return TaskEntry(suite="dmc" if name.startswith("dmc:") else "gym", **sizes)

    def protocol(self, name: str) -> Protocol:
        """Raises `InputError` that names the nearest protocol."""
        if name not in self.protocols:
            raise InputError(f"unknown protocol {name!r}; {nearest(name, self.protocols)}")
        return self.protocols[name]

    def method(self, name: str, task: str, protocol: Protocol | str | None = None, kind: Kind = "train") -> Method:
        """The method's constants on `task` under `protocol`, as a run of `kind` reads them.

        Raises `InputError` for an unknown name, a task that the method's family has no constants for, a method without
        a model where a model is to be fitted, or constants that do not fit together.
        """
        flat = {row.constant: row.value for row in self.constants(name, task, protocol, kind)}
        if kind != "train" and "model" in flat:
            raise InputError(f"method {name!r} has no model to fit; give one that has, such as 'mbpo'")
        where = f"method {name!r} on {task!r}"
        if protocol is not None:
            where += f" under protocol {self._protocol(protocol).name!r}"
        return build(Method, _nest(flat), where)

    def constants(
        self, name: str, task: str, protocol: Protocol | str | None = None, kind: Kind = "train"
    ) -> list[ConstantRow]:
        """The constants that `method` assembles, each with its unit, source and the page it came from."""
        if name not in self.methods:
            raise InputError(f"unknown method {name!r}; {nearest(name, self.methods)}")
        self.task(task)
        entry = self.methods[name]
        family = self.families[entry.family]
        if family.tasks is not None and task not in family.tasks:
            raise InputError(
                f"method {name!r} has no constants for {task!r}: the {entry.family!r} family has them for "
                f"{', '.join(family.tasks)}; use one of these, or a method of another family"
            )
        layers = [(f"family {entry.family}", family.constants)]
        if protocol is not None:
            page = self._protocol(protocol)
            origin = f"protocol {page.name}"
            over = {path: Constant(value=value, source=origin) for path, value in page.overrides(kind, task).items()}
            layers.append((origin, over))
        layers.append((f"method {name}", entry.constants))
        return _resolve(layers, task, kind)

    def _protocol(self, protocol: Protocol | str) -> Protocol:
        return self.protocol(protocol) if isinstance(protocol, str) else protocol


def specs(
    kind: Kind,
    tasks: Sequence[str],
    methods: Sequence[str],
    protocol: Protocol | str,
    seeds: int | Iterable[int] | None = None,
    *,
    drop: Sequence[str] = (),
    precision: Precision = "fp32",
    source: Source = "random",
    suite: Suite | None = None,
    numerics_version: int | None = None,
) -> list[RunSpec]:
    """The runs of every method on every task, ordered by task, method, seed.

    `seeds` is a count, the seeds themselves, or None for the protocol's own number; `source` says whose data
    fits are made on; `numerics_version` asks for the records of another version than this code's. Raises `InputError`.
    """
    suite = suite or load_suite()
    page = suite.protocol(protocol) if isinstance(protocol, str) else protocol
    numbers = range(page.seeds if seeds is None else seeds) if not isinstance(seeds, Iterable) else list(seeds)
    if not len(numbers):
        raise InputError(f"seeds = {seeds}: give at least 1")
    found = []
    for task in tasks:
        suite.task(task)  # before the budget, which would blame the page for a task that does not exist
        plan = _plan(kind, task, page, source, suite)
        for name in methods:
            common = {"kind": kind, "task": task, "drop": tuple(drop), "method": name, "precision": precision, **plan}
            common |= {} if numerics_version is None else {"numerics_version": numerics_version}
            common["constants"] = suite.method(name, task, page, kind)
            found += [build(RunSpec, {**common, "seed": seed}, f"run of {name!r} on {task!r}") for seed in numbers]
    return found


def _plan(kind: Kind, task: str, page: Protocol, source: Source, suite: Suite) -> dict[str, Config]:
    """The fields that say how long a run of `kind` is."""
    if kind == "train":
        return {"budget": page.train.budget(task)}
    if source == "random" and kind == "fit":
        return {"fit": page.fit.budget()}
    replay = page.replay
    if replay is None or (kind == "probe" and page.probe is None):
        missing = "replay" if replay is None else "probe"
        raise InputError(f"protocol {page.name!r} has no `{missing}` plan; give one that has, such as 'quick'")
    whose = page.model_copy(update={"train": replay})
    collector = Replay(
        method=replay.method,
        constants=suite.method(replay.method, task, whose),
        budget=replay.budget(task),
        precision=replay.precision,
        step=replay.step,
        numerics_version=replay.numerics_version,
    )
    fit = FitBudget(transitions=replay.transitions, heldout=replay.heldout, source=collector)
    if page.probe is None or kind == "fit":
        return {"fit": fit}
    return {"fit": fit, "probe": page.probe.budget()}


@cache
def load_suite(folder: Path = SUITE) -> Suite:
    """Read and check the pages. Raises `InputError` with the page, the key and its nearest valid choice."""
    tasks = {
        name: build(TaskEntry, _table(data, f"tasks.yaml: {name}"), f"tasks.yaml: {name}")
        for name, data in load_page("tasks.yaml", folder).items()
    }
    page = load_page("methods.yaml", folder, ("families", "methods"))
    families = {name: _whole(family) for name, family in _entries(Family, page, "families", "methods.yaml").items()}
    methods = _entries(MethodEntry, page, "methods", "methods.yaml")
    protocols = {
        name: build(Protocol, {"name": name, **_table(data, f"protocols.yaml: {name}")}, f"protocols.yaml: {name}")
        for name, data in load_page("protocols.yaml", folder).items()
    }
    suite = Suite(tasks, families, methods, protocols)
    _check(suite)
    return suite


def load_page(name: str, folder: Path = SUITE, keys: Sequence[str] | None = None) -> dict[str, Any]:
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
    table = _table(data, name)
    for key in [] if keys is None else table:
        if key not in (keys or ()):
            raise InputError(f"{name}: unknown key {key!r}; {nearest(str(key), keys or ())}")
    for key in keys or ():
        if key not in table:
            raise InputError(f"{name}: the key {key!r} is missing")
    return table


def _whole(family: Family) -> Family:
    """`family` with the default and the source in mbpo/config.py of every constant that it does not state itself."""
    named = {path: Constant(value=_at(Method(), path), source=field.source) for path, field in _fields().items()}
    return family.model_copy(update={"constants": {**named, **family.constants}})


def _at(method: Method, path: str) -> Any:
    value: Any = method.model_dump(mode="json")
    for name in path.split("."):
        value = value[name]
    return value


class _Leaf(NamedTuple):
    """What mbpo/config.py says of a constant."""

    unit: str
    source: str


def constants_of_a_method() -> dict[str, str]:
    """Dotted path of every constant in `Method`, and its unit."""
    return {path: leaf.unit for path, leaf in _fields().items()}


@cache
def _fields() -> dict[str, _Leaf]:
    return dict(_leaves(Method, ""))


def _leaves(cls: type[BaseModel], prefix: str) -> Iterable[tuple[str, _Leaf]]:
    for name, field in cls.model_fields.items():
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if inner:
            yield from _leaves(inner[0], f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            yield prefix + name, _Leaf(str(extra.get("unit", "")), str(extra.get("source", "")))


def _resolve(layers: Sequence[tuple[str, Mapping[str, Constant]]], task: str, kind: Kind) -> list[ConstantRow]:
    """The last layer's say on each constant that the run reads."""
    rows: dict[str, ConstantRow] = {}
    units = constants_of_a_method()
    for origin, constants in layers:
        for path, constant in constants.items():
            value = constant.value if constant.by_task is None else constant.by_task[task]
            rows[path] = ConstantRow(path, value, units.get(path, ""), constant.source, origin)
    if "model" in rows:  # only ever null: a method without a model
        read: tuple[str, ...] = READ_WITHOUT_MODEL
        rows = {path: row for path, row in rows.items() if not path.startswith("model.")}
    else:
        read = READ[kind]
    return [row for path, row in rows.items() if path.split(".")[0] in read]


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    return nested


def _check(suite: Suite) -> None:
    """What no single entry can know: names that point at other entries, and constants that exist."""
    for name, entry in suite.methods.items():
        if entry.family not in suite.families:
            raise InputError(f"methods.yaml: {name}.family = {entry.family!r}: {nearest(entry.family, suite.families)}")
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
                if task not in suite.tasks:
                    raise InputError(f"protocols.yaml: {name}.{kind}.tasks: {task!r}; {nearest(task, suite.tasks)}")
        steps = protocol.train.env_steps
        for key in steps if isinstance(steps, dict) else ():
            if key not in {"dmc", "gym", *suite.tasks}:
                raise InputError(f"protocols.yaml: {name}.train.env_steps: {key!r}; {nearest(key, suite.tasks)}")
            protocol.train.budget(key)
    _check_methods(suite)


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
        if path not in constants_of_a_method():
            raise InputError(f"{where}: unknown constant {path!r}; {nearest(path, constants_of_a_method())}")


def _entries(cls: type[C], page: Mapping[str, Any], key: str, name: str) -> dict[str, C]:
    return {
        entry: build(cls, _table(data, f"{name}: {entry}"), f"{name}: {entry}")
        for entry, data in _table(page[key], f"{name}: {key}").items()
    }


def _table(data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise InputError(f"{where}: a mapping from names is needed here, not {type(data).__name__}")
    return data


class _UniqueKeys(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; this refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)
