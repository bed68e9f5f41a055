"""What one env step costs, part by part, against the matmul peak that this machine reaches in the same process.

Medians after a warm-up; machines are shared and noisy, so quote ratios of one run with the peak beside them. `seconds`
of a part are for all runs in lockstep together and for one execution of it; `total_per_env_step_per_run` weighs the
parts as the method's constants do. The arithmetic is counted by `benchmark.running.cost`, not timed.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmark.running import cost
from benchmark.suite.pages import load_suite
from mbpo import dynamics, loop, sac
from mbpo.accelerate import Engine, engine
from mbpo.config import Budget, InputError, Method
from mbpo.state import Run, TrainState

WARM_UP_STEPS = 300
EPISODE = 1_000
"""Env steps of an episode without a time limit."""
PEAK_SIZES = (256, 512, 1024)


@dataclass(frozen=True)
class Question:
    """What to time."""

    task: str = "dmc:quadruped-walk"
    method: str = "mbpo"
    runs: int = 1
    threads: int = 1
    precision: str = "fp32"
    device: str = "auto"


def measure(question: Question, repeats: int = 30) -> dict[str, Any]:
    """Time every part; the keys are those of the JSON. Raises `InputError` for an unknown task, method or device."""
    place = engine(question.device, question.precision)
    torch.set_num_threads(question.threads)
    method = load_suite().method(question.method, question.task)
    budget = Budget(env_steps=WARM_UP_STEPS + 10_000)
    state, compile_s = _warmed_up(question, method, budget, place)
    with place.products():
        parts = _parts(state, budget, repeats)
        peak = peak_flops(place)
    state.close()
    weights = {"env": 1.0, "act": 1.0, "sac_update": method.utd, "evaluation": 1.0}
    if method.model is not None:
        weights |= {
            "model_update": method.model.updates / method.model.fit_every,
            "rollout": 1.0 / method.rollout.every,
        }
    total = sum(weight * parts[name] for name, weight in weights.items()) / question.runs
    gflop = cost.env_step_flops(method, state.layout.obs_dim, state.layout.action_dim) / 1e9
    return {
        **vars(question),
        "device": str(place.device) if place.device.type == "cpu" else torch.cuda.get_device_name(place.device),
        "peak_gflops": peak / 1e9,
        "gflop_per_env_step_per_run": gflop,
        "seconds": {**parts, "total_per_env_step_per_run": total},
        "share": {name: weight * parts[name] / question.runs / total for name, weight in weights.items()},
        "fraction_of_peak": gflop * 1e9 / total / peak,
        "first_use_s": compile_s,
        "peak_memory_bytes": _peak_memory(place),
    }


def _warmed_up(question: Question, method: Method, budget: Budget, place: Engine) -> tuple[TrainState, float]:
    """A job with some real rows, a fitted model and one block behind it, and the seconds its first block took."""
    brief: dict[str, Any] = {"random_steps": WARM_UP_STEPS}
    if method.model is not None:
        if method.model.stopping == "early":
            raise InputError(
                f"method {question.method!r} stops its fits early, so an env step has no fixed cost; try 'mbpo'"
            )
        # Only the warm-up's own fit is shortened; the report weighs with the method's constants.
        brief["model"] = method.model.model_copy(update={"updates": 3})
    runs = [Run(method.model_copy(update=brief), seed) for seed in range(question.runs)]
    state = TrainState(question.task, runs, budget, place)
    while state.env_steps < WARM_UP_STEPS - 1:
        loop.step_environments(state)
    start = time.perf_counter()
    loop.advance(state)
    _settle(place)
    return state, time.perf_counter() - start


def _parts(state: TrainState, budget: Budget, repeats: int) -> dict[str, float]:
    """Median seconds of each part."""
    place, runs, layout = state.engine, len(state.runs), state.layout
    noise = state.streams.normal("act", 1, layout.action_dim)
    obs = state.tensor(state.obs)[:, None]
    actions = np.zeros((runs, layout.action_dim), np.float32)

    def step() -> None:
        _, _, terminated, truncated = state.envs.step(actions)
        ended = [r for r in range(runs) if terminated[r] or truncated[r]]
        if ended:
            state.reset(ended)

    parts = {
        "env": _median(step, 4 * repeats, place),
        "act": _median(lambda: sac.act(state.sac, obs, noise).cpu(), repeats, place),
        "sac_update": _median(lambda: loop.update_block(state), max(repeats // 5, 3), place) / state.method.utd,
        "evaluation": _evaluation(state, budget, repeats),
    }
    if state.dynamics is not None:
        model, rows = state.dynamics, state.real.filled()
        batch = rows[:, torch.randint(rows.shape[1], (model.config.batch_size,), device=rows.device)]
        parts["model_update"] = _median(lambda: dynamics.update(model, batch), repeats, place)
        parts["rollout"] = _median(lambda: loop.branch_rollouts(state), repeats, place)
    return parts


def _evaluation(state: TrainState, budget: Budget, repeats: int) -> float:
    """Seconds of evaluation that fall on one env step: batched steps of all episodes, spread over the period."""
    n, limit = budget.eval_episodes, state.envs.info.time_limit or EPISODE
    envs = state.eval_envs(n)
    seeds = list(range(n * len(state.runs)))
    held = {"obs": envs.reset(seeds)}

    def step() -> None:
        obs = state.tensor(held["obs"]).view(len(state.runs), n, -1)
        action = sac.act(state.sac, obs, None).flatten(0, 1).cpu().numpy()
        held["obs"], _, terminated, truncated = envs.step(action)
        ended = np.flatnonzero(terminated | truncated).tolist()
        if ended:
            held["obs"][ended] = envs.reset(ended, ended)

    return _median(step, repeats, state.engine) * limit / budget.eval_every


def peak_flops(place: Engine) -> float:
    """Floating-point operations per second of the fastest of some square products, in the engine's precision."""
    dtype = torch.bfloat16 if place.precision == "bf16" else place.dtype
    best = 0.0
    for size in PEAK_SIZES:
        a, b = (torch.randn(size, size, device=place.device, dtype=dtype) for _ in range(2))
        out, times = torch.empty_like(a), max(1, 2 * (512 // size) ** 3)

        def products(a: torch.Tensor = a, b: torch.Tensor = b, out: torch.Tensor = out, times: int = times) -> None:
            for _ in range(times):
                torch.mm(a, b, out=out)

        best = max(best, 2 * size**3 * times / _median(products, 15, place))
    return best


def profile(question: Question, rows: int = 15) -> str:
    """Where the time of one env step goes, operation by operation, as torch's profiler tells it."""
    place = engine(question.device, question.precision)
    torch.set_num_threads(question.threads)
    method = load_suite().method(question.method, question.task)
    state, _ = _warmed_up(question, method, Budget(env_steps=WARM_UP_STEPS + 10_000), place)
    with torch.profiler.profile() as told:
        loop.advance(state)
    state.close()
    return str(told.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=40))


def _median(work: Callable[[], object], repeats: int, place: Engine) -> float:
    seconds = []
    for _ in range(repeats + 1):
        _settle(place)
        start = time.perf_counter()
        work()
        _settle(place)
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def _settle(place: Engine) -> None:
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)


def _peak_memory(place: Engine) -> int:
    if place.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(place.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def sentences(found: dict[str, Any]) -> list[str]:
    """The measurement as lines for people."""
    seconds, share = found["seconds"], found["share"]
    what = f"{found['method']} on {found['task']}, {found['runs']} in lockstep, {found['threads']} threads"
    lines = [
        f"{what}, {found['precision']} on {found['device']}",
        f"  matmul peak here   {found['peak_gflops']:.0f} GFLOP/s",
        f"  one env step       {seconds['total_per_env_step_per_run']:.4g} s per run,"
        f" {found['gflop_per_env_step_per_run']:.1f} GFLOP, {found['fraction_of_peak']:.2f} of the peak",
    ]
    for name, part in sorted(share.items(), key=lambda item: -item[1]):
        lines.append(f"  {name:<14} {part:5.1%} of it, {seconds[name] * 1e3:.3g} ms each")
    return [*lines, f"  peak memory        {found['peak_memory_bytes'] / 2**20:.0f} MiB"]
