"""What the probes' tables say, in words: counts over tasks whose interval excludes 0, and the links of the chain."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmark.studies.telling import moves
from benchmark.words import minus

CAUSES = {
    "reward_unexplained": "the reward variance that the model misses",
    "shift_per_step": "the shift of the critic's bias",
}
EFFECTS = {
    "shift_per_step": "the shift of the critic's bias",
    "gain_over_real": "the return gained beyond real rows alone",
}


TOLD = {
    ("shares", "shift_per_step"): "the bias of a fixed policy's critic less that on real rows alone, in reward a step",
    ("shares", "gain"): "the return of the policy that went on less that of the policy before",
    ("shares", "gain_over_real"): "the gain of that policy less the gain on real rows alone",
    ("arms", "shift"): "the shift of the critic less that of mbpo's, seed by seed",
    ("arms", "gain"): "the gain of the policy less that of mbpo's, seed by seed",
}
"""What the rows of a table and measure are, an effect a task."""


def sentences(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Control, what each arm does at the largest share, chain: each where its table has rows."""
    if tables["runs"].empty:
        return []
    share, found = int(tables["runs"]["share"].max()), [_control(tables["runs"])]
    for (table, measure), what in TOLD.items():
        here = tables[table].rename(columns={"centre": "effect"})
        here = here[here["measure"] == measure].dropna(subset="effect")
        if table == "shares":
            here = here[here["share"] == share]
        found += [
            f"With {share} % synthetic rows of {method}'s model, {what}: {moves(rows)}."
            for method, rows in here.groupby("method", sort=False)
        ]
    return [text for text in found + [_link(row) for row in tables["links"].to_dict("records")] if text]


def _control(runs: pd.DataFrame) -> str:
    """Whether arms agree where they must."""
    low = runs[runs["share"] == runs["share"].min()]
    groups = low.groupby(["task", "seed"])
    several = groups["method"].nunique() > 1
    if not several.any() or low["share"].iloc[0] > 0:
        return ""
    spread = (groups["bias"].max() - groups["bias"].min())[several]
    same = int((spread == 0).sum())
    return (
        f"Without synthetic rows the arms' critics end with the same bias, to the last digit, in {same} of "
        f"{len(spread)} pairs of task and seed"
        + ("." if same == len(spread) else f"; the largest difference is {spread.max():.2g}.")
    )


def _link(row: Mapping[str, object]) -> str:
    rho, low, high = (float(str(row[name])) for name in ("rho", "low", "high"))
    if rho != rho:
        return ""
    known = f"[{low:+.2f}, {high:+.2f}]" if abs(low) <= 1 else "no interval below five tasks"
    where = "over all tasks and arms" if row["scope"] == "all" else "between the arms within tasks"
    verdict = "" if abs(low) > 1 else ", which is not told from none" if low <= 0 <= high else ""
    return minus(
        f"Rank correlation of {CAUSES[str(row['cause'])]} with {EFFECTS[str(row['effect'])]} {where}: {rho:+.2f} "
        f"({known}; {row['points']} points, {row['tasks']} tasks){verdict}."
    )
