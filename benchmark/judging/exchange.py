"""Curves in the columns that others use: ours written out, and someone else's read in and judged against the ledger.

``suite, task, method, seed, env_steps, return``: one row per evaluation, its return the mean over episodes. Every
fault of a file is told with its line or its place, and nothing is dropped to make the rest fit.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.judging import gate, verdicts
from benchmark.judging.evidence import Evidence, Outcome, Score
from benchmark.records.spec import arm
from benchmark.records.store import RETURN, Record, Store
from benchmark.suite.criterion import Estimand
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import Claim, load_ledger
from benchmark.suite.load import load_suite, specs
from mbpo.config import InputError, nearest

COLUMNS = ("suite", "task", "method", "seed", "env_steps", "return")
FORMATS = (".csv", ".parquet")
Runs = Mapping[tuple[str, str, int], pd.DataFrame]
"""Per task, method and seed, the rows ``env_steps, return`` in order."""


# Out


def export(store: Store, protocol: Protocol, path: Path) -> int:
    """Write the curves of all records that `protocol` prescribes, and return the number of runs.

    Raises `InputError` for a name that is neither .csv nor .parquet, for .parquet without pyarrow, for a folder that
    does not exist, and where there is no such record.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{str(path)!r}: give a name that ends in {' or '.join(FORMATS)}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{str(path)!r}: writing parquet needs pyarrow (pip install pyarrow); or give a .csv")
    if not path.parent.is_dir():
        raise InputError(f"the folder {str(path.parent)!r} does not exist; make it, or give another")
    frames = [_curve(record) for record in store.records() if _prescribed(record, protocol)]
    if not frames:
        raise InputError(f"no online run of the {protocol.name} protocol has a record; train some, or give --protocol")
    table = pd.concat(frames, ignore_index=True).sort_values(list(COLUMNS[:5]), kind="stable")[list(COLUMNS)]
    try:
        if path.suffix == ".csv":
            table.to_csv(path, index=False, lineterminator="\n")
        else:
            table.to_parquet(path, index=False)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be written: {(error.strerror or str(error)).lower()}") from None
    return len(frames)


def _prescribed(record: Record, protocol: Protocol) -> bool:
    """Whether the run is what the protocol would train under this name: runs of several protocols must not mix."""
    spec = record.spec
    if spec.kind != "train":
        return False
    try:
        wanted = specs("train", [spec.task], [spec.method], protocol, [spec.seed], drop=spec.drop)
    except InputError:
        return False  # a method or a task that is on no page any more
    return wanted[0].key == spec.key


def _curve(record: Record) -> pd.DataFrame:
    means = record.curve.groupby("env_steps", sort=True)[RETURN].mean().reset_index(name="return")
    suite, _, task = record.spec.task.partition(":")
    means.insert(0, "suite", suite)
    means.insert(1, "task", task)
    means.insert(2, "method", record.spec.arm)
    means.insert(3, "seed", record.spec.seed)
    return means


# In


def read_runs(path: Path) -> Runs:
    """Someone's runs. Raises `InputError` with the line for anything but distinct, whole rows of known names."""
    try:
        whole = path.suffix == ".parquet"
        table = pd.read_parquet(path) if whole else pd.read_csv(path, dtype=str, keep_default_na=False)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ImportError, ValueError, pd.errors.ParserError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {' '.join(str(error).split())}") from None
    _check_columns(table, path.name)
    table = table.astype(str).reset_index(drop=True)
    rows = [_row(values, f"{path.name} line {index + 2}") for index, values in enumerate(table.to_dict("records"))]
    if not rows:
        raise InputError(f"{path.name} has no row below its header")
    seen: dict[tuple[str, str, int, int], int] = {}
    for line, (task, method, seed, steps, _) in enumerate(rows, start=2):
        first = seen.setdefault((task, method, seed, steps), line)
        if first != line:
            raise InputError(
                f"{path.name} line {line}: {method} on {task} seed {seed} has env_steps {steps} on line {first} "
                "already; every seed counts once"
            )
    frame = pd.DataFrame(rows, columns=["task", "method", "seed", "env_steps", "return"])
    groups = frame.sort_values("env_steps", kind="stable").groupby(["task", "method", "seed"], sort=True)
    return {(str(t), str(m), int(s)): run[["env_steps", "return"]].reset_index(drop=True) for (t, m, s), run in groups}


def _check_columns(table: pd.DataFrame, name: str) -> None:
    for column in table.columns:
        if column not in COLUMNS:
            raise InputError(f"{name}: unknown column {str(column)!r}; {nearest(str(column), COLUMNS)}")
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise InputError(f"{name}: the column {lacking[0]!r} is missing; the columns are {', '.join(COLUMNS)}")


def _row(values: Mapping[Any, Any], where: str) -> tuple[str, str, int, int, float]:
    suite, known = load_suite(), {task.partition(":")[2]: task for task in load_suite().tasks}
    task = f"{values['suite']}:{values['task']}"  # whose name may have a colon of its own
    task = values["task"] if ":" in values["task"] and task not in suite.tasks else task
    if task not in suite.tasks:
        told = nearest(values["task"], known) if values["suite"] in ("dmc", "gym") else nearest(task, suite.tasks)
        raise InputError(f"{where}: unknown task {task!r}; {told}")
    if task.partition(":")[0] != values["suite"]:
        raise InputError(f"{where}: suite {values['suite']!r} does not have {task!r}; it is {task.partition(':')[0]!r}")
    methods = dict.fromkeys([*suite.methods, *_labels()])
    if values["method"] not in methods:
        raise InputError(f"{where}: unknown method {values['method']!r}; {nearest(values['method'], methods)}")
    seed, steps = (_whole(values[name], name, where) for name in ("seed", "env_steps"))
    return task, values["method"], seed, steps, _number(values["return"], where)


