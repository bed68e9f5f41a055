"""The probes' tables in sentences: the control, each arm's effects over tasks, and the links of the chain."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmark.studies.telling import over_tasks
from benchmark.words import minus

CHAIN = {
    "reward_unexplained": "the reward variance that the model misses",
    "shift_per_step": "the shift of the critic's bias",
    "gain_over_real": "the return gained beyond real rows alone",
}
"""Names of the chain's causes and effects."""
EFFECTS = {
    ("shares", "shift_per_step"): "the bias of a fixed policy's critic less that on real rows alone, in reward a step",
    ("shares", "gain"): "the return of the policy that went on less that of the policy before",
    ("shares", "gain_over_real"): "the gain of that policy less the gain on real rows alone",
    ("arms", "shift"): "the shift of the critic less that of mbpo's, seed by seed",
    ("arms", "gain"): "the gain of the policy less that of mbpo's, seed by seed",
}
"""Names of the effects per task, by table and measure."""


def sentences(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """The control, each arm's effects at the largest share, and the chain; those whose tables have rows."""
    runs = tables["runs"]
    if runs.empty:
        return []
    share, lines = int(runs["share"].max()), [_control(runs)]
    for (table, measure), name in EFFECTS.items():
        effects = tables[table].rename(columns={"centre": "effect"})
        effects = effects[effects["measure"] == measure].dropna(subset="effect")
        if table == "shares":
            effects = effects[effects["share"] == share]
        lines += [
            f"With {share} % synthetic rows of {method}'s model, {name}: {over_tasks(rows)}."
            for method, rows in effects.groupby("method", sort=False)
        ]
    return [line for line in lines + [_link(row) for row in tables["links"].to_dict("records")] if line]


def _control(runs: pd.DataFrame) -> str:
    """Whether the arms' critics agree without synthetic rows, as they must; empty without two arms or such rows."""
    real = runs[runs["share"] == runs["share"].min()]
    groups = real.groupby(["task", "seed"])
    several = groups["method"].nunique() > 1
    if not several.any() or real["share"].iloc[0] > 0:
        return ""
    spread = (groups["bias"].max() - groups["bias"].min())[several]
    same = int((spread == 0).sum())
    return (
        f"Without synthetic rows the arms' critics end with the same bias, to the last digit, in {same} of "
        f"{len(spread)} pairs of task and seed"
        + ("." if same == len(spread) else f"; the largest difference is {spread.max():.2g}.")
    )


def _link(row: Mapping[str, object]) -> str:
    """The rank correlation of one link with its interval; empty where it does not exist."""
    rho, low, high = (float(str(row[name])) for name in ("rho", "low", "high"))
    if rho != rho:
        return ""
    bounded = abs(low) <= 1
    interval = f"[{low:+.2f}, {high:+.2f}]" if bounded else "no interval below five tasks"
    scope = "over all tasks and arms" if row["scope"] == "all" else "between the arms within tasks"
    verdict = ", which is not told from none" if bounded and low <= 0 <= high else ""
    return minus(
        f"Rank correlation of {CHAIN[str(row['cause'])]} with {CHAIN[str(row['effect'])]} {scope}: {rho:+.2f} "
        f"({interval}; {row['points']} points, {row['tasks']} tasks){verdict}."
    )
