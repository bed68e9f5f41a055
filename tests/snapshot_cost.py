"""What snapshots cost: seconds, bytes and memory at full buffers of quadruped-walk, without training that long.

    python tests/snapshot_cost.py --steps 10000 100000 500000 --runs 1 12

Buffers are filled with random rows, the same for every run: they are views of one run's, so that twelve of them fit
into a small machine, while every byte is written for each. Of each size the first snapshot is written, which holds all
rows, and then one after `AHEAD` more env steps, as at the usual cadence. The rows of 12 runs are read again at the
smallest size alone, for they would not fit. `snapshot_cost.md` holds the figures.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import threading
import time
from pathlib import Path

import torch

from benchmark.suite.load import specs
from mbpo import Budget, saving
from mbpo.buffer import ReplayBuffer
from mbpo.fast.engine import engine
from mbpo.state import Run, TrainState

TASK = "dmc:quadruped-walk"
AHEAD = 15_000
"""Env steps in 300 seconds at 50 a second."""


def resident() -> float:
    """Memory of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def share(buffer: ReplayBuffer | None) -> None:
    """Let all runs of a buffer have the rows of the first, which are random."""
    if buffer is not None:
        runs, rows, width = buffer.rows.shape
        buffer.rows = torch.rand(1, rows, width, dtype=buffer.rows.dtype).expand(runs, -1, -1)


def advance(state: TrainState, steps: int) -> None:
    """As if `steps` more env steps had been made."""
    per_step = state.method.rollout.per_step * state.method.rollout_length(state.env_steps)
    for buffer, count in ((state.real, steps), (state.synthetic, steps * per_step)):
        if buffer is not None:
            buffer.added += count
    state.env_steps += steps


def measured(state: TrainState, folders: list[Path]) -> dict[str, float]:
    """One snapshot: seconds of wall and CPU, bytes on disk after it, the most memory during it above that before."""
    before, most, over = resident(), [resident()], threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            most[0] = max(most[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    wall, cpu = time.monotonic(), time.process_time()
    assert saving.save(state, folders)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    over.set()
    thread.join()
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    more = most[0] - before
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "MB": round(size / 1e6), "extra MB": round(more)}


def size(steps: int, runs: int, resume: bool) -> None:
    """Two snapshots of `runs` runs after `steps` env steps, and the time that reading them takes."""
    place = Path(tempfile.mkdtemp(prefix="cost-"))
    folders = [place / str(r) for r in range(runs)]
    (spec,) = specs("train", [TASK], ["mbpo"], "paper", 1)
    budget = Budget(env_steps=steps + AHEAD, eval_every=steps + AHEAD, eval_episodes=1)
    members = [Run(spec.constants, seed) for seed in range(runs)]
    state = TrainState(TASK, members, budget, engine("cpu", "fp32"))
    for buffer in (state.real, state.synthetic):
        share(buffer)
    told = {"env steps": steps, "runs": runs}
    for what, more in (("first", steps), ("15k steps later", AHEAD)):
        advance(state, more)
        print(json.dumps({**told, "snapshot": what, **measured(state, folders)}), flush=True)
    if resume:
        began, fresh = time.monotonic(), TrainState(TASK, members, budget, engine("cpu", "fp32"))
        saving.restore(fresh, folders, state.env_steps)
        print(json.dumps({**told, "resume s": round(time.monotonic() - began, 2)}), flush=True)
        assert torch.equal(fresh.real.rows[:, : steps + AHEAD], state.real.rows[:, : steps + AHEAD])
        fresh.close()
    state.close()
    shutil.rmtree(place)


def main() -> None:
    """One line per size and snapshot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[10_000, 100_000, 500_000])
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 12])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for runs in given.runs:
        for steps in given.steps:
            size(steps, runs, runs == 1 or steps == min(given.steps))


if __name__ == "__main__":
    main()