def _labels() -> list[str]:
    """Arms of the ledger that go without some observations, as `export` names them."""
    return [arm(*side) for claim in load_ledger().claims for side in claim.arms if side[1]]


def _whole(text: str, name: str, where: str) -> int:
    value = text.removesuffix(".0")
    if not value.isdecimal():
        raise InputError(f"{where}: {name} = {text!r} is not a whole number of at least 0")
    return int(value)


def _number(text: str, where: str) -> float:
    """A return; NaN and empty are kept, for the verdict to name them."""
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise InputError(f"{where}: return = {text!r} is not a number") from None


# Judged


def judgeable() -> list[str]:
    """The claims that curves alone can answer."""
    return [c.id for c in load_ledger().claims if c.kind == "train" and c.estimand.measure == RETURN]


def judge(runs: Runs, chosen: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row per verdict, as in ``verdicts.json``, for the chosen claims, or for all that speak of these runs.

    Raises `InputError` for an unknown claim, and for one that needs more than returns.
    """
    ledger, able = load_ledger(), judgeable()
    for name in chosen:
        if ledger.claim(name).id not in able:
            measure = ledger.claim(name).estimand.measure
            raise InputError(f"claim {name!r} is about {measure}, which curves do not hold; {nearest(name, able)}")
    picked = [ledger.claim(name) for name in dict.fromkeys(chosen)] or [
        claim for claim in map(ledger.claim, able) if _speaks(claim, runs)
    ]
    if not picked:
        raise InputError(
            "no claim of the ledger compares two of these methods on any of these tasks; name one by --claims"
        )
    return [row for claim in picked for row in _rows(claim, runs)]


def _speaks(claim: Claim, runs: Runs) -> bool:
    arms = {arm(*side) for side in claim.arms}
    return any(arms <= {method for t, method, _ in runs if t == task} for task in claim.tasks)


def _rows(claim: Claim, runs: Runs) -> list[dict[str, Any]]:
    evidence = {task: _evidence(claim, task, runs) for task in claim.tasks}
    return [_verdict(claim, task, out) for task, out in verdicts.outcomes(claim, evidence).items()]


def _verdict(claim: Claim, task: str, out: Outcome) -> dict[str, Any]:
    return {
        **{"claim": claim.id, "task": task, "verdict": out.verdict, "effect": verdicts.rounded(out.effect)},
        "interval": None if out.interval is None else [verdicts.rounded(bound) for bound in out.interval],
        **{"level": out.level, "n": out.n, "p": verdicts.rounded(out.p), "reason": out.reason},
        **{"statement": claim.statement, "form": claim.form},
    }


def _evidence(claim: Claim, task: str, runs: Runs) -> Evidence:
    """Both arms on one task, and whatever is wrong with their being compared."""
    names = [arm(*side) for side in claim.arms]
    found = {
        name: {seed: run for (t, method, seed), run in runs.items() if (t, method) == (task, name)}
        for name in dict.fromkeys([*names, *([claim.gate] if claim.gate else [])])
    }
    absent = [f"no run of {name} on {task}" for name, seeds in found.items() if not seeds]
    gaps = [told for name, seeds in found.items() if (told := _gap(name, seeds))]
    fault = _unequal({(name, seed): run for name, seeds in found.items() for seed, run in seeds.items()})
    total = max((int(run["env_steps"].max()) for seeds in found.values() for run in seeds.values()), default=0)
    placed = gate.Placing("", "")
    if claim.gate and found[claim.gate] and not fault:
        base = _scores(found[claim.gate], claim.estimand, total)
        placed = gate.place(claim.gate, task, total, base)
    return Evidence(
        arm=claim.arm_label,
        against=claim.against_label,
        x=_scores(found[names[0]], claim.estimand, total),
        y=_scores(found[names[1]], claim.reference, total),
        lacking="; ".join([*absent, *gaps]) or placed.unplaced,
        fault=fault or placed.outside,
    )


def _scores(seeds: Mapping[int, pd.DataFrame], estimand: Estimand, total: int) -> tuple[Score, ...]:
    low, high = estimand.window or (1.0, 1.0)
    made = []
    for seed, run in sorted(seeds.items()):
        rows = run[(run["env_steps"] >= low * total) & (run["env_steps"] <= high * total)]
        value = float(rows["return"].mean(skipna=False)) if len(rows) else math.nan
        made.append(Score(seed, value, len(rows)))
    return tuple(made)


def _gap(name: str, seeds: Iterable[int]) -> str:
    """Seeds that the numbering says must have been run and are not there: a lost run may be lost for its score."""
    have = set(seeds)
    lost = sorted(set(range(min(have), max(have))) - have) if have else []
    return f"{name} has no seed {', '.join(map(str, lost))} between its others" if lost else ""


def _unequal(runs: Mapping[tuple[str, int], pd.DataFrame]) -> str:
    """Two runs that do not end at the same step, in one sentence."""
    ends = {place: int(run["env_steps"].max()) for place, run in runs.items()}
    if len(set(ends.values())) < 2:
        return ""
    short, full = min(ends, key=lambda p: (ends[p], p)), max(ends, key=lambda p: (ends[p], p))
    told = f"{short[0]} seed {short[1]} ends at {ends[short]:,} env steps, {full[0]} seed {full[1]} at {ends[full]:,}"
    return f"runs of unequal length: {told}"
