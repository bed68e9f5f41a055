"""The snapshots of runs in the cache: one folder a run, ``cache/snapshots/<key>``, whatever company it trained in.

Beside the snapshots lie `run.json`, which says whose they are, and `stretches.json`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmark.records.spec import RunSpec, digest, lockstep
from benchmark.records.store import DAMAGE, replace_file
from benchmark.running.leases import Leases
from benchmark.running.stretches import company

PAGE = "run.json"


def folder(cache: Path, run: RunSpec) -> Path:
    """Where the snapshots of `run` lie."""
    return cache / "snapshots" / run.key


def begin(cache: Path, run: RunSpec, kept: bool = False) -> Path:
    """Make the folder of `run` and say whose it is; `kept`: it stays when the run has its record."""
    here = folder(cache, run)
    here.mkdir(parents=True, exist_ok=True)
    replace_file(here / PAGE, json.dumps({"spec": run.to_json(), "lineage": lineage(run), "kept": kept}) + "\n")
    return here


def page(here: Path) -> dict[str, Any] | None:
    """What `begin` wrote; None where that cannot be read."""
    try:
        data = json.loads((here / PAGE).read_text(encoding="utf-8"))
        return dict(data) if {"spec", "lineage", "kept"} <= set(data) else None
    except DAMAGE:
        return None


def steps(cache: Path, run: RunSpec) -> list[int]:
    """The steps that `run` can go on from, in order."""
    here = folder(cache, run)
    return list(import_module("mbpo.checkpoint").steps(here)) if here.is_dir() else []


def lineage(run: RunSpec) -> str:
    """The hash of all that decides a run's numbers but how long it trains: a longer budget goes on from a shorter."""
    fields = run.model_dump(mode="json", exclude={"method"}, exclude_defaults=True)
    if run.budget is not None:
        fields["budget"] = {name: value for name, value in fields["budget"].items() if name != "env_steps"}
    return digest({**fields, "numerics_version": run.numerics_version})


def grow(cache: Path, runs: Sequence[RunSpec], leases: Leases) -> None:
    """Let those of `runs` that have no snapshot go on from that of the longest shorter budget of the same run."""
    wanted = {lineage(run): run for run in runs if run.budget is not None and not steps(cache, run)}
    if not wanted:
        return
    shorter: dict[str, tuple[int, Path]] = {}
    for path in (cache / "snapshots").glob(f"*/{PAGE}"):
        found = page(path.parent)
        run = None if found is None else wanted.get(found["lineage"])
        if found is None or run is None or run.budget is None or path.parent.name == run.key:
            continue
        length = int(found["spec"]["budget"]["env_steps"])
        if shorter.get(run.key, (0, path))[0] < length < run.budget.env_steps and not leases.held(path.parent.name):
            shorter[run.key] = (length, path.parent)
    for run in wanted.values():
        if run.key in shorter:
            import_module("mbpo.checkpoint").take_over(shorter[run.key][1], folder(cache, run))


def forget_ended(cache: Path, runs: Sequence[RunSpec]) -> None:
    """Remove the snapshots of those of `runs` that were kept at their end."""
    for run in runs:
        if run.length in steps(cache, run):
            shutil.rmtree(folder(cache, run))


def forget_refused(cache: Path, runs: Sequence[RunSpec]) -> None:
    """Remove the folders of those of `runs` that were refused before their first snapshot."""
    for run in runs:
        if not steps(cache, run):
            shutil.rmtree(folder(cache, run), ignore_errors=True)


def groups(todo: Sequence[RunSpec], cache: Path, most: int) -> list[list[RunSpec]]:
    """Lockstep groups of `todo`: runs of one group stand at one step.

    What was begun comes first: in the company it last had where all of that is left, else with those that stand at the
    same step.
    """
    left = {spec.key: spec for spec in todo}
    known = {key: set(steps(cache, spec)) for key, spec in left.items() if folder(cache, spec).is_dir()}
    begun: list[list[RunSpec]] = []
    for key in list(known):
        mates = company(cache / "snapshots" / key) if key in left else []
        if key not in mates or len(mates) > most or any(mate not in left or mate not in known for mate in mates):
            continue
        if set.intersection(*(known[mate] for mate in mates)) or not any(known[mate] for mate in mates):
            begun.append([left.pop(mate) for mate in mates])
    rest = [spec for key, spec in left.items() if known.get(key)]
    for group in lockstep(rest, max(len(rest), 1)):
        while group:
            # A killed process may leave some runs a snapshot ahead of the others, which they still share the older of.
            every = {step for spec in group for step in known[spec.key]}
            step = max(every, key=lambda s: (sum(s in known[spec.key] for spec in group), s))
            together = [spec for spec in group if step in known[spec.key]]
            begun += lockstep(together, most)
            group = [spec for spec in group if spec not in together]
    fresh = [spec for key, spec in left.items() if not known.get(key)]
    return begun + lockstep(fresh, most)


def is_damaged(here: Path) -> bool:
    """Whether a snapshot cannot be loaded, which is found by reading it whole."""
    checkpoint = import_module("mbpo.checkpoint")
    return any(not checkpoint.is_sound(snapshot) for snapshot in checkpoint.complete(here))
