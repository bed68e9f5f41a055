"""Refuses combinations of packages that are known to break, at import and in one sentence.

It reads package metadata and imports none of the packages. `RULES` is the table of what is checked:
requirement, reason, mend, and whether the core needs the package at all. `pyproject.toml` states
the same requirements to pip; this check is for environments that pip was not asked to keep whole.
"""

from __future__ import annotations

import functools
import operator
import os
import platform
import re
import warnings
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import NamedTuple


class VersionError(ImportError):
    """An installed package is known to break this project. The message ends in the command that mends it."""


class Rule(NamedTuple):
    """One requirement on one package."""

    package: str
    spec: str  # comparisons joined by commas, as pip writes them
    reason: str  # completes the sentence "mujoco 4.0.0 ..."
    mend: str  # what to install in its place, as pip takes it
    core: bool = True  # mbpo cannot run without it; the others serve benchmark alone


_UNKNOWN = "is not the release that this project's numbers come from"

RULES = (
    Rule("torch", ">=2.13,<2.14", _UNKNOWN, "torch==2.13.0"),
    Rule("dm_control", "==1.0.50", _UNKNOWN, "dm_control==1.0.50 mujoco==3.17.0"),
    # Both were tried: 4.0.0 has lost a field that dm_control reads, 3.16.0 does not have one yet.
    Rule("mujoco", "<3.18", "breaks dm_control 1.0.50 (suite.load fails with flex_vertedge)", "mujoco==3.17.0"),
    Rule("mujoco", ">=3.17", "is too old for dm_control 1.0.50 (suite.load fails)", "mujoco==3.17.0"),
    Rule("gymnasium", ">=1.4,<1.5", _UNKNOWN, "gymnasium[mujoco]==1.4.0 mujoco==3.17.0"),
    Rule("pandas", "<3", "breaks arch 7 (import arch fails in deprecate_kwarg)", "pandas<3", core=False),
    Rule("arch", "<8", "breaks rliable 1.2.0 (its bootstrap refuses random_state)", "arch<8 pandas<3", core=False),
    Rule("rliable", ">=1.2,<1.3", _UNKNOWN, "rliable==1.2.0 arch<8 pandas<3", core=False),
)

PYTHON = (3, 11)
"""The oldest supported Python."""

OVERRIDE = "MBPO_ANY_VERSIONS"
"""Set to 1, this environment variable turns the error into a warning: for a machine that has its own torch."""

_COMPARE: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    "==": operator.eq,
    ">=": operator.ge,
    "<": operator.lt,
}


def satisfies(version: str, spec: str) -> bool:
    """Whether `version` meets every comparison in `spec`; local tags such as ``+cpu`` do not count."""
    return all(
        _COMPARE[sign](_release(version), _release(bound)) for sign, bound in re.findall(r"(==|>=|<)([\d.]+)", spec)
    )


def find_conflict(versions: Mapping[str, str]) -> str | None:
    """The first rule that `versions` (package -> version) breaks, as a sentence with its mend, or None.

    An absent package breaks a rule only if the core needs it.
    """
    python = versions.get("python", "")
    if python and _release(python) < PYTHON:
        return f"Python {python} is too old for mbpo; run: make setup PYTHON=python3.11"
    for rule in RULES:
        version = versions.get(rule.package)
        if version is None and rule.core:
            return f"{rule.package} is not installed, and mbpo needs it; run: {_install(rule)}"
        if version is not None and not satisfies(version, rule.spec):
            return f"{rule.package} {version} {rule.reason}; run: {_install(rule)}"
    return None


def installed() -> dict[str, str]:
    """Installed versions of Python and of the packages in `RULES`, by name."""
    versions = {package: _installed(package) for package in dict.fromkeys(rule.package for rule in RULES)}
    return {"python": platform.python_version()} | {name: version for name, version in versions.items() if version}


@functools.cache
def check_versions() -> None:
    """Raise `VersionError` if the installed packages are known to break one another."""
    conflict = find_conflict(installed())
    if conflict is None:
        return
    if os.environ.get(OVERRIDE) != "1":
        raise VersionError(conflict)
    warnings.warn(f"{conflict} (going on, as {OVERRIDE}=1)", RuntimeWarning, stacklevel=3)


def _release(version: str) -> tuple[int, ...]:
    """Leading numbers of a version: 3.17.0+cpu -> (3, 17, 0)."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(n) for n in leading.group().split(".")) if leading else ()


def _install(rule: Rule) -> str:
    return "pip install " + " ".join(f"'{requirement}'" for requirement in rule.mend.split())


def _installed(package: str) -> str | None:
    try:
        header = metadata.distribution(package).read_text("METADATA") or ""
    except metadata.PackageNotFoundError:
        return None
    line = re.search(r"^Version: *(\S+)", header, re.MULTILINE)  # a full parse of every header takes ten times as long
    return line.group(1) if line else None
