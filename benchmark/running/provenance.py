"""Where a record came from: code, packages, simulator, device. Nothing that names a machine or a path."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.records.spec import RunSpec
from benchmark.suite import needs

PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "dm_control")
ROLLOUT_STEPS = 10
ROLLOUT_DECIMALS = 4
"""Coarser than the last bits in which two processors differ, finer than what two releases of a simulator share."""


def provenance(
    spec: RunSpec,
    companions: Sequence[RunSpec],
    device: str,
    seconds: float,
    resumed: bool,
    stretches: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """What `provenance.json` holds, less the digests that the store adds.

    `seconds` is the wall time of the whole lockstep job in this process; after a resume, of its last stretch alone, as
    all else here but `stretches`, which tells of every process that worked on the run.
    """
    return {
        **code(),
        "numerics_version": spec.numerics_version,
        needs.CARRIED: needs.served(spec),
        needs.CARRIED_TERMS: needs.served_terms(spec),
        "versions": versions(),
        "engine": engine(spec.task, spec.drop),
        "device": device,
        "means": means(spec, device),
        "wall_seconds": round(seconds, 3),
        "resumed": resumed,
        "companions": [other.key for other in companions if other.key != spec.key],
        "stretches": list(stretches),
    }


def conditions(spec: RunSpec, device: str) -> dict[str, Any]:
    """What this process computes `spec` with, as far as it may move numbers: decides later which runs may be pooled.

    `vector_width` is in floats and None where torch does the work.
    """
    torch = import_module("torch")
    how = means(spec, device)
    return {
        **code(),
        "versions": versions(),
        "engine": engine(spec.task, spec.drop),
        "mujoco": import_module("mujoco").mj_versionString(),
        "device": device,
        "means": how,
        "threads": torch.get_num_threads(),
        "vector_width": import_module("mbpo.fast.kernels").vector_width() if how == "kernels" else None,
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
    }


def means(spec: RunSpec, device: str) -> str:
    """What makes the run fast on a device of this name, as `mbpo.fast.engine.Engine.means`."""
    return "graphs" if device != "cpu" else import_module("mbpo.fast.engine").engine("cpu", spec.precision).means


@cache
def code() -> dict[str, Any]:
    """The commit of this checkout, and whether its code differs from that; None where there is no checkout."""
    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--", "mbpo", "benchmark")
    return {"commit": commit, "dirty": None if commit is None or changes is None else bool(changes)}


@cache
def versions() -> dict[str, str]:
    """Releases of Python and of the packages that decide numbers."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


@cache
def engine(task: str, drop: tuple[str, ...] = ()) -> str:
    """Fingerprint of the simulator. Unequal ones are not comparable.

    It is a hash of a short canonical rollout, rounded. Of a user's own environment the digest of its source follows
    (`mbpo.envs.sources`): ``rollout+source``. Both are part of the engine and not of the run's key. The key says what
    was asked for, and is known where the environment is not; the engine says what answered. So an edit is refused in a
    sentence, in place of a key that silently finds no record, and judging pools no two versions.
    """
    source = import_module("mbpo.envs.sources").digest(task)
    return rollout(task, drop) if source is None else f"{rollout(task, drop)}+{source}"


def rollout(task: str, drop: tuple[str, ...] = ()) -> str:
    """A hash of a short canonical rollout, rounded."""
    lived = import_module("mbpo.envs.promises").lived(task, drop, ROLLOUT_STEPS)
    rounded = np.round(lived, ROLLOUT_DECIMALS) + 0.0  # no negative zeros
    return hashlib.sha256(rounded.tobytes()).hexdigest()[:16]


def described(engine: str) -> str:
    """An engine in words: 'rollout 1f0c9a3e and source 6b2d...'."""
    moves, plus, source = engine.partition("+")
    return f"rollout {moves} and source {source}" if plus else f"rollout {moves} and no digest of its source"


def edit(old: str, new: str) -> str:
    """What two engines of one task say of the change between them, with both digests."""
    (moved, _, before), (moves, _, after) = old.partition("+"), new.partition("+")
    if moved != moves:
        what = "it moves otherwise: it was edited, or its simulator changed"
    elif before and after:
        what = "its source was edited, although a short rollout does not show it"
    else:
        what = "its source is stated on one side alone"
    return f"{what} (then {described(old)}, now {described(new)})"


def device_name(device: str) -> str:
    """The device that `device` resolves to, by its model: 'cpu', 'NVIDIA H100 80GB HBM3'."""
    torch = import_module("torch")
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    return str(torch.cuda.get_device_name(None if device == "auto" else device))


def git(*arguments: str, folder: Path = Path(__file__).parents[2]) -> str | None:
    """What git answers in `folder`, this project's if left out; None where there is no git or no answer."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip("\n") if done.returncode == 0 else None
