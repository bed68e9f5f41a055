"""Damaged files of every kind that is read: what is tried, refused in a sentence, harmless; no traceback, no silence.

    python tests/corruption.py 200 > tests/corruption.md

A subject writes sound files and reads them. One random edit is made at a time: a bit flipped, a byte put in or taken
out, a stretch doubled, the rest cut off. What is read then is either refused in one sentence of ours (or passed over as
if it were not there, with a warning), or equal to what was written, or, where a text is itself the statement, what the
edited text now says.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402
from fake_trainer import result  # noqa: E402
from helpers import CPU, small  # noqa: E402
from toy_envs import DRIFT  # noqa: E402

from benchmark.judging import curves  # noqa: E402
from benchmark.records import pack, parquet  # noqa: E402
from benchmark.records.spec import FitBudget, Replay, RunSpec  # noqa: E402
from benchmark.records.store import Store  # noqa: E402
from benchmark.running import fit, progress, provenance, replays, snapshots  # noqa: E402
from benchmark.running.leases import Leases  # noqa: E402
from benchmark.running.stretches import Stretches  # noqa: E402
from benchmark.suite.ledger import load_ledger  # noqa: E402
from benchmark.suite.load import SUITE, load_suite  # noqa: E402
from mbpo import Budget, InputError, checkpoint  # noqa: E402
from mbpo.buffer import Layout, ReplayBuffer  # noqa: E402
from mbpo.sac import Sac  # noqa: E402
from mbpo.streams import Streams  # noqa: E402

ABSENT = "absent"
"""Read as if the files were not there, which is told in a warning."""
SPEC = RunSpec(
    kind="train",
    task=DRIFT,
    method="mbpo",
    seed=0,
    constants=small(),
    budget=Budget(env_steps=80, eval_every=40, eval_episodes=1),
)
LAYOUT = Layout(2, 1)
CONDITIONS = {"engine": "e0", "mujoco": "3", "device": "cpu", "means": "torch", "versions": {"torch": "2.13.0"}}


class Edit(NamedTuple):
    """One random edit: of which file, where (a share of it), how, with which byte."""

    file: float
    at: float
    how: str
    byte: int


HOW = ("flip", "put", "drop", "double", "cut")


def edited(data: bytes, edit: Edit) -> bytes:
    at = min(int(edit.at * len(data)), max(len(data) - 1, 0))
    if edit.how == "flip" and data:
        return data[:at] + bytes([data[at] ^ (1 << edit.byte % 8)]) + data[at + 1 :]
    if edit.how == "put":
        return data[:at] + bytes([edit.byte]) + data[at:]
    if edit.how == "drop":
        return data[:at] + data[at + 1 :]
    if edit.how == "double":
        return data[: at + 40] + data[at:]
    return data[:at]


@dataclass(frozen=True)
class Subject:
    """Files of one kind; `says` compares what was read with what the edited text says, where texts are statements."""

    make: Callable[[Path], None]
    read: Callable[[Path], Any]
    says: Callable[[Path, Any, Any], bool] = lambda folder, before, after: False


def attempt(subject: Subject, sound: Path, value: Any, edit: Edit, place: Path) -> str:
    """Edit a copy of the folder `sound`, from which `value` is read; what comes of it."""
    folder = place / "edited"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    file = files[min(int(edit.file * len(files)), len(files) - 1)]
    file.write_bytes(edited(file.read_bytes(), edit))
    parquet._read.cache_clear()
    parquet._tables.cache_clear()
    try:
        read = subject.read(folder)
    except InputError as error:
        return "refused" if str(error).strip() else "wordless"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {error} ({file.name}, {edit})"
    if isinstance(read, str) and read == ABSENT:
        return "refused"
    if same(read, value):
        return "harmless"
    return "as written" if subject.says(folder, value, read) else f"accepted: {file.name}, {edit}"


def same(one: Any, other: Any) -> bool:
    if isinstance(one, pd.DataFrame):
        return isinstance(other, pd.DataFrame) and one.equals(other)
    if isinstance(one, np.ndarray | torch.Tensor):
        return type(one) is type(other) and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


# Records


def write_record(folder: Path) -> None:
    store = Store(folder / "results", folder / "cache")
    store.prepare()
    store.write(SPEC, *result(SPEC), {"commit": "0" * 40, "engine": "e0", "versions": {"torch": "2.13.0"}})


def write_pack(folder: Path) -> None:
    write_record(folder)
    pack.pack(Store(folder / "results", folder / "cache"))


def read_record(folder: Path) -> Any:
    store = Store(folder / "results", folder / "cache")
    if not store.has(SPEC):
        return ABSENT
    record = store.read(SPEC)
    return record.spec.to_json(), record.curve, record.diagnostics, record.provenance


# Snapshots


def buffer() -> ReplayBuffer:
    return ReplayBuffer(1, 40, LAYOUT, CPU, torch.float32)


def write_snapshot(folder: Path) -> None:
    here, rows = snapshots.begin(folder, SPEC), buffer()
    rows.add(torch.arange(50.0 * LAYOUT.width).view(1, 50, LAYOUT.width))
    Stretches(here).begin(CONDITIONS, None, [SPEC.key])
    checkpoint.save(here, 50, {"added": {"real": 50}, "live": [torch.arange(5.0)]}, {"real": rows})


def read_snapshot(folder: Path) -> Any:
    here, rows = snapshots.folder(folder, SPEC), buffer()
    stretches = Stretches(here)
    if snapshots.page(here) is None or checkpoint.steps(here) != [50]:
        return ABSENT
    if snapshots.is_damaged(here):
        raise InputError("damaged")
    tree = checkpoint.load(here, 50)
    assert tree is not None
    checkpoint.load_rows(here, 50, {"real": rows}, 0, tree["added"])
    return tree, rows.rows[:, :-1], stretches.differ(CONDITIONS)


# Data and replays in the cache


def write_rows(folder: Path) -> None:
    read_rows(folder)


def read_rows(folder: Path) -> Any:
    return fit.random_transitions("gym:Pendulum-v1", (), 0, 20, "train", folder)


def write_replay(folder: Path) -> None:
    place = replays.folder(folder, FITTED.source_run)
    place.mkdir(parents=True)
    rows = torch.rand(60, LAYOUT.width, generator=torch.Generator().manual_seed(0)).numpy()
    replays._keep(place / "policy-60.pt", lambda draft: torch.save({"sac": learner().state()}, draft), "e0")
    replays._keep(place / "rows.npy", lambda draft: replays._save_rows(rows, draft), "e0")


FITTED = RunSpec(
    kind="fit", task=DRIFT, method="mbpo", seed=0, constants=small(), fit=FitBudget(
        transitions=20, heldout=10, source=Replay(
            method="sac", constants=small(model=None), step=60,
            budget=Budget(env_steps=60, eval_every=60, eval_episodes=1)))
)  # fmt: skip


def learner() -> Sac:
    return Sac(SPEC.constants.sac, LAYOUT, Streams(["a"], CPU, torch.float32))


def read_replay(folder: Path) -> Any:
    engine = replays.engine_of(folder, FITTED.source_run)
    if engine not in (None, "e0"):
        raise InputError("another engine")
    taken = learner()
    replays.load_policy(folder, [FITTED], taken)
    state = taken.state()
    return replays.split(folder, FITTED.source_run, 60, LAYOUT, 20, 10), state["actor"], state["critic"]


# Pages and tables that are statements themselves


def write_suite(folder: Path) -> None:
    for name in ("tasks", "methods", "protocols"):
        shutil.copy(SUITE / f"{name}.yaml", folder)


def read_suite(folder: Path) -> Any:
    return repr(load_suite.__wrapped__(folder))


def suite_says(folder: Path, before: Any, after: Any) -> bool:
    """A text that parses otherwise gave another suite."""
    return any(
        yaml.safe_load((folder / f"{name}.yaml").read_text()) != yaml.safe_load((SUITE / f"{name}.yaml").read_text())
        for name in ("tasks", "methods", "protocols")
    )


def write_ledger(folder: Path) -> None:
    for path in SUITE.glob("*.yaml"):
        shutil.copy(path, folder)


def read_ledger(folder: Path) -> Any:
    load_suite.cache_clear()
    return repr(load_ledger.__wrapped__(folder))


def ledger_says(folder: Path, before: Any, after: Any) -> bool:
    pages = [(yaml.safe_load(path.read_text()), yaml.safe_load((SUITE / path.name).read_text()))
             for path in folder.glob("*.yaml")]  # fmt: skip
    return any(now != then for now, then in pages)


HEAD = "suite,task,method,seed,env_steps,return"


def write_csv(folder: Path) -> None:
    rows = [f"gym,InvertedPendulum-v5,{m},{s},{t},{t / 3 + s:.3f}" for m in ("sac", "mbpo") for s in (0, 1)
            for t in (0, 250, 500)]  # fmt: skip
    (folder / "runs.csv").write_text("\n".join([HEAD, *rows]) + "\n")


def read_csv(folder: Path) -> Any:
    return {run: frame.to_numpy().tolist() for run, frame in curves.read_runs(folder / "runs.csv").items()}


def csv_says(folder: Path, before: Any, after: Any) -> bool:
    """As Python's own reader has it, with every number as it stands there."""
    told: dict[Any, list[list[float]]] = {}
    for row in csv.DictReader(io.StringIO((folder / "runs.csv").read_text(encoding="utf-8-sig"))):
        names = {(name or "").strip().lower(): value for name, value in row.items()}
        run = (f"gym:{names['task'].strip()}", names["method"].strip(), int(names["seed"]))
        told.setdefault(run, []).append([float(names["env_steps"]), float(names["return"])])
    return same({run: sorted(rows) for run, rows in told.items()}, after)


