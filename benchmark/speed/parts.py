"""Times the parts of one env step in turn, so that a drift in the machine's speed affects all of them alike."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from statistics import mean, median
from typing import NamedTuple

import numpy as np
import torch

from mbpo import loop, sac
from mbpo.config import Budget
from mbpo.fast import peak
from mbpo.fast.engine import Engine
from mbpo.nn import rounds_bf16
from mbpo.state import TrainState

Work = Callable[[], object]
EPISODE = 1_000
"""Assumed length of an episode without a time limit, in env steps."""
SQUARES = {"cpu": (256, 512, 1024), "cuda": (1024, 4096, 8192)}
FITS = {"cpu": (10, 40), "cuda": (64, 128)}
"""Updates of two fits: their difference leaves out what a fit does once. Whole blocks where blocks are captured."""
SMALL = 4
"""Repetitions of a short part per repetition of a long one."""


class Parts(NamedTuple):
    """Median seconds of each part of all runs together, the speeds they are compared with, and both turn by turn."""

    seconds: dict[str, float]
    peak_flops: float | None  # the machine's, by `fast.peak`
    matmul_flops: float  # torch's products of squares
    turns: list[dict[str, float]]  # mean seconds of each part in one turn, with the turn's own `..._flops`


def time_parts(state: TrainState, budget: Budget, rounds: int) -> Parts:
    """Time every part in turn; `advance` is a whole env step without its share of a fit.

    The machine's peak and torch's squares are timed before each part, in the same minutes. Otherwise, where other
    processes come and go, the median of short works would be that of a quiet machine, and that of long works not.
    `evaluation` is the share of one env step.
    """
    squares, works, precision = _squares(state.engine), _works(state, budget), register_precision(state.engine)
    turns: list[dict[str, float]] = []
    all_seconds: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        turn_seconds: dict[str, list[float]] = {}
        for name, (work, times) in works.items():
            if precision is not None:
                flops = peak.flops(precision, torch.get_num_threads())
                assert flops is not None, "the multiply-adds existed a moment ago"
                turn_seconds.setdefault("flop", []).append(1 / flops)
            for square, multiply in squares.items():
                turn_seconds.setdefault(square, []).append(seconds(multiply, state.engine))
            turn_seconds.setdefault(name, []).extend(seconds(work, state.engine) for _ in range(times))
        if turn:  # the first is a warm-up
            turns.append(_part_seconds(state, budget, {name: mean(values) for name, values in turn_seconds.items()}))
            for name, values in turn_seconds.items():
                all_seconds.setdefault(name, []).extend(values)
    parts = _part_seconds(state, budget, {name: median(values) for name, values in all_seconds.items()})
    if state.dynamics is not None:  # median of differences: both fits of a turn are of one moment
        parts["model_update"] = median(turn["model_update"] for turn in turns)
    return Parts(parts, parts.pop("peak_flops", None), parts.pop("matmul_flops"), turns)


def register_precision(engine: Engine) -> str | None:
    """The precision of the multiply-adds in this engine's products; None where `fast.peak` has no such chains."""
    rounded = engine.precision == "bf16" and rounds_bf16(engine.device)
    precision = "fp32" if rounded else engine.precision
    on_cpu = engine.device.type == "cpu"
    return precision if on_cpu and peak.multiply_adds(precision, rounds=1) is not None else None


def _part_seconds(state: TrainState, budget: Budget, seconds_of: dict[str, float]) -> dict[str, float]:
    """Seconds of each part, `matmul_flops` and, if timed, `peak_flops`, from the seconds of all works."""
    limit = state.envs.info.time_limit or EPISODE
    parts = {
        "env": seconds_of["env"],
        "act": seconds_of["act"],
        "sac_update": seconds_of["block"] / state.method.utd,
        "evaluation": seconds_of["evaluation"] * limit / budget.eval_every,
        "advance": seconds_of["advance"],
        "matmul_flops": max(flops / seconds_of[name] for name, flops in _square_flops(state.engine).items()),
    }
    if "flop" in seconds_of:
        parts["peak_flops"] = 1 / seconds_of["flop"]
    if state.dynamics is not None:
        short, long = FITS[state.engine.device.type]
        parts["model_update"] = (seconds_of["long fit"] - seconds_of["short fit"]) / (long - short)
    if state.synthetic is not None:
        parts["rollout"] = seconds_of["rollout"]
    return parts


