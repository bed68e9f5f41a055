"""The cost of one env step by part, beside this machine's peak and torch's own matrix product in the same process.

Figures are medians after a warm-up. Machines are shared and noisy, so quote ratios of one run with its peak. The
`seconds` of a part are for one execution and for all runs in lockstep together.

`peak_gflops` is the rate of multiply-adds in registers in this precision and number of threads (`fast.peak`), which
nothing exceeds; None on a GPU and without kernels. `matmul_gflops` is torch's fastest product of square matrices, which
the kernels may exceed. `fraction_of_peak` and `fraction_of_matmul` are medians over the rounds, each round with its own
figure; None without it.

`host` is the rest of an env step beyond its parts. `total_per_env_step_per_run` weighs all parts by the method's
constants. `cpus_had` is the average number of CPUs that the process had while it was timed: below `threads` if other
processes took their share, which CPU seconds of one thread leave out and those of several include. The arithmetic is
counted by `benchmark.running.cost`, not timed.
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
from mbpo.fast.engine import Engine
from mbpo.fast.engine import engine as make_engine
from mbpo.state import Run, TrainState

WARM_UP_STEPS = 300
AHEAD = 1_000
"""Env steps after the warm-up that buffers have room for: few, so that many runs fit in memory."""
OUTSIDE = ("model_update", "evaluation", "host")
"""Parts that an env step between two fits and two evaluations lacks, and the rest computed from it."""


@dataclass(frozen=True)
class Question:
    """What is timed: a method on a task, with its runs in lockstep, threads, precision and device."""

    task: str = "dmc:quadruped-walk"
    method: str = "mbpo"
    runs: int = 1
    threads: int = 1
    precision: str = "fp32"
    device: str = "auto"


def device_name(question: Question) -> str:
    """The GPU's name, or "cpu". Raises `InputError` for a device or precision that cannot be used."""
    device = make_engine(question.device, question.precision).device
    return str(device) if device.type == "cpu" else torch.cuda.get_device_name(device)


def usual_threads(question: Question) -> int:
    """Default CPU threads: one, as a worker has, or all beside a GPU, where they step environments."""
    return 1 if device_name(question) == "cpu" else cpu_count()


def measure(question: Question, rounds: int = 8) -> dict[str, Any]:
    """Time every part; the keys are those of the JSON.

    Raises:
        InputError: unknown task, method or device, or a method that stops its fits early.
    """
    engine = _engine(question)
    torch.set_num_threads(question.threads)
    method = load_suite().method(question.method, question.task)
    budget = Budget(env_steps=WARM_UP_STEPS + AHEAD)
    state, first = warmed_up(question, method, budget, engine)
    wall_s, busy_s = time.perf_counter(), time.process_time()
    timed = time_parts(state, budget, rounds)
    cpus_had = (time.process_time() - busy_s) / (time.perf_counter() - wall_s)
    state.close()
    weights = _weights(method)
    parts = _with_host(timed.seconds, method, weights)
    total = _weighed(parts, weights) / question.runs
    dims = state.layout.obs_dim, state.layout.action_dim
    gflop = cost.env_step_flops(method, *dims, kernels=engine.means == "kernels") / 1e9
    # Turn by turn: if the speed of the machine drifts, it changes both sides of a fraction alike.
    flops_per_step = gflop * 1e9 * question.runs
    rates = [(turn, flops_per_step / _weighed(_with_host(turn, method, weights), weights)) for turn in timed.turns]
    per_peak = [flops / turn["peak_flops"] for turn, flops in rates if "peak_flops" in turn]
    return {
        **vars(question),
        "device": device_name(question),
        "means": engine.means,
        "obs_dim": state.layout.obs_dim,
        "action_dim": state.layout.action_dim,
        "peak_gflops": None if timed.peak_flops is None else timed.peak_flops / 1e9,
        "matmul_gflops": timed.matmul_flops / 1e9,
        "gflop_per_env_step_per_run": gflop,
        "seconds": {**parts, "total_per_env_step_per_run": total},
        "share": {name: weight * parts[name] / question.runs / total for name, weight in weights.items()},
        "fraction_of_peak": median(per_peak) if per_peak else None,
        "fraction_of_matmul": median(flops / turn["matmul_flops"] for turn, flops in rates),
        "cpus_had": cpus_had,
        "compile_s": max(first - timed.seconds["advance"], 0.0),
        "peak_memory_bytes": peak_memory(engine),
    }


