"""Does the advice hold: environments with a planted fault and healthy ones, trained with and without what is advised.

Made by `python -m benchmark study advice`, environment by environment, and kept as ``curve.csv`` and ``cases.csv``; the
table of results follows from those. No threshold of the advice was chosen on these environments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as sps

from benchmark.diagnosis import trial
from benchmark.drawing import tables
from benchmark.studies.advice import figures
from benchmark.studies.advice.environments import CASES, Case
from benchmark.words import number

NAME = "advice"
TITLE = "Does the advice hold"
TEXT = (
    "What `diagnose` advises, judged by training with and without it on small environments of our own that it was "
    "not developed on, healthy ones and ones with a planted fault. A score of 0 is the better of random actions and "
    "none, 1 a controller by hand that sees the true state; a seed's score is cut to [-1, 1.2], so that one runaway "
    "does not decide. The advice helps if the mean score is at least 0.1 higher with it, does no harm if it is "
    "within 0.1 and at least 0.5, is of no use if it is within 0.1 and below 0.5, and harms otherwise; advice to "
    "change nothing is right if the default arm scores at least 0.5, and else has missed something. Right are: "
    "helps, no harm, rightly nothing."
)
SEEDS, STEPS = 4, 1_500
SAMPLE, SETS = 3_000, 3
MODEL: Mapping[str, Any] = {
    "ensemble_size": 3,
    "num_elites": 3,
    "updates": 400,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "hidden_dims": (64, 64, 64),
    "weight_decay": 2.5e-5,
}
"""Of the fits of the diagnosis."""
LEARNS, MATTERS = 0.5, 0.1
RANGE = (-1.0, 1.2)
MENDED: Mapping[str, tuple[str, bool]] = {
    "PointWide": (
        "the sign of wide bounds took outputs that never change for explained ones, so it said nothing; the advice "
        "had been fitted alone, which scored -0.50 against -0.06",
        False,
    )
}
"""Cases on which the advice was mended after their first result was seen: what was wrong, and whether it was right."""
RIGHT = ("helps", "no harm", "rightly nothing")
EPISODES = 40
LAST = 0.8
"""Share of training after which evaluations count."""


def form(case: Case) -> str:
    """What a case is and how it is trained, as 8 digits: rows of another form are made again."""
    data = [case, SEEDS, STEPS, SAMPLE, SETS, {**MODEL}, {**trial.CONSTANTS}]
    return hashlib.sha256(json.dumps(data, default=str).encode()).hexdigest()[:8]


def levels(case: Case) -> tuple[float, float]:
    """Mean returns of the better of random and no actions, and of the controller by hand."""
    rng = np.random.default_rng(0)
    policies: tuple[Callable[[Any], Any], ...] = (
        lambda env: rng.uniform(env.action_space.low, env.action_space.high),
        lambda env: np.zeros(env.actions),
        lambda env: env.control(env.state),
    )
    by_chance, still, by_hand = (_mean_return(case, policy) for policy in policies)
    return max(by_chance, still), by_hand


def _mean_return(case: Case, policy: Callable[[Any], Any]) -> float:
    env, returns = case.make(), []
    for seed in range(EPISODES):
        env.reset(seed=seed)
        returns.append(sum(env.step(policy(env))[1] for _ in range(case.steps)))
    return float(np.mean(returns))


def advise(case: Case) -> dict[str, Any]:
    """The recommendation of a diagnosis from random actions."""
    from benchmark.diagnosis import diagnose, samples  # torch, which a page that only shows does without

    sample = samples.collect(case.task, (), SAMPLE, SETS)
    return dict(diagnose.diagnose(sample, device="cpu", model=MODEL).findings["recommendation"])


def compare(case: Case, advice: Mapping[str, Any]) -> pd.DataFrame:
    """``side, seed, env_steps, return`` of training without and, where anything is advised, with the advice."""
    from mbpo import loop

    runs = trial.plan(case.task, (), advice, seeds=SEEDS, steps=STEPS)
    rows = []
    for side in (trial.WITHOUT, trial.WITH) if runs.changes else (trial.WITHOUT,):
        group = runs.arms[side]
        first = group[0]
        assert first.budget is not None
        for row in loop.train(
            first.task,
            [loop.Run(spec.constants, spec.seed) for spec in group],
            first.budget,
            drop=first.drop,
            device="cpu",
        ):
            means = np.asarray(row.returns).mean(1) / runs.factors[side]
            rows += [(side, spec.seed, row.env_steps, float(mean)) for spec, mean in zip(group, means, strict=True)]
    return pd.DataFrame(rows, columns=["side", "seed", "env_steps", "return"])


def build(results: Path, say: Callable[[str], None] = lambda _: None, cases: Sequence[Case] = CASES) -> None:
    """Diagnose and train the cases that the files under ``results/studies/advice`` lack, and keep them there."""
    folder = results / "studies" / NAME
    curve, known = kept(folder)
    for case in cases:
        if case.name in set(known["case"]):
            continue
        say(f"{case.name}: {case.fault or 'healthy'}")
        advice, (low, by_hand) = advise(case), levels(case)
        rows = compare(case, advice)
        row = {
            "case": case.name, "form": form(case), "fault": case.fault or "none", "advice": words(advice),
            "zero": low, "by_hand": by_hand,
        }  # fmt: skip
        known = _in_order(pd.concat([known, pd.DataFrame([row])]) if len(known) else pd.DataFrame([row]))
        curve = _in_order(
            pd.concat([curve, rows.assign(case=case.name)]) if len(curve) else rows.assign(case=case.name)
        )
        tables.write_csv(curve[["case", "side", "seed", "env_steps", "return"]], folder, "curve")
        tables.write_csv(known, folder, "cases")  # last: a case in it is whole


def words(advice: Mapping[str, Any]) -> str:
    """The advice in a cell: 'norm-only, reward x 20000, --set sac.obs_norm=running, --drop 2:8'; 'nothing'."""
    parts = [advice["arm"]] if advice["arm"] != trial.DEFAULT else []
    names = {
        "reward": "reward times",
        "actions": "bounds times",
        "past": "observe past",
        "past_actions": "observe past actions",
    }
    parts += [f"{names[name]} {value:g}" for name, value in advice["adjust"].items()]
    parts += [f"{path} = {value}" for path, value in advice["settings"].items()]
    parts += [f"without {name}" for name in advice["drop"]]
    return ", ".join(parts) or ("in words only" if advice["changes"] else "nothing")


def kept(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves and cases that are there and of the present form."""
    if not (folder / "cases.csv").is_file():
        return pd.DataFrame(columns=["case"]), pd.DataFrame(columns=["case"])
    cases, curve = pd.read_csv(folder / "cases.csv", dtype={"form": str}), pd.read_csv(folder / "curve.csv")
    forms = {case.name: form(case) for case in CASES}
    sound = cases[[forms.get(row.case) == row.form for row in cases.itertuples()]]
    return curve[curve["case"].isin(sound["case"])], sound


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    order = {case.name: i for i, case in enumerate(CASES)}
    return frame.sort_values("case", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def scores(curve: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """``case, side, seed, score``: of the evaluations in the last fifth of training."""
    late = curve[curve["env_steps"] >= LAST * curve.groupby("case")["env_steps"].transform("max")]
    final = late.groupby(["case", "side", "seed"])["return"].mean().reset_index()
    level = cases.set_index("case")
    low, high = (final["case"].map(level[name]) for name in ("zero", "by_hand"))
    return final.assign(score=((final["return"] - low) / (high - low)).clip(*RANGE))


def judge(curve: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """One row a case: mean and range of the scores without and with the advice, p of a rank test, and the judgement."""
    final, rows = scores(curve, cases), []
    for row in cases.itertuples():
        mine = final[final["case"] == row.case]
        without = mine.loc[mine["side"] == trial.WITHOUT, "score"].to_numpy()
        advised = mine.loc[mine["side"] == trial.WITH, "score"].to_numpy()
        p = sps.mannwhitneyu(advised, without, method="exact").pvalue if len(advised) else np.nan
        rows.append(
            {
                "case": row.case, "fault": row.fault, "advice": row.advice,
                "without": without.mean(), "without_low": without.min(), "without_high": without.max(),
                "with": advised.mean() if len(advised) else np.nan,
                "with_low": advised.min() if len(advised) else np.nan,
                "with_high": advised.max() if len(advised) else np.nan,
                "p": float(p), "judged": judgement(without, advised),
            }
        )  # fmt: skip
    table = pd.DataFrame(rows)
    return table.assign(right=table["judged"].isin(RIGHT))


def judgement(without: np.ndarray, advised: np.ndarray) -> str:
    """The rule: see `TEXT`."""
    before = float(np.mean(without))
    if not len(advised):
        return "rightly nothing" if before >= LEARNS else "missed"
    after = float(np.mean(advised))
    if after - before >= MATTERS:
        return "helps"
    if before - after >= MATTERS:
        return "harms"
    return "no harm" if after >= LEARNS else "no use"


def interval(right: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share."""
    found = sps.binomtest(right, of).proportion_ci(level, "exact")
    return float(found.low), float(found.high)


def sentences(table: pd.DataFrame) -> list[str]:
    """What the table says."""
    right, of = int(table["right"].sum()), len(table)
    low, high = interval(right, of)
    lines = [
        f"The advice was right in {right} of {of} environments ({right / of:.0%}, 95 % interval {low:.0%} to "
        f"{high:.0%}), {SEEDS} seeds of {STEPS:,} env steps a side."
    ]
    first = right - sum(row.right and not MENDED[row.case][1] for row in table.itertuples() if row.case in MENDED)
    apart = table[(table["judged"] == "helps") & (table["p"] < 0.05)]
    helped = int((table["judged"] == "helps").sum())
    lines.append(
        f"Of the {helped} that it helps, {len(apart)} are told apart by a rank test at 0.05; differences of four seeds "
        "within a wide range may be chance, for and against."
    )
    for case, (what, _) in MENDED.items():
        if case in set(table["case"]):
            lines.append(f"Mended after seeing, on {case}: {what}. At first sight it was right in {first} of {of}.")
    for judged in ("helps", "no harm", "rightly nothing", "no use", "harms", "missed"):
        rows = table[table["judged"] == judged]
        if len(rows):
            lines.append(f"{judged[0].upper()}{judged[1:]}: {'; '.join(map(_cell, rows.itertuples()))}.")
    healthy, planted = table[table["fault"] == "none"], table[table["fault"] != "none"]
    lines.append(
        f"Of {len(healthy)} healthy environments it was right in {int(healthy['right'].sum())}, of {len(planted)} "
        "with a "
        f"planted fault in {int(planted['right'].sum())}; where a fault kept the default arm below {LEARNS:g}, it "
        "scored "
        f"{number(float(planted.loc[planted['without'] < LEARNS, 'without'].mean()))} on average without the advice "
        "and "
        f"{number(float(planted.loc[planted['without'] < LEARNS, 'with'].mean()))} with it."
    )
    return lines


def _cell(row: Any) -> str:
    values = row._asdict()
    after = values.get("with", values.get("_7", np.nan))
    change = "" if not np.isfinite(after) else f" to {number(float(after))}"
    return f"{row.case} ({row.advice}; {number(float(row.without))}{change})"


def shown(folder: Path) -> Mapping[str, Any] | None:
    """Tables, sentences and what draws the figure of what is kept under `folder`; None where there is nothing."""
    curve, cases = kept(folder / NAME)
    if cases.empty:
        return None
    table = judge(curve, cases)
    tables.write_csv(table, folder / NAME, "advice")
    runs = int(curve.groupby(["case", "side", "seed"]).ngroups)
    draw = partial(figures.draw, scores(curve, cases), table)
    return {"runs": runs, "figures": draw, "sentences": sentences(table), "tables": ("advice", "cases", "curve")}
