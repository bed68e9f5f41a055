"""What the probes' tables say, in words: counts over tasks whose interval excludes 0, and the links of the chain."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from benchmark.words import minus

CAUSES = {
    "reward_unexplained": "the reward variance that the model misses",
    "shift_per_step": "the shift of the critic's bias",
}
EFFECTS = {
    "shift_per_step": "the shift of the critic's bias",
    "gain_over_real": "the return gained beyond real rows alone",
}


def sentences(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Control, bias, arms, gain, chain: each where its table has rows."""
    if tables["runs"].empty:
        return []
    found = [_control(tables["runs"])]
    share = int(tables["runs"]["share"].max())
    for method in dict.fromkeys(tables["shares"]["method"]):
        here = tables["shares"][(tables["shares"]["method"] == method) & (tables["shares"]["share"] == share)]
        found += [_bias(method, share, here), _gain(method, share, here)]
    found += [_arms(method, share, rows) for method, rows in tables["arms"].groupby("method", sort=False)]
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


def _bias(method: str, share: int, frame: pd.DataFrame) -> str:
    here = frame[frame["measure"] == "shift_per_step"].dropna(subset="centre")
    if here.empty:
        return ""
    below, above = here[here["high"] < 0], here[here["low"] > 0]
    middle = here.sort_values("centre").iloc[(len(here) - 1) // 2]
    return (
        f"With {share} % synthetic rows of {method}'s model the critic of a fixed policy ends clearly below the one "
        f"trained on real rows in {len(below)} of {len(here)} tasks (its 90 % interval excludes 0) and clearly above "
        f"it in {len(above)}; on the middle task "
        f"({middle['task'].split(':')[-1]}) by {_amount(middle, 'of reward a step')}."
    )


def _gain(method: str, share: int, frame: pd.DataFrame) -> str:
    gain, beyond = (frame[frame["measure"] == name].dropna(subset="centre") for name in ("gain", "gain_over_real"))
    if gain.empty:
        return ""
    more, less = gain[gain["low"] > 0], gain[gain["high"] < 0]
    best = gain.loc[gain["centre"].idxmax()]
    ahead, behind = int((beyond["low"] > 0).sum()), int((beyond["high"] < 0).sum())
    return (
        f"Going on from the policy with {share} % synthetic rows of {method}'s model clearly raises its return in "
        f"{len(more)} of {len(gain)} tasks and clearly lowers it in {len(less)} (most on "
        f"{best['task'].split(':')[-1]}: {_amount(best, '')}); it clearly beats real rows alone in {ahead} and falls "
        f"behind them in {behind}."
    )


def _arms(method: object, share: int, frame: pd.DataFrame) -> str:
    shift, gain = (frame[frame["measure"] == name].dropna(subset="effect") for name in ("shift", "gain"))
    if shift.empty:
        return ""
    counts = [int((shift["low"] > 0).sum()), int((shift["high"] < 0).sum())]
    counts += [int((gain["low"] > 0).sum()), int((gain["high"] < 0).sum())]
    return (
        f"Against mbpo at {share} %, seed by seed, {method}'s critic ends clearly higher in {counts[0]} of "
        f"{len(shift)} tasks and lower in {counts[1]}; its policy returns clearly more in {counts[2]} and less in "
        f"{counts[3]}."
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


def _amount(row: pd.Series, unit: str) -> str:
    """A centre with its interval and the number of seeds."""
    finite = abs(row["low"]) < float("inf") and abs(row["high"]) < float("inf")
    known = f"[{row['low']:+.3g}, {row['high']:+.3g}], " if finite else ""
    return minus(f"{row['centre']:+.3g} {unit}".strip() + f" ({known}{row['n']} seeds)")
