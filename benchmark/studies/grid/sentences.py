"""The grid's tables in sentences: one per question, with the sources side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from benchmark.studies.factors import AVERAGE, INTERACTION, RIVALS
from benchmark.studies.grid.groups import representative
from benchmark.studies.telling import interval_of, median_task, over_tasks
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
"""Contrast, stratum, measure and the text of the question."""
CURES = {
    "reward_unexplained": "the share of the reward's variance that stays unexplained",
    "miscalibration_obs": "the miscalibration of observations, |ln(predicted / actual error)|,",
}


def sentences(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """One for each question that the tables have rows for."""
    lines = [_contrast(tables["contrasts"], *question) for question in QUESTIONS]
    lines += [_cures(tables["rivals"], measure, noun) for measure, noun in CURES.items()]
    return [text for text in [*lines, _carriers(tables["groups"])] if text]


def on(source: str) -> str:
    """'on random data', 'on the sac replay at 100,000 steps'."""
    return "on random data" if source == "random" else f"on the {source} steps"


def _contrast(contrasts: pd.DataFrame, contrast: str, stratum: str, measure: str, question: str) -> str:
    chosen = contrasts[(contrasts["contrast"] == contrast) & (contrasts["measure"] == measure)]
    chosen = chosen[(chosen["stratum"] == stratum) & (chosen["n"] > 0)]
    clauses = (f"{on(source)} {over_tasks(rows)}" for source, rows in chosen.groupby("source", sort=False))
    text = _sentence(question, clauses)
    lacking = chosen[chosen["strata"] < STRATA[contrast]] if stratum == AVERAGE else chosen.head(0)
    if len(lacking):
        names = ", ".join(dict.fromkeys(task_name(task) for task in lacking["task"]))
        text += f" Cells are missing on {names}: the average there is over those that are there."
    return text


def _cures(rivals: pd.DataFrame, measure: str, noun: str) -> str:
    """The number of tasks on which each arm is clearly below mbpo, and its effect on the median task."""
    chosen = rivals[(rivals["measure"] == measure) & (rivals["against"] == "mbpo")]
    clauses = []
    for source, of_source in chosen.groupby("source", sort=False):
        arms = (
            f"with {RIVALS.get(method, method)} on {int((rows['high'] < 0).sum())} of {len(rows)} ({median_task(rows)})"
            for method, rows in of_source.groupby("method", sort=False)
        )
        clauses.append(f"{on(source)} {', '.join(arms)}")
    return _sentence(f"{noun} is clearly below mbpo's on so many tasks (in brackets the middle one)", clauses)


def _carriers(groups: pd.DataFrame) -> str:
    """The observation group with the largest share of the variance that mbpo predicts, on one task per body."""
    chosen = groups[(groups["method"] == "mbpo") & (groups["measure"] == "variance_share")]
    chosen = chosen[chosen["task"].isin(representative(chosen["task"]))]
    clauses = []
    for source, of_source in chosen.groupby("source", sort=False):
        parts = []
        for _, row in of_source.loc[of_source.groupby("task", sort=False)["median"].idxmax()].iterrows():
            dims = int(of_source.loc[of_source["task"] == row["task"], "dims"].sum())
            median, low, high = (100.0 * float(row[name]) for name in ("median", "low", "high"))
            share = f"{number(median)} %{interval_of(low, high, row['n'])}"
            parts.append(f"{row['group']} on {task_name(row['task'])} ({row['dims']} of {dims} observations, {share})")
        clauses.append(f"{on(source)} {', '.join(parts)}")
    return _sentence("the group with the largest share of the variance that mbpo predicts in raw units", clauses)


def _sentence(subject: str, clauses: Iterable[str]) -> str:
    text = "; ".join(clauses)
    return f"{subject[0].upper()}{subject[1:]}: {text}." if text else ""
