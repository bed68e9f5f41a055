"""A soak: many tiny runs, workers that are killed every few seconds, records that equal undisturbed ones to the bit.

    python tests/soak.py --blocks 14 --steps 300 --every 3

Not part of the suite: it takes minutes. On a busy machine give a larger --every, so that a worker gets to its next
snapshot at all. First all runs are trained by one process in peace. Then one worker and then
six share them in shuffled order, while one of them after the other is ended by SIGKILL or SIGTERM and started again.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import torch  # noqa: E402
from helpers import FITTED, FTFL, MBPO, small  # noqa: E402
from toy_envs import DRIFT  # noqa: E402

from benchmark.records.spec import RunSpec  # noqa: E402
from benchmark.records.store import Store  # noqa: E402
from benchmark.running import provenance  # noqa: E402
from benchmark.running.clean import leftovers  # noqa: E402
from benchmark.running.ensure import ensure  # noqa: E402
from benchmark.running.stopping import Stopped  # noqa: E402
from mbpo import Budget, loop  # noqa: E402

ARMS = {"mbpo": MBPO, "ftfl": FTFL, "fitted": FITTED}


def blocks(count: int, steps: int) -> list[list[RunSpec]]:
    """`count` lockstep jobs of three runs each; a constant of its own keeps each job's company together."""
    budget = Budget(env_steps=steps, eval_every=steps // 4, eval_episodes=1)
    return [
        [
            RunSpec(
                kind="train", task=DRIFT, method=name, seed=k, constants=small(arm, random_steps=40 + k), budget=budget
            )
            for name, arm in ARMS.items()
        ]
        for k in range(count)
    ]


def work(place: str, wanted: list[list[RunSpec]], seed: int, log: str) -> None:
    """One worker: all runs, its blocks in an order of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    loop._SAVING_SHARE = 1.0  # snapshots as often as can be
    logging.basicConfig(filename=log, level=logging.WARNING, format=f"{os.getpid()} %(message)s", force=True)
    shuffled = random.Random(seed).sample(wanted, len(wanted))
    store = Store(Path(place) / "results", Path(place) / "cache")
    runs = [run for block in shuffled for run in block]
    try:
        ensure(runs, store, device="cpu", checkpoint_seconds=0.05, poll_seconds=0.2)
    except Stopped as stopped:
        sys.exit(stopped.code)


def disturbed(
    place: Path, wanted: list[list[RunSpec]], workers: int, every: float, rng: random.Random
) -> dict[str, Any]:
    """Have `workers` train everything while one after the other is ended; what happened."""
    context = multiprocessing.get_context("fork")
    start, seeds = time.monotonic(), iter(range(1, 10**6))
    place.mkdir()
    ends: dict[str, int] = {"SIGKILL": 0, "SIGTERM": 0, "failed": 0}

    def begin() -> Any:
        process = context.Process(target=work, args=(str(place), wanted, next(seeds), str(place / "log")))
        process.start()
        return process

    alive, due = [begin() for _ in range(workers)], time.monotonic() + every
    while alive:
        time.sleep(0.1)
        for process in [p for p in alive if p.exitcode is not None]:
            alive.remove(process)
            if process.exitcode not in (0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM):
                ends["failed"] += 1
            if process.exitcode != 0:  # whoever watches over a command starts it again until it has ended well
                alive.append(begin())
        if alive and time.monotonic() >= due:
            victim, number = rng.choice(alive), rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
            os.kill(victim.pid, number)
            ends[number.name] += 1
            due = time.monotonic() + rng.uniform(0.5, 1.5) * every
    return {**ends, "seconds": round(time.monotonic() - start, 1)}


def compare(whole: Store, broken: Store, runs: list[RunSpec]) -> dict[str, Any]:
    """Runs whose tables differ in any byte, and how often runs were resumed."""
    differ, stretches = [], []
    for run in runs:
        pair = [store.runs / run.slug / run.method / run.key for store in (whole, broken)]
        if any(
            one.read_bytes() != other.read_bytes()
            for one, other in zip(
                *([folder / name for name in ("curve.csv", "diagnostics.csv")] for folder in pair), strict=True
            )
        ):
            differ.append(run.key)
        stretches.append(len(broken.read(run).provenance["stretches"]))
    left = [path for path in (*broken.cache.rglob("*"), *broken.results.rglob("*.tmp")) if _is_orphan(path)]
    return {
        "runs": len(runs), "differ": differ, "resumed": sum(n > 1 for n in stretches), "most stretches": max(stretches),
        "orphans": [str(path.relative_to(broken.cache.parent)) for path in left],
        "leftovers to clean": len(leftovers(broken)), "torn": len(broken.torn()),
    }  # fmt: skip


def _is_orphan(path: Path) -> bool:
    """Whether a file or folder is nobody's, once all records are whole; file locks stay, and are empty."""
    return path.parent.name in ("snapshots", "progress") or path.suffix in (".tmp", ".gone", ".lease")


def main() -> int:
    """Exit code 1 where a record differs, is missing, or a worker failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=14, help="jobs of three runs")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between kills, on average")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 6])
    given = parser.parse_args()
    torch.set_num_threads(1)
    wanted, rng, bad = blocks(given.blocks, given.steps), random.Random(0), False
    runs = [run for block in wanted for run in block]
    provenance.code(), provenance.versions(), provenance.engine(DRIFT)  # workers are forked: they know it then
    place = Path(tempfile.mkdtemp(prefix="soak-"))
    start, whole = time.monotonic(), Store(place / "whole" / "results", place / "whole" / "cache")
    child = multiprocessing.get_context("fork").Process(target=peace, args=(str(place / "whole"), runs))
    child.start()
    child.join()
    print(
        json.dumps({"undisturbed": round(time.monotonic() - start, 1), "missing": len(whole.missing(runs))}), flush=True
    )
    for workers in given.workers:
        there = place / f"workers-{workers}"
        told = disturbed(there, wanted, workers, given.every, rng)
        found = compare(whole, Store(there / "results", there / "cache"), runs)
        print(json.dumps({"workers": workers, **told, **found}), flush=True)
        bad = bad or bool(found["differ"] or found["torn"] or found["orphans"] or told["failed"])
    if not bad:
        shutil.rmtree(place)
    return int(bad)


def peace(place: str, runs: list[RunSpec]) -> None:
    """All runs by one process."""
    torch.set_num_threads(1)
    ensure(runs, Store(Path(place) / "results", Path(place) / "cache"), device="cpu")


if __name__ == "__main__":
    sys.exit(main())
