"""What came of runs, in a few lines: returns per arm and seed, where the files are, what to type next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmark.records.spec import RunSpec
from benchmark.records.store import RETURN, Record, Store
from benchmark.running import policies
from benchmark.words import count, number

LAST = 0.8
"""Share of training after which evaluations count as final."""
MOST_SEEDS = 6
"""Seeds that a line shows one by one."""


def final_return(record: Record) -> float:
    """The mean return of the evaluations in the last fifth of training."""
    curve = record.curve
    return float(curve.loc[curve["env_steps"] >= LAST * curve["env_steps"].max(), RETURN].mean())


def score(record: Record) -> float:
    """The number that a line shows of a run: its final return, or a fitted model's R2 of held-out rewards."""
    if record.spec.kind == "fit":
        try:
            return record.last("reward_r2")
        except KeyError:
            return math.nan
    return final_return(record)


def keep_policies(wanted: Iterable[RunSpec], store: Store, say: Callable[[str], None]) -> None:
    """Copy the policies of the online runs `wanted` to the results folder, and say which were never kept."""
    copied, lacking = policies.publish([spec for spec in wanted if spec.kind == "train"], store)
    if lacking:
        say(f"no policy of {count(len(lacking), 'run')} was kept, such as {lacking[0].label}: play --again trains it")
    if copied:
        say(f"{count(len(copied), 'policy file')} in {store.results / policies.FOLDER}")


def lines(wanted: Iterable[RunSpec], store: Store, defaults: tuple[Path, Path]) -> list[str]:
    """The whole text for the runs `wanted`, which have records; `defaults` are the folders that need no option."""
    runs = [spec for spec in wanted if spec.kind != "probe"]
    return [*table(runs, store), "", *places(runs, store, defaults)] if runs else []


def table(runs: Sequence[RunSpec], store: Store) -> list[str]:
    """A line per kind, task and arm: the mean of its seeds and each of them."""
    groups: dict[tuple[str, str, str], list[RunSpec]] = {}
    for spec in runs:
        groups.setdefault((spec.kind, spec.task, spec.arm), []).append(spec)
    rows, heads = [], {"train": "final return", "fit": "reward R2"}
    for (kind, task, arm), group in groups.items():
        values = [score(store.read(spec)) for spec in group]
        known = [value for value in values if math.isfinite(value)]
        mean = number(sum(known) / len(known)) if known else number(None)
        shown = [f"seed {spec.seed}: {number(value)}" for spec, value in zip(group, values, strict=True)]
        left = f", {len(shown) - MOST_SEEDS} more" if len(shown) > MOST_SEEDS else ""
        rows.append((task, arm, heads.get(kind, kind), mean, ", ".join(shown[:MOST_SEEDS]) + left))
    titles = ("task", "arm", "measure", "mean", "by seed")
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(4)]
    return [
        "  ".join([*(text.ljust(width) for text, width in zip(row[:4], widths, strict=True)), row[4]])
        for row in [titles, *rows]
    ]


def places(runs: Sequence[RunSpec], store: Store, defaults: tuple[Path, Path]) -> list[str]:
    """Where records and policies are, and the commands that go on from them."""
    first = runs[0]
    records = store.runs / first.slug / first.method / first.key
    where = records if records.is_dir() else store.results / "packed"
    text = [f"records   {where}" + (f" and {len(runs) - 1} more" if len(runs) > 1 and records.is_dir() else "")]
    kept = [
        (root, spec) for spec in runs for root in (store.results, store.cache) if policies.has(root, spec)
    ]  # a run's own folder under the results comes first
    folders = "".join(
        f" --{name} {given}"
        for name, given, default in zip(("results", "cache"), (store.results, store.cache), defaults, strict=True)
        if given != default
    )
    if kept:
        text.append(f"policies  {policies.folder(*kept[0])} ({_size(kept)})")
    if any(spec.kind == "train" for spec in runs):
        text.append(f"next      python -m benchmark plot {shlex.quote(first.task)}{folders}")
    if kept:
        text.append(f"          python -m benchmark play {kept[0][1].key}{folders}")
    if first.kind == "fit":
        text.append(f"next      python -m benchmark diagnose {shlex.quote(first.task)}")
    return text


def _size(kept: Sequence[tuple[Path, RunSpec]]) -> str:
    keys = {spec.key: root for root, spec in reversed(kept)}
    files = [file for root, spec in kept if keys[spec.key] == root for file in policies.folder(root, spec).iterdir()]
    total = sum(file.stat().st_size for file in files)
    return f"{len(keys)} of these runs, {total / 1000:,.0f} kB"