def write_progress(folder: Path) -> None:
    (folder / "leases").mkdir()
    with mock.patch.object(progress.time, "time", lambda: 1.0):
        progress.Progress(folder, "job", [SPEC], 10).__enter__()
    (folder / "leases" / f"{SPEC.key}.lease").write_text(json.dumps({"holder": "other/0"}))


def read_progress(folder: Path) -> Any:
    """What runs by these files, in sentences: damaged ones are nobody's, and stop nothing."""
    Leases(folder).held(SPEC.key)
    found = [progress.read(path) for path in sorted((folder / "progress").glob("*.json"))]
    return ABSENT if None in found else [progress.sentence(each) for each in found if each is not None]


SUBJECTS: dict[str, Subject] = {
    "record, loose": Subject(write_record, read_record),
    "record, packed": Subject(write_pack, read_record),
    "snapshot": Subject(write_snapshot, read_snapshot),
    "cached rows": Subject(write_rows, read_rows),
    "kept replay": Subject(write_replay, read_replay),
    "progress and lease": Subject(write_progress, read_progress, lambda *_: True),
    "suite pages": Subject(write_suite, read_suite, suite_says),
    "claims page": Subject(write_ledger, read_ledger, ledger_says),
    "table of curves": Subject(write_csv, read_csv, csv_says),
}


