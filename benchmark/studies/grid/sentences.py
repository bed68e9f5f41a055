"""What the grid's tables say, in words: one sentence a question, the sources side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from benchmark.studies.factors import AVERAGE, INTERACTION, RIVALS
from benchmark.studies.grid.groups import telling as one_a_body
from benchmark.studies.telling import bounds, middle, moves
from benchmark.words import number, task_name

STRATA = {"normalize reward": 6, "normalize obs": 6, "next_obs for delta": 4, "fitted for the better": 4}
QUESTIONS = (
    ("normalize reward", AVERAGE, "reward_r2", "what normalizing the reward does to its held-out R\u00b2"),
    ("normalize reward", INTERACTION, "reward_unexplained",
     "what normalizing the observations as well adds to its effect on the unexplained variance"),
    ("normalize obs", AVERAGE, "error_over_delta", "what normalizing the observations does to the model's error"),
    ("next_obs for delta", "both", "logvar_target",
     "what direct prediction of normalized targets does to log-variance in target space"),
    ("next_obs for delta", "both", "logvar_raw",
     "what direct prediction of normalized targets does to log-variance in raw units"),
    ("next_obs for delta", AVERAGE, "error_over_delta", "what direct prediction does to the model's error"),
    ("fitted for the better", AVERAGE, "error_over_delta",
     "what a fitted carry in place of the better of delta and next_obs does to the model's error"),
)  # fmt: skip
"""Contrast, stratum, measure, and what is asked of them."""
CURES = {
    "reward_unexplained": "the share of the reward's variance that stays unexplained",
    "miscalibration_obs": "the miscalibration of observations, |ln(predicted / actual error)|,",
}


def sentences(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """One for each question that the tables can speak to."""
    told = [_contrast(tables["contrasts"], *question) for question in QUESTIONS]
    told += [_cures(tables["rivals"], measure, noun) for measure, noun in CURES.items()]
    return [text for text in [*told, _carriers(tables["groups"])] if text]


def on(source: str) -> str:
    """'on random data', 'on the sac replay at 100,000 steps'."""
    return "on random data" if source == "random" else f"on the {source} steps"


def _contrast(contrasts: pd.DataFrame, contrast: str, stratum: str, measure: str, asked: str) -> str:
    chosen = contrasts[(contrasts["contrast"] == contrast) & (contrasts["measure"] == measure)]
    chosen = chosen[(chosen["stratum"] == stratum) & (chosen["n"] > 0)]
    text = _sentence(asked, (f"{on(source)} {moves(rows)}" for source, rows in chosen.groupby("source", sort=False)))
    lacking = chosen[chosen["strata"] < STRATA[contrast]] if stratum == AVERAGE else chosen.head(0)
    if len(lacking):
        names = ", ".join(dict.fromkeys(task_name(task) for task in lacking["task"]))
        text += f" Cells are missing on {names}: the average there is over those that are there."
    return text


def _cures(rivals: pd.DataFrame, measure: str, noun: str) -> str:
    """On how many tasks each arm is clearly below mbpo, and its effect on the task in the middle."""
    chosen = rivals[(rivals["measure"] == measure) & (rivals["against"] == "mbpo")]
    clauses = []
    for source, here in chosen.groupby("source", sort=False):
        arms = (
            f"with {RIVALS.get(method, method)} on {int((rows['high'] < 0).sum())} of {len(rows)} ({middle(rows)})"
            for method, rows in here.groupby("method", sort=False)
        )
        clauses.append(f"{on(source)} {', '.join(arms)}")
    return _sentence(f"{noun} is clearly below mbpo's on so many tasks (in brackets the middle one)", clauses)


def _carriers(groups: pd.DataFrame) -> str:
    """The observation group with most of the variance that mbpo predicts, and its share, on one task a body."""
    chosen = groups[(groups["method"] == "mbpo") & (groups["measure"] == "variance_share")]
    chosen = chosen[chosen["task"].isin(one_a_body(chosen["task"]))]
    clauses = []
    for source, here in chosen.groupby("source", sort=False):
        parts = []
        for _, row in here.loc[here.groupby("task", sort=False)["median"].idxmax()].iterrows():
            dims = int(here.loc[here["task"] == row["task"], "dims"].sum())
            median, low, high = (100.0 * float(row[name]) for name in ("median", "low", "high"))
            share = f"{number(median)} %{bounds(low, high, row['n'])}"
            parts.append(f"{row['group']} on {task_name(row['task'])} ({row['dims']} of {dims} observations, {share})")
        clauses.append(f"{on(source)} {', '.join(parts)}")
    return _sentence("the group with the largest share of the variance that mbpo predicts in raw units", clauses)


def _sentence(asked: str, clauses: Iterable[str]) -> str:
    text = "; ".join(clauses)
    return f"{asked[0].upper()}{asked[1:]}: {text}." if text else ""
