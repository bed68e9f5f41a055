"""What one env step costs, part by part, against the peak of this machine and torch's own product in the same process.

Medians after a warm-up; machines are shared and noisy, so quote ratios of one run with the peak beside them. `seconds`
of a part are for all runs in lockstep together and for one execution of it.

`peak_gflops` is what the processor's multiply-adds give from registers in this precision and number of threads, which
nothing passes (`fast.peak`); None on a GPU and where there are no kernels. `matmul_gflops` is torch's fastest product
of squares, which the kernels may pass. Each fraction, `fraction_of_peak` and `fraction_of_matmul`, is the median over
the rounds, each with its own figure, and None with it.

`host` is what an env step takes beyond its parts, and `total_per_env_step_per_run`
weighs them all as the method's constants do. `cpus_had` is the number of CPUs that the process was given meanwhile:
below `threads` where others took their share, which one thread's seconds leave out and those of several include. The
arithmetic is counted by `benchmark.running.cost`, not timed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch

from benchmark.running import cost
from benchmark.running.workers import cpu_count
from benchmark.speed.parts import brief_fit, peak_memory, settle, time_parts
from benchmark.suite.load import load_suite
from mbpo import loop
from mbpo.config import Budget, InputError, Method
from mbpo.fast.engine import Engine, engine
from mbpo.state import Run, TrainState

WARM_UP_STEPS = 300
AHEAD = 1_000
"""Env steps that buffers have room for after the warm-up: few, so that many runs fit the memory."""
OUTSIDE = ("model_update", "evaluation", "host")
"""What an env step between two fits and two evaluations has no part of, and what is found from it."""


@dataclass(frozen=True)
class Question:
    """What to time."""

    task: str = "dmc:quadruped-walk"
    method: str = "mbpo"
    runs: int = 1
    threads: int = 1
    precision: str = "fp32"
    device: str = "auto"


def device_name(question: Question) -> str:
    """The GPU's name, or "cpu". Raises `InputError` for a device or precision that cannot be used."""
    place = engine(question.device, question.precision)
    return str(place.device) if place.device.type == "cpu" else torch.cuda.get_device_name(place.device)


def usual_threads(question: Question) -> int:
    """CPU threads where none are asked for: one, as a worker has, or beside a GPU all, which step environments."""
    return 1 if device_name(question) == "cpu" else cpu_count()


def measure(question: Question, rounds: int = 8) -> dict[str, Any]:
    """Time every part; the keys are those of the JSON. Raises `InputError` for an unknown task, method or device."""
    place = _engine(question)
    torch.set_num_threads(question.threads)
    method = load_suite().method(question.method, question.task)
    budget = Budget(env_steps=WARM_UP_STEPS + AHEAD)
    state, first = warmed_up(question, method, budget, place)
    wall, busy = time.perf_counter(), time.process_time()
    timed = time_parts(state, budget, rounds)
    had = (time.process_time() - busy) / (time.perf_counter() - wall)
    state.close()
    weights = _weights(method)
    parts = _with_host(timed.seconds, method, weights)
    total = _weighed(parts, weights) / question.runs
    dims = state.layout.obs_dim, state.layout.action_dim
    gflop = cost.env_step_flops(method, *dims, kernels=place.means == "kernels") / 1e9
    # Turn by turn, so that a machine whose speed drifts slows both sides of a fraction alike.
    whole = gflop * 1e9 * question.runs
    reached = [(turn, whole / _weighed(_with_host(turn, method, weights), weights)) for turn in timed.turns]
    per_peak = [flops / turn["peak_flops"] for turn, flops in reached if "peak_flops" in turn]
    return {
        **vars(question),
        "device": device_name(question),
        "means": place.means,
        "obs_dim": state.layout.obs_dim,
        "action_dim": state.layout.action_dim,
        "peak_gflops": None if timed.peak_flops is None else timed.peak_flops / 1e9,
        "matmul_gflops": timed.matmul_flops / 1e9,
        "gflop_per_env_step_per_run": gflop,
        "seconds": {**parts, "total_per_env_step_per_run": total},
        "share": {name: weight * parts[name] / question.runs / total for name, weight in weights.items()},
        "fraction_of_peak": median(per_peak) if per_peak else None,
        "fraction_of_matmul": median(flops / turn["matmul_flops"] for turn, flops in reached),
        "cpus_had": had,
        "compile_s": max(first - timed.seconds["advance"], 0.0),
        "peak_memory_bytes": peak_memory(place),
    }


