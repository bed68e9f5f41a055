"""What computed a run, as far as it decides which runs may be pooled in one verdict.

An engine is the simulator's fingerprint, the releases of packages, and the means: kernels in C, CUDA graphs, or torch.
Two means round differently, and no equivalence of any two is shown for any measure yet, so runs of two are not pooled.

The first records do not state their means. Where the recorded commit is from before any kernels existed in the code
and the device is a CPU, the means can only have been torch, and such runs pool with those that state it. All other
records without means are an engine of their own, "unstated".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

TORCH_ONLY = (
    "0bb44d5df7dbe32756c77fa02585e852c2ae491a",
    "794b61b56f0aa431e0a9d55d7938777d4f41c65f",
    "d03a3787fdc4a6d3e1af72fd69c605cad9bb5197",
    "79d35112a591842b112e7ff28905d982881b09cd",
)
"""Recorded commits before 574d447, the first that has kernels: a tree listing of each shows none."""
UNSTATED = "unstated"


def means(provenance: dict[str, Any]) -> str:
    """What made the run fast: as stated, else as its clean commit implies, else `UNSTATED`."""
    stated = provenance.get("means")
    if stated:
        return str(stated)
    old = provenance.get("commit") in TORCH_ONLY and not provenance.get("dirty") and provenance.get("device") == "cpu"
    return "torch" if old else UNSTATED


def name(provenance: dict[str, Any]) -> str:
    """Short name of the engine, such as '1f0c9a3e with kernels'. Unequal ones are never pooled on one task."""
    canonical = json.dumps([provenance.get("engine"), releases(provenance)], sort_keys=True)
    return f"{hashlib.sha256(canonical.encode()).hexdigest()[:8]} with {_told(provenance)}"


def releases(provenance: dict[str, Any]) -> dict[str, str]:
    """Releases of packages. Python's own and a wheel's local label ("+cpu") are left out: neither changes a number."""
    versions = dict(provenance.get("versions", {}))
    return {package: str(version).split("+")[0] for package, version in versions.items() if package != "python"}


def mixed(provenances: Iterable[dict[str, Any]]) -> str:
    """Why these runs of several tasks may not be judged as one family, as a clause; empty if they may.

    The simulator's fingerprint is of one task, so releases and means alone are compared.
    """
    distinct = {f"{_packages(p)} with {_told(p)}" for p in provenances}
    if len(distinct) < 2:
        return ""
    return f"runs of {len(distinct)} engines stand in one family ({'; '.join(sorted(distinct))}): run them again on one"


def _packages(provenance: dict[str, Any]) -> str:
    return ", ".join(f"{package} {release}" for package, release in sorted(releases(provenance).items()))


def _told(provenance: dict[str, Any]) -> str:
    found = means(provenance)
    return "means unstated" if found == UNSTATED else found
