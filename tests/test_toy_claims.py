"""The claims on toys: true in a world in which every knob turns its own measure, and not in one in which none does."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from synthetic import needed, toy_measures, toy_returns

from benchmark import toys
from benchmark.drawing import style
from benchmark.judging import verdicts as claims
from benchmark.judging.evidence import Evidence, Score
from benchmark.records.spec import lockstep
from benchmark.records.store import RETURN
from benchmark.report import toy_costs as drawn
from benchmark.suite.ledger import Claim, load_ledger
from benchmark.suite.load import load_suite

QUICK = load_suite().protocol("quick")
TOYS = [claim for claim in load_ledger().claims if claim.chapter == "toys"]
FLAT = {"reward_r2": 0.8, "calibration_obs": 1.2, "error_over_delta": 3.0, "logvar_raw": -8.0}
World = Callable[[str, str, int], tuple[float, dict[str, float]]]
"""Task, method, seed -> return of the second half, measures of a fit."""


def right(task: str, method: str, seed: int) -> tuple[float, dict[str, float]]:
    rng = np.random.default_rng(zlib.crc32(f"{task} {method} {seed}".encode()))
    returns = toy_returns(task, method, np.linspace(0, 1, 13), rng)[6:] if "Contact" not in task else np.zeros(1)
    return float(returns.mean()), toy_measures(task, method, rng)


def flat(task: str, method: str, seed: int) -> tuple[float, dict[str, float]]:
    shake = 1 + 0.02 * np.random.default_rng(zlib.crc32(f"{task} {method} {seed}".encode())).normal()
    return -5 * shake, {name: value * shake for name, value in FLAT.items()}


def verdicts(claim: Claim, world: World) -> set[str]:
    def side(task: str, method: str) -> tuple[Score, ...]:
        seeds = [world(task, method, seed) for seed in range(QUICK.seeds)]
        measure = claim.estimand.measure
        values = [earned if measure == RETURN else measures[measure] for earned, measures in seeds]
        return tuple(Score(seed, value, 1) for seed, value in enumerate(values))

    evidence = {t: Evidence(claim.arm, claim.against, side(t, claim.arm), side(t, claim.against)) for t in claim.tasks}
    return {out.verdict for out in claims.outcomes(claim, evidence).values()}


@pytest.mark.parametrize("claim", TOYS, ids=lambda claim: claim.id)
def test_every_claim_holds_where_the_paper_is_right(claim: Claim) -> None:
    assert verdicts(claim, right) == {"reproduced"}


@pytest.mark.parametrize("claim", TOYS, ids=lambda claim: claim.id)
def test_no_difference_is_found_where_no_knob_turns_anything(claim: Claim) -> None:
    harmless = claim.criterion.kind == "non-inferiority"
    assert verdicts(claim, flat) <= ({"reproduced"} if harmless else {"inconclusive", "contradicted"})


def test_the_online_claims_are_a_whole_factorial_in_two_jobs_a_toy() -> None:
    runs = [spec for spec in needed(QUICK, [claim.id for claim in TOYS]) if spec.kind == "train"]
    cells = {(spec.task, spec.method) for spec in runs}
    tasks, arms = {task for task, _ in cells}, {"sac", "mbpo", "norm-only", "direct-only", "ftfl"}
    assert cells == {(task, arm) for task in tasks for arm in arms} and len(runs) == QUICK.seeds * len(cells)
    assert len(lockstep(runs, 20)) == 2 * len(tasks)
    assert all(load_suite().task(task).reference_score is not None for task in tasks)


def test_every_toy_is_in_a_claim() -> None:
    named = {task for claim in TOYS for task in claim.tasks}
    assert named == {f"gym:benchmark.toys:{name}" for name in toys.VARIANTS}


def test_cost_is_that_of_the_second_half_over_the_optimum() -> None:
    task = "gym:benchmark.toys:LQR-v0"
    best = load_suite().task(task).reference_score
    assert best is not None
    rows = [(task, "mbpo", seed, step, best * cost) for seed, cost in ((0, 2.0), (1, 3.0)) for step in (500, 1_000)]
    rows += [(task, "mbpo", seed, 0, 99 * best) for seed in (0, 1)]
    rows += [("dmc:hopper-hop", "mbpo", 0, 1_000, 5.0), ("gym:benchmark.toys:ContactLQR-v0", "mbpo", 0, 1_000, -5.0)]
    curves = pd.DataFrame(rows, columns=["task", "method", "seed", "env_steps", "episode_return"])
    found = drawn.costs(curves, load_suite())
    assert found.to_dict("list") == {"task": [task] * 2, "method": ["mbpo"] * 2, "seed": [0, 1], "value": [2.0, 3.0]}
    (line,) = drawn.table(found).to_dict("records")
    assert (line["iqm"], line["seeds"]) == (2.5, 2) and 2.0 <= line["interval_low"] < line["interval_high"] <= 3.0


@pytest.mark.parametrize("width", [style.WIDE, style.NARROW])
def test_the_table_of_signatures_has_every_toy_arm_and_number(width: float) -> None:
    tasks, methods = ["gym:benchmark.toys:LQR-v0", "gym:benchmark.toys:TinyRewardLQR-v0"], ["mbpo", "ftfl"]
    rows = [(task, "mbpo", seed, "reward_r2", -7.5 - seed) for task in tasks for seed in range(3)]
    rows += [(tasks[0], "ftfl", 0, "calibration_obs", 0.25), (tasks[1], "ftfl", 0, "error_over_delta", 33.0)]
    scalars = pd.DataFrame(rows, columns=["task", "method", "seed", "measure", "value"])
    text = style.svg(drawn.signatures(scalars, tasks, methods, width), "name", "words")
    for word in ("LQR", "TinyRewardLQR", "mbpo", "ftfl", "\N{MINUS SIGN}8.5", "0.25", "33"):
        assert f">{word}<" in text, word
    assert text.count(">\N{MINUS SIGN}8.5<") == 2 and ">nan<" not in text
