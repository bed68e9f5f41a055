"""The parts of one env step, timed in turn so that a machine whose speed drifts slows all of them alike."""

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
"""Env steps of an episode without a time limit."""
SQUARES = {"cpu": (256, 512, 1024), "cuda": (1024, 4096, 8192)}
FITS = {"cpu": (10, 40), "cuda": (64, 128)}
"""Updates of two fits, whose difference is free of what a fit does once; whole blocks where blocks are captured."""
SMALL = 4
"""Times that a short part is repeated for each time of a long one."""


class Parts(NamedTuple):
    """Median seconds of each part, of all runs together, what they are held against, and both turn by turn."""

    seconds: dict[str, float]
    peak_flops: float | None  # the machine's, by `fast.peak`
    matmul_flops: float  # torch's products of squares
    turns: list[dict[str, float]]  # seconds of each part, means of the turn; with them the turn's own `..._flops`


def time_parts(state: TrainState, budget: Budget, rounds: int) -> Parts:
    """Time every part in turn; `advance` is an env step whole, without its share of a fit.

    The machine's peak and torch's squares are timed before every other part, so that a turn's are of the same minutes
    as its parts: where somebody else's work comes and goes, the median of a short work would be that of a quiet
    machine, and a long work's not. `evaluation` is what falls on one env step.
    """
    squares, works, registers = _squares(state.engine), _works(state, budget), of_registers(state.engine)
    turns: list[dict[str, float]] = []
    taken: dict[str, list[float]] = {}
    for turn in range(rounds + 1):
        found: dict[str, list[float]] = {}
        for name, (work, times) in works.items():
            if registers is not None:
                flops = peak.flops(registers, torch.get_num_threads())
                assert flops is not None, "they were there a moment ago"
                found.setdefault("flop", []).append(1 / flops)
            for square, multiply in squares.items():
                found.setdefault(square, []).append(seconds(multiply, state.engine))
            found.setdefault(name, []).extend(seconds(work, state.engine) for _ in range(times))
        if turn:  # the first is not counted: whatever runs once is slow
            turns.append(_part_seconds(state, budget, {name: mean(values) for name, values in found.items()}))
            for name, values in found.items():
                taken.setdefault(name, []).extend(values)
    parts = _part_seconds(state, budget, {name: median(values) for name, values in taken.items()})
    if state.dynamics is not None:  # of the pairs, whose halves are of one moment
        parts["model_update"] = median(turn["model_update"] for turn in turns)
    return Parts(parts, parts.pop("peak_flops", None), parts.pop("matmul_flops"), turns)


def of_registers(place: Engine) -> str | None:
    """The precision of the multiply-adds that products here are made of; None where `fast.peak` cannot make them."""
    rounded = place.precision == "bf16" and rounds_bf16(place.device)
    precision = "fp32" if rounded else place.precision
    on_cpu = place.device.type == "cpu"
    return precision if on_cpu and peak.multiply_adds(precision, rounds=1) is not None else None


def _part_seconds(state: TrainState, budget: Budget, middle: dict[str, float]) -> dict[str, float]:
    """Seconds of each part, `matmul_flops` and where there is one `peak_flops`, from the seconds of all works."""
    limit = state.envs.info.time_limit or EPISODE
    parts = {
        "env": middle["env"],
        "act": middle["act"],
        "sac_update": middle["block"] / state.method.utd,
        "evaluation": middle["evaluation"] * limit / budget.eval_every,
        "advance": middle["advance"],
        "matmul_flops": max(flops / middle[name] for name, flops in _square_flops(state.engine).items()),
    }
    if "flop" in middle:
        parts["peak_flops"] = 1 / middle["flop"]
    if state.dynamics is not None:
        few, many = FITS[state.engine.device.type]
        parts["model_update"] = (middle["long fit"] - middle["short fit"]) / (many - few)
        parts["rollout"] = middle["rollout"]
    return parts


def _works(state: TrainState, budget: Budget) -> dict[str, tuple[Work, int]]:
    """What is timed beside products of squares, and how often a turn: parts, and the env step whole."""
    noise = state.streams.normal("act", 1, state.layout.action_dim)
    obs = state.tensor(state.obs)[:, None]
    works: dict[str, tuple[Work, int]] = {
        "env": (_stepping(state), SMALL),
        "act": (lambda: sac.act(state.sac, obs, noise).cpu(), SMALL),
        "evaluation": (_evaluation(state, budget), SMALL),
        "block": (lambda: loop.update_block(state), 1),
    }
    if state.dynamics is not None:
        few, many = FITS[state.engine.device.type]
        works |= {
            "rollout": (lambda: loop.branch_rollouts(state), SMALL),
            "short fit": (lambda: brief_fit(state, few), 1),
            "long fit": (lambda: brief_fit(state, many), 1),
        }

    def inside(work: Work) -> Work:
        def run() -> None:
            with state.engine.products():
                work()

        return run

    # An env step sets the precision itself, so it is timed as it is.
    precise = {name: (inside(work), times) for name, (work, times) in works.items()}
    return {**precise, "advance": (lambda: loop.advance(state), 1)}


def seconds(work: Work, place: Engine) -> float:
    """Seconds of `work`, with the device idle before and after.

    One thread on a CPU is timed in seconds that it was given, so that others who want the same core do not count.
    """
    alone = place.device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    settle(place)
    start = clock()
    work()
    settle(place)
    return clock() - start


def settle(place: Engine) -> None:
    """Wait for the device."""
    if place.device.type == "cuda":
        torch.cuda.synchronize(place.device)


def peak_memory(place: Engine) -> int:
    """Bytes: the most that torch held of the GPU, or that this process held of the memory."""
    if place.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(place.device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _stepping(state: TrainState) -> Work:
    """One step of all environments, and new episodes where some ended."""
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
    held = {"obs": envs.reset(list(range(n * len(state.runs))))}

    def step() -> None:
        obs = state.tensor(held["obs"]).view(len(state.runs), n, -1)
        action = sac.act(state.sac, obs, None).flatten(0, 1).cpu().numpy()
        held["obs"], _, terminated, truncated = envs.step(action)
        ended = np.flatnonzero(terminated | truncated).tolist()
        if ended:
            held["obs"][ended] = envs.reset(ended, ended)

    return step


def brief_fit(state: TrainState, updates: int) -> None:
    """A fit as the loop makes it, but for its length."""
    assert state.dynamics is not None
    config = state.dynamics.config
    state.dynamics.config = config.model_copy(update={"updates": updates})
    try:
        loop.fit_model(state)
    finally:
        state.dynamics.config = config


def _square_flops(place: Engine) -> dict[str, float]:
    return {f"square {size}": 2.0 * size**3 * _times(size) for size in SQUARES[place.device.type]}


def _times(size: int) -> int:
    return max(1, 2 * (1024 // size) ** 3)  # so that small ones take as long


def _squares(place: Engine) -> dict[str, Work]:
    """Square products, in the engine's precision, of which the fastest counts."""
    dtype = torch.bfloat16 if place.precision == "bf16" and not rounds_bf16(place.device) else place.dtype

    def of(size: int) -> Work:
        a, b = (torch.randn(size, size, device=place.device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)

        def multiply() -> None:
            with place.products():
                for _ in range(_times(size)):
                    torch.mm(a, b, out=out)

        return multiply

    return {f"square {size}": of(size) for size in SQUARES[place.device.type]}
