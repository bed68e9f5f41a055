"""The probes' tables, pictures and sentences, of made-up records whose effects are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from test_probes import spec

from benchmark.records.store import COLUMNS, DIAGNOSTICS, Record
from benchmark.studies.probe import study

TASKS = tuple(f"dmc:task-{i}" for i in range(6))
SHARES = (0, 50, 95)
STEPS = 10.0  # of the horizon at the discount of 0.9


def record(task: str, method: str, seed: int, unexplained: float, slope: float = 0.1, pull: float = 200.0) -> Record:
    """A run whose critic shifts by `slope` of the return for each unit unexplained, at the largest share.

    Its policy gains 40, or less by `pull` times that shift.
    """
    part, base = 2.0 + seed, 0.03 * seed
    shift = {share: -slope * unexplained * share / 95 * STEPS for share in SHARES}
    rows = [(0, "critic_bias", share, 77.0) for share in SHARES]  # before any update: not what counts
    rows += [(100, "critic_bias", share, base + shift[share]) for share in SHARES]
    rows += [(0, "mc_reward_part", -1, part), (0, "mc_entropy_part", -1, 0.5), (0, "reward_r2", -1, 1 - unexplained)]
    rows += [(0, "reward_std_ratio", -1, 1.0), (0, "logvar_raw", -1, -3.0)]
    before = 10.0 * seed
    after = {share: before + 40.0 + pull * shift[share] / STEPS for share in SHARES}
    episodes = [(share, 0, i, before + (-1) ** i, 1000) for share in SHARES for i in (0, 1)]
    episodes += [(share, 50, i, after[share] + (-1) ** i, 1000) for share in SHARES for i in (0, 1)]
    named = spec().model_copy(update={"task": task, "method": method, "seed": seed})
    return Record(named, pd.DataFrame(episodes, columns=COLUMNS["probe"]), pd.DataFrame(rows, columns=DIAGNOSTICS), {})


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """Six tasks, the raw arm missing more of the reward on each than the normalized one, five seeds."""
    return study.tables(
        [
            record(task, method, seed, (1.0 if method == "mbpo" else 0.1) * (1 + i))
            for i, task in enumerate(TASKS)
            for method in ("mbpo", "norm-only")
            for seed in range(5)
        ]
    )


def cell(frame: pd.DataFrame, **key: object) -> pd.Series:
    for name, value in key.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_shares_are_what_was_planted(tables: dict[str, pd.DataFrame]) -> None:
    for share in SHARES:
        row = cell(tables["shares"], task="dmc:task-2", method="mbpo", share=share, measure="shift_per_step")
        assert row["centre"] == pytest.approx(-0.3 * share / 95, abs=1e-12) and row["n"] == 5
        gain = cell(tables["shares"], task="dmc:task-2", method="mbpo", share=share, measure="gain")
        assert gain["centre"] == pytest.approx(40 - 60 * share / 95)
    bias = cell(tables["runs"], task="dmc:task-0", method="mbpo", seed=4, share=95)
    assert bias["bias"] == pytest.approx(0.12 - 1) and bias["bias_per_step"] == pytest.approx((0.12 - 1) / STEPS)
    assert bias["before"] == 40.0 and bias["gain_over_real"] == pytest.approx(-20.0)
    largest = cell(tables["shares"], task="dmc:task-0", method="mbpo", share=95, measure="shift")
    assert (largest["low"], largest["high"]) == pytest.approx((-1, -1))  # least and largest of five seeds


def test_arms_are_paired_by_seed(tables: dict[str, pd.DataFrame]) -> None:
    row = cell(tables["arms"], task="dmc:task-1", method="norm-only", measure="shift_per_step")
    assert row["effect"] == pytest.approx(0.18) and row["n"] == 5
    assert row["low"] == pytest.approx(0.18) and row["high"] == pytest.approx(0.18)
    assert set(tables["arms"]["method"]) == {"norm-only"}


def test_links_are_rank_correlations_over_tasks(tables: dict[str, pd.DataFrame]) -> None:
    links = tables["links"]
    assert (links["points"] == 12).all() and (links["tasks"] == 6).all()
    for cause, effect, rho in (
        ("reward_unexplained", "shift_per_step", -1.0),
        ("shift_per_step", "gain_over_real", 1.0),
        ("reward_unexplained", "gain_over_real", -1.0),
    ):
        for scope in ("all", "within tasks"):
            row = cell(links, cause=cause, effect=effect, scope=scope)
            assert (row["rho"], row["low"], row["high"]) == pytest.approx((rho, rho, rho))


def test_what_differs_between_tasks_alone_is_no_link_within_them() -> None:
    """Arms that swap places from task to task: a strong link over all, none between the arms of a task."""
    records = [
        record(task, method, seed, 10.0**i * (1.5 if flip else 1.0), slope=0.1 / (3.0 if flip == (i % 2 == 0) else 1.0))
        for i, task in enumerate(TASKS)
        for method, flip in (("mbpo", False), ("ftfl", True))
        for seed in range(5)
    ]
    links = study.tables(records)["links"]
    over_all = cell(links, cause="reward_unexplained", effect="shift_per_step", scope="all")
    within = cell(links, cause="reward_unexplained", effect="shift_per_step", scope="within tasks")
    assert over_all["rho"] < -0.9 and abs(within["rho"]) < 0.1
    assert within["low"] < 0 < within["high"]


def test_few_tasks_or_no_variation_give_no_interval() -> None:
    tables_of_four = study.tables(
        [record(task, "mbpo", seed, 1.0 + i) for i, task in enumerate(TASKS[:4]) for seed in range(5)]
    )
    row = cell(tables_of_four["links"], cause="reward_unexplained", effect="shift_per_step", scope="all")
    assert row["rho"] == pytest.approx(-1.0) and math.isinf(row["low"])
    flat = cell(tables_of_four["links"], cause="reward_unexplained", effect="shift_per_step", scope="within tasks")
    assert np.isnan(flat["rho"])
    assert not any("nan" in text for text in study.sentences(tables_of_four))
    assert study.sentences(study.tables([])) == [] and study.figures(study.tables([])) == {}


def test_sentences_say_what_was_planted(tables: dict[str, pd.DataFrame]) -> None:
    sentences = study.sentences(tables)
    assert sentences[0].endswith("to the last digit, in 30 of 30 pairs of task and seed.")
    minus = "\N{MINUS SIGN}"
    lead = "With 95 % synthetic rows of mbpo's model, "
    bias = next(t for t in sentences if t.startswith(lead + "the bias"))
    assert "down on all 6 tasks" in bias and (f"{minus}0.4 [" in bias or f"{minus}0.3 [" in bias)
    gain = next(t for t in sentences if t.startswith(lead + "the return of the policy that went on"))
    assert "up on 1 of 6 tasks (task-0), down on 4 (" in gain
    assert "down on all 6 tasks" in next(t for t in sentences if t.startswith(lead + "the gain of that policy"))
    arms = [t for t in sentences if "less that of mbpo's, seed by seed" in t]
    assert len(arms) == 2 and all("rows of norm-only's model" in t and "up on all 6 tasks" in t for t in arms)
    assert sum(t.startswith("Rank correlation") for t in sentences) == 6


def test_pictures_hold_every_task_and_arm(tables: dict[str, pd.DataFrame]) -> None:
    pictures = study.figures(tables)
    assert set(pictures) == {"bias", "gain", "chain"}
    titles = [axis.get_title(loc="left") for axis in pictures["bias"].axes if axis.get_visible()]
    assert titles == [task.removeprefix("dmc:") for task in TASKS]
    line = pictures["bias"].axes[2].lines[0].get_ydata()
    expected = tables["shares"].query("task == 'dmc:task-2' and method == 'mbpo' and measure == 'bias_per_step'")[
        "centre"
    ]
    np.testing.assert_allclose(line, expected)
    dots = sum(len(line.get_xdata()) for line in pictures["chain"].axes[0].lines if line.get_marker() != "None")
    assert dots == 12
