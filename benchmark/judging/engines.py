"""What computed a run, as far as it decides which runs may be pooled in one verdict.

An engine is the simulator's fingerprint, the releases of packages, the means (kernels in C, CUDA graphs, or torch), and
on a CPU the number of threads. Two means round differently, and so do two numbers of threads under either means on a
CPU, where torch splits its sums among them: after 250 learning steps of SAC (UTD 10, layers of 64) the mean Q of one
seed differs in the seventh digit between 1 and 2 threads, and later everything does. No equivalence of any two is
shown for any measure yet, so runs of two are not pooled. On a GPU threads compute none of the numbers.

The first records do not state their means. Where the recorded commit is from before any kernels existed in the code
and the device is a CPU, the means can only have been torch, and such runs pool with those that state it. All other
records without means are an engine of their own, "unstated". Records from before stretches state no threads.
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


def threads(provenance: dict[str, Any]) -> str:
    """The CPU threads of all stretches that computed a part of the run, such as '1 thread'; empty where none matter."""
    if provenance.get("device") != "cpu":
        return ""
    rows = [
        row for row in provenance.get("stretches") or () if row["steps"][1] is None or row["steps"][1] > row["steps"][0]
    ]
    numbers = sorted({row["threads"] for row in rows if row.get("threads") is not None})
    if not numbers:
        return ""
    return " and ".join(map(str, numbers)) + (" thread" if numbers == [1] else " threads")


def name(provenance: dict[str, Any]) -> str:
    """Short name of the engine, such as '1f0c9a3e with kernels on 1 thread'. Unequal ones are never pooled."""
    canonical = json.dumps([provenance.get("engine"), releases(provenance)], sort_keys=True)
    return f"{hashlib.sha256(canonical.encode()).hexdigest()[:8]} with {_in_words(provenance)}"


def releases(provenance: dict[str, Any]) -> dict[str, str]:
    """Releases of packages. Python's own and a wheel's local label ("+cpu") are left out: neither changes a number."""
    versions = dict(provenance.get("versions", {}))
    return {package: str(version).split("+")[0] for package, version in versions.items() if package != "python"}


def mixed(provenances: Iterable[dict[str, Any]]) -> str:
    """Why these runs of several tasks may not be judged as one family, as a clause; empty if they may.

    The simulator's fingerprint is of one task, so releases and means alone are compared.
    """
    distinct = {f"{_packages(p)} with {_in_words(p)}" for p in provenances}
    if len(distinct) < 2:
        return ""
    return f"runs of {len(distinct)} engines stand in one family ({'; '.join(sorted(distinct))}): run them again on one"


def _packages(provenance: dict[str, Any]) -> str:
    return ", ".join(f"{package} {release}" for package, release in sorted(releases(provenance).items()))


def _in_words(provenance: dict[str, Any]) -> str:
    stated, used = means(provenance), threads(provenance)
    words = "means unstated" if stated == UNSTATED else stated
    return f"{words} on {used}" if used else words