def prepared(name: str, place: Path) -> tuple[Subject, Path, Any]:
    """The subject, its sound files and what is read from them."""
    subject, sound = SUBJECTS[name], place / "sound"
    sound.mkdir(parents=True)
    with mock.patch.object(provenance, "engine", lambda task, drop=(): "e0"):
        subject.make(sound)
        return subject, sound, subject.read(sound)


def main() -> int:
    """A row a subject; exit code 1 where anything was not refused, harmless or taken as written."""
    logging.disable(logging.CRITICAL)
    tries, bad = int(sys.argv[1]), []
    print("| files | edits tried | refused in a sentence | harmless | taken as written | raw tracebacks | silently "
          "accepted |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for name in sys.argv[2:] or SUBJECTS:
        rng, counts = random.Random(0), Counter[str]()
        with tempfile.TemporaryDirectory() as place:
            subject, sound, value = prepared(name, Path(place))
            for _ in range(tries):
                edit = Edit(rng.random(), rng.random(), rng.choice(HOW), rng.randrange(256))
                outcome = attempt(subject, sound, value, edit, Path(place))
                counts[outcome.split(":")[0]] += 1
                bad += [f"{name}: {outcome}"] if ":" in outcome or outcome == "wordless" else []
        kinds = ("refused", "harmless", "as written", "traceback", "accepted")
        print(f"| {name} | {tries} | " + " | ".join(str(counts[kind]) for kind in kinds) + " |", flush=True)
    print("\n".join(bad), file=sys.stderr)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