def _engine(question: Question) -> Engine:
    """As for a job of the paper's length: what would not pay in a short one is done."""
    place = engine(question.device, question.precision)
    return replace(place, fuse_from=0) if place.capture else place


def _with_host(parts: Mapping[str, float], method: Method, weights: Mapping[str, float]) -> dict[str, float]:
    """`parts` with `host` in the place of the whole env step."""
    inside = {name: weight for name, weight in weights.items() if name not in OUTSIDE}
    if method.rollout.every > 1:
        inside.pop("rollout", None)  # then most env steps go without
    host = parts["advance"] - sum(weight * parts[name] for name, weight in inside.items())
    return {**{name: parts[name] for name in weights if name != "host"}, "host": host}


def _weighed(parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Seconds of an env step of all runs."""
    return sum(weight * parts[name] for name, weight in weights.items())


def _weights(method: Method) -> dict[str, float]:
    """How often each part falls on one env step; `host` and `evaluation` are given per env step."""
    weights = {"env": 1.0, "act": 1.0, "sac_update": float(method.utd), "host": 1.0, "evaluation": 1.0}
    if method.model is not None:
        weights["model_update"] = method.model.updates / method.model.fit_every
        weights["rollout"] = 1.0 / method.rollout.every
    return weights


def warmed_up(question: Question, method: Method, budget: Budget, place: Engine) -> tuple[TrainState, float]:
    """A job with some real rows, a fitted model and a block behind it, and the seconds that its first block took."""
    brief: dict[str, Any] = {"random_steps": WARM_UP_STEPS}
    if method.model is not None and method.model.stopping == "early":
        raise InputError(
            f"method {question.method!r} stops its fits early, so an env step has no fixed cost; try 'mbpo'"
        )
    runs = [Run(method.model_copy(update=brief), seed) for seed in range(question.runs)]
    state = TrainState(question.task, runs, budget, place)
    while state.env_steps < WARM_UP_STEPS + 1:  # one past the step that fits, so that none of what follows does
        loop.step_environments(state)
    start = time.perf_counter()
    with place.products():
        if state.dynamics is not None:
            brief_fit(state, 3)
            loop.branch_rollouts(state)
        loop.update_block(state)
    settle(place)
    return state, time.perf_counter() - start


def profile(question: Question, rows: int = 15) -> str:
    """Where the time of one env step goes, operation by operation, as torch's profiler tells it."""
    place = _engine(question)
    torch.set_num_threads(question.threads)
    method = load_suite().method(question.method, question.task)
    state, _ = warmed_up(question, method, Budget(env_steps=WARM_UP_STEPS + AHEAD), place)
    with torch.profiler.profile() as told:
        loop.advance(state)
        if method.model is not None:
            with place.products():
                brief_fit(state, round(method.model.updates / method.model.fit_every))
    state.close()
    return str(told.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=40))


def sentences(found: dict[str, Any]) -> list[str]:
    """The measurement as lines for people."""
    seconds, share = found["seconds"], found["share"]
    what = f"{found['method']} on {found['task']}, {found['runs']} in lockstep, {found['threads']} threads"
    lines = [
        f"{what}, {found['precision']} on {found['device']} with {found['means']}",
        f"  torch's product    {found['matmul_gflops']:.0f} GFLOP/s",
        f"  one env step       {seconds['total_per_env_step_per_run']:.4g} s per run,"
        f" {found['gflop_per_env_step_per_run']:.1f} GFLOP, {found['fraction_of_matmul']:.2f} of torch's product",
    ]
    if found["peak_gflops"] is not None:
        lines.insert(1, f"  machine's peak     {found['peak_gflops']:.0f} GFLOP/s")
        lines[-1] += f", {found['fraction_of_peak']:.2f} of the machine's peak"
    for name, part in sorted(share.items(), key=lambda item: -item[1]):
        lines.append(f"  {name:<14} {part:6.2%} of it, {seconds[name] * 1e3:.3g} ms each")
    evaluation = Budget()
    cadence = f"{evaluation.eval_episodes} episodes every {evaluation.eval_every:,} env steps"
    return [
        *lines,
        f"  evaluation at the paper's cadence, {cadence}, is {share['evaluation']:.2%} of the time",
        f"  first block        {found['compile_s']:.2g} s more than a later one",
        f"  peak memory        {found['peak_memory_bytes'] / 2**20:.0f} MiB",
    ]
