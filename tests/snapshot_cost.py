"""What snapshots cost: seconds, bytes and memory at full buffers of quadruped-walk, without training that long.

    python tests/snapshot_cost.py 100000 500000

Buffers are filled with random rows. Of each size the first snapshot is written, which holds all rows, and then one
after `AHEAD` more env steps, as at the usual cadence.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch

from benchmark.suite.load import specs
from mbpo import Budget, saving
from mbpo.fast.engine import engine
from mbpo.state import Run, TrainState

TASK = "dmc:quadruped-walk"
AHEAD = 15_000
"""Env steps in 300 seconds at 50 a second."""


def resident() -> float:
    """Memory of this process, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def fill(state: TrainState, steps: int) -> None:
    """Random rows as if `steps` more env steps had been made."""
    per_step = state.method.rollout.per_step * state.method.rollout_length(state.env_steps)
    for buffer, count in ((state.real, steps), (state.synthetic, steps * per_step)):
        while buffer is not None and count:
            n = min(count, 10_000)
            buffer.add(torch.rand(len(state.runs), n, state.layout.width))
            count -= n
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


def main() -> None:
    """One line per size and snapshot."""
    torch.set_num_threads(1)
    (spec,) = specs("train", [TASK], ["mbpo"], "paper", 1)
    for rows in map(int, sys.argv[1:]):
        place = Path(tempfile.mkdtemp(prefix="cost-"))
        budget = Budget(env_steps=rows + AHEAD, eval_every=rows + AHEAD, eval_episodes=1)
        state = TrainState(TASK, [Run(spec.constants, 0)], budget, engine("cpu", "fp32"))
        fill(state, rows)
        whole = {"rows": rows, "resident MB": round(resident()), **measured(state, [place / "0"])}
        print(json.dumps({"first": whole}), flush=True)
        fill(state, AHEAD)
        print(json.dumps({"after 15k more steps": measured(state, [place / "0"])}), flush=True)
        started = time.monotonic()
        fresh = TrainState(TASK, [Run(spec.constants, 0)], budget, engine("cpu", "fp32"))
        saving.restore(fresh, [place / "0"], state.env_steps)
        print(json.dumps({"resume s": round(time.monotonic() - started, 2)}), flush=True)
        assert torch.equal(fresh.real.rows[0, : rows + AHEAD], state.real.rows[0, : rows + AHEAD])
        for each in (state, fresh):
            each.close()
        del state, fresh
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