def _engine(question: Question) -> Engine:
    """The engine of a job of the paper's length: it also compiles, which would not pay in a short one."""
    engine = make_engine(question.device, question.precision)
    return replace(engine, fuse_from=0) if engine.capture else engine


def _with_host(parts: Mapping[str, float], method: Method, weights: Mapping[str, float]) -> dict[str, float]:
    """`parts` with `host` in place of `advance`, the whole env step."""
    inside = {name: weight for name, weight in weights.items() if name not in OUTSIDE}
    if method.rollout.every > 1:
        inside.pop("rollout", None)  # most env steps have none
    host = parts["advance"] - sum(weight * parts[name] for name, weight in inside.items())
    return {**{name: parts[name] for name in weights if name != "host"}, "host": host}


def _weighed(parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Seconds of one env step of all runs: the weighted sum of its parts."""
    return sum(weight * parts[name] for name, weight in weights.items())


def _weights(method: Method) -> dict[str, float]:
    """Executions of each part per env step; `host` and `evaluation` are seconds per env step already."""
    weights = {"env": 1.0, "act": 1.0, "sac_update": float(method.utd), "host": 1.0, "evaluation": 1.0}
    if method.model is not None:
        if method.fits_model:
            weights["model_update"] = method.model.updates / method.model.fit_every
        weights["rollout"] = 1.0 / method.rollout.every
    return weights


def warmed_up(question: Question, method: Method, budget: Budget, engine: Engine) -> tuple[TrainState, float]:
    """A job with real rows, a fitted model and one block of updates done; and the seconds of that first block."""
    shortened: dict[str, Any] = {"random_steps": WARM_UP_STEPS}
    if method.model is not None and method.model.stopping == "early":
        raise InputError(
            f"method {question.method!r} stops its fits early, so an env step has no fixed cost; try 'mbpo'"
        )
    runs = [Run(method.model_copy(update=shortened), seed) for seed in range(question.runs)]
    state = TrainState(question.task, runs, budget, engine)
    while state.env_steps < WARM_UP_STEPS + 1:  # one past the step that fits, so that no later one does
        loop.step_environments(state)
    start = time.perf_counter()
    with engine.products():
        if state.dynamics is not None:
            brief_fit(state, 3)
        if state.synthetic is not None:
            loop.branch_rollouts(state)
        loop.update_block(state)
    settle(engine)
    return state, time.perf_counter() - start


def profile(question: Question, rows: int = 15) -> str:
    """The time of one env step by operation, as a table of torch's profiler with `rows` rows."""
    engine = _engine(question)
    torch.set_num_threads(question.threads)
    method = load_suite().method(question.method, question.task)
    state, _ = warmed_up(question, method, Budget(env_steps=WARM_UP_STEPS + AHEAD), engine)
    with torch.profiler.profile() as profiler:
        loop.advance(state)
        if method.model is not None and method.fits_model:
            with engine.products():
                brief_fit(state, round(method.model.updates / method.model.fit_every))
    state.close()
    return str(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=40))


def sentences(result: dict[str, Any]) -> list[str]:
    """The measurement as lines of text."""
    seconds, share = result["seconds"], result["share"]
    question = f"{result['method']} on {result['task']}, {result['runs']} in lockstep, {result['threads']} threads"
    lines = [
        f"{question}, {result['precision']} on {result['device']} with {result['means']}",
        f"  torch's product    {result['matmul_gflops']:.0f} GFLOP/s",
        f"  one env step       {seconds['total_per_env_step_per_run']:.4g} s per run,"
        f" {result['gflop_per_env_step_per_run']:.1f} GFLOP, {result['fraction_of_matmul']:.2f} of torch's product",
    ]
    if result["peak_gflops"] is not None:
        lines.insert(1, f"  machine's peak     {result['peak_gflops']:.0f} GFLOP/s")
        lines[-1] += f", {result['fraction_of_peak']:.2f} of the machine's peak"
    for name, part in sorted(share.items(), key=lambda item: -item[1]):
        lines.append(f"  {name:<14} {part:6.2%} of it, {seconds[name] * 1e3:.3g} ms each")
    evaluation = Budget()
    cadence = f"{evaluation.eval_episodes} episodes every {evaluation.eval_every:,} env steps"
    return [
        *lines,
        f"  evaluation at the paper's cadence, {cadence}, is {share['evaluation']:.2%} of the time",
        f"  first block        {result['compile_s']:.2g} s more than a later one",
        f"  peak memory        {result['peak_memory_bytes'] / 2**20:.0f} MiB",
    ]