def _works(state: TrainState, budget: Budget) -> dict[str, tuple[Work, int]]:
    """The works beside products of squares, each with its repetitions per turn: parts and the whole env step."""
    noise = state.streams.normal("act", 1, state.layout.action_dim)
    obs = state.tensor(state.obs)[:, None]
    works: dict[str, tuple[Work, int]] = {
        "env": (_stepping(state), SMALL),
        "act": (lambda: sac.act(state.sac, obs, noise).cpu(), SMALL),
        "evaluation": (_evaluation(state, budget), SMALL),
        "block": (lambda: loop.update_block(state), 1),
    }
    if state.synthetic is not None:
        works["rollout"] = (lambda: loop.branch_rollouts(state), SMALL)
    if state.dynamics is not None:
        short, long = FITS[state.engine.device.type]
        works |= {
            "short fit": (lambda: brief_fit(state, short), 1),
            "long fit": (lambda: brief_fit(state, long), 1),
        }

    def with_products(work: Work) -> Work:
        def run() -> None:
            with state.engine.products():
                work()

        return run

    # An env step sets the precision of products itself.
    timed = {name: (with_products(work), times) for name, (work, times) in works.items()}
    return {**timed, "advance": (lambda: loop.advance(state), 1)}


def seconds(work: Work, engine: Engine) -> float:
    """Seconds of `work`, with the device idle before and after.

    One thread on a CPU is timed in CPU seconds, so that other processes on the same core do not count.
    """
    alone = engine.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    settle(engine)
    start = clock()
    work()
    settle(engine)
    return clock() - start


def settle(engine: Engine) -> None:
    """Wait until the device is idle."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)


def peak_memory(engine: Engine) -> int:
    """Peak bytes that torch held on the GPU, or that this process held in memory."""
    if engine.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(engine.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _stepping(state: TrainState) -> Work:
    """One step of all environments; those whose episode ended are reset."""
    runs = len(state.runs)
    actions = np.zeros((runs, state.layout.action_dim), np.float32)

    def step() -> None:
        _, _, terminated, truncated = state.envs.step(actions)
        ended = [r for r in range(runs) if terminated[r] or truncated[r]]
        if ended:
            state.reset(ended)

    return step


def _evaluation(state: TrainState, budget: Budget) -> Work:
    """One batched step of all evaluation episodes of all runs."""
    n = budget.eval_episodes
    envs = state.eval_envs(n)
    latest = {"obs": envs.reset(list(range(n * len(state.runs))))}

    def step() -> None:
        obs = state.tensor(latest["obs"]).view(len(state.runs), n, -1)
        action = sac.act(state.sac, obs, None).flatten(0, 1).cpu().numpy()
        latest["obs"], _, terminated, truncated = envs.step(action)
        ended = np.flatnonzero(terminated | truncated).tolist()
        if ended:
            latest["obs"][ended] = envs.reset(ended, ended)

    return step


def brief_fit(state: TrainState, updates: int) -> None:
    """A fit as in the loop, but of `updates` updates."""
    assert state.dynamics is not None
    config = state.dynamics.config
    state.dynamics.config = config.model_copy(update={"updates": updates})
    try:
        loop.fit_model(state)
    finally:
        state.dynamics.config = config


def _square_flops(engine: Engine) -> dict[str, float]:
    return {f"square {size}": 2.0 * size**3 * _times(size) for size in SQUARES[engine.device.type]}


def _times(size: int) -> int:
    return max(1, 2 * (1024 // size) ** 3)  # so that small ones take as long as large ones


def _squares(engine: Engine) -> dict[str, Work]:
    """Products of square matrices in the engine's precision; the fastest counts."""
    dtype = torch.bfloat16 if engine.precision == "bf16" and not rounds_bf16(engine.device) else engine.dtype

    def product(size: int) -> Work:
        a, b = (torch.randn(size, size, device=engine.device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)

        def multiply() -> None:
            with engine.products():
                for _ in range(_times(size)):
                    torch.mm(a, b, out=out)

        return multiply

    return {f"square {size}": product(size) for size in SQUARES[engine.device.type]}
