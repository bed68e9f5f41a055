"""What the pages hold together: a method's constants on a task under a protocol, and the entries by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

from benchmark.records.spec import Kind
from benchmark.suite.constants import ConstantRow, nested, resolve
from benchmark.suite.entries import Constant, Family, MethodEntry, Protocol, TaskEntry
from mbpo.config import InputError, Method, build, nearest


@dataclass(frozen=True)
class Suite:
    """Tasks, families, methods and protocols: all pages but the claims."""

    tasks: Mapping[str, TaskEntry]
    families: Mapping[str, Family]
    methods: Mapping[str, MethodEntry]
    protocols: Mapping[str, Protocol]
    _built: dict[tuple[str, ...], Method] = field(default_factory=dict, init=False, repr=False, compare=False)

    def task(self, name: str) -> TaskEntry:
        """The task's entry; a registered task that is on no page gets one without scores. Else raises `InputError`."""
        if name in self.tasks:
            return self.tasks[name]
        if ":" not in name:
            raise InputError(f"unknown task {name!r}; {nearest(name, self.tasks)}")
        info = import_module("mbpo.envs").task_info(name)
        sizes = {"obs_dim": info.obs_dim, "action_dim": info.action_dim, "time_limit": info.time_limit}
        return TaskEntry(suite="dmc" if name.startswith("dmc:") else "gym", **sizes)

    def protocol(self, name: str) -> Protocol:
        """The protocol of this name. Raises `InputError` with the nearest name if there is none."""
        if name not in self.protocols:
            raise InputError(f"unknown protocol {name!r}; {nearest(name, self.protocols)}")
        return self.protocols[name]

    def method(self, name: str, task: str, protocol: Protocol | str | None = None, kind: Kind = "train") -> Method:
        """The method's constants on `task` under `protocol`, as a run of `kind` reads them.

        Raises `InputError` for an unknown name, a task that the method's family has no constants for, a method without
        a model where a model is to be fitted, or constants that do not fit together.
        """
        layers = self._layers(name, task, protocol, kind)
        # A method is built once for all tasks and protocols that give it the same constants.
        varies = any(constant.by_task is not None for _, constants in layers for constant in constants.values())
        overrides = [repr(constants) for _, constants in layers[1:-1]]
        key = (name, kind, task if varies else "", *overrides)
        if key in self._built:
            return self._built[key]
        flat = {row.constant: row.value for row in resolve(layers, task, kind)}
        if kind != "train" and "model" in flat:
            raise InputError(f"method {name!r} has no model to fit; give one that has, such as 'mbpo'")
        where = f"method {name!r} on {task!r}"
        if protocol is not None:
            where += f" under protocol {self._protocol(protocol).name!r}"
        self._built[key] = build(Method, nested(flat), where)
        return self._built[key]

    def constants(
        self, name: str, task: str, protocol: Protocol | str | None = None, kind: Kind = "train"
    ) -> list[ConstantRow]:
        """The constants that `method` assembles, each with its unit, source and the page it came from."""
        return resolve(self._layers(name, task, protocol, kind), task, kind)

    def _layers(
        self, name: str, task: str, protocol: Protocol | str | None, kind: Kind
    ) -> list[tuple[str, Mapping[str, Constant]]]:
        """Origin and constants of the family, the protocol (if given) and the method, in this order."""
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
        layers: list[tuple[str, Mapping[str, Constant]]] = [(f"family {entry.family}", family.constants)]
        if protocol is not None:
            protocol = self._protocol(protocol)
            origin = f"protocol {protocol.name}"
            overrides = protocol.overrides(kind, task)
            over = {path: Constant(value=value, source=origin) for path, value in overrides.items()}
            layers.append((origin, over))
        layers.append((f"method {name}", entry.constants))
        return layers

    def _protocol(self, protocol: Protocol | str) -> Protocol:
        return self.protocol(protocol) if isinstance(protocol, str) else protocol
