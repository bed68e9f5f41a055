"""Tables of the report as data frames."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from benchmark.judging import stats
from benchmark.judging.placing import published
from benchmark.judging.verdicts import Judgement
from benchmark.records.frames import matrix
from benchmark.records.spec import Kind
from benchmark.records.store import RETURN
from benchmark.suite.criterion import FIT_MEASURES
from benchmark.suite.entries import Protocol
from benchmark.suite.load import Suite
from benchmark.words import DASH, plain

FINAL = 0.8
"""Share of training after which evaluations count as final in the table of returns."""


def verdicts(judgements: Iterable[Judgement]) -> pd.DataFrame:
    """One row per claim and task, the numbers as `verdicts.json` has them."""
    rows = []
    for judgement in judgements:
        row = judgement.to_json()
        low, high = row.pop("interval") or (None, None)
        kept = (
            "claim",
            "task",
            "protocol",
            "verdict",
            "expected",
            "effect",
            "p",
            "level",
            "n",
            "seeds_needed",
            "form",
            "commit",
            "edited",
            "reason",
        )
        rows.append({name: row[name] for name in kept} | {"interval_low": low, "interval_high": high})
    frame = pd.DataFrame(rows)
    frame["seeds_needed"] = frame["seeds_needed"].astype("Int64")
    return frame


def fits(scalars: pd.DataFrame) -> pd.DataFrame:
    """Median, least and largest of every fit measure per task and method, and how many seeds have it."""
    kept = scalars[scalars["measure"].isin(FIT_MEASURES)]
    grouped = kept.groupby(["task", "method", "measure"], sort=False)["value"]
    return grouped.agg(median="median", least="min", largest="max", seeds="count").reset_index()


def returns(curves: pd.DataFrame) -> pd.DataFrame:
    """Returns per task and method: IQM over seeds with rliable's interval, of all evaluations and of the last fifth.

    Agent steps and frames are both given: ours act at every frame, most published agents at every second.
    """
    rows = []
    for task, here in curves.groupby("task", sort=False):
        last = here["env_steps"].max()
        for span, start in (("all of training", 0.0), ("last fifth", FINAL)):
            window = here[here["env_steps"] >= start * last]
            means = window.groupby(["method", "seed", "task"], sort=False)[RETURN].mean().reset_index()
            scores = {method: matrix(rows_, RETURN) for method, rows_ in means.groupby("method", sort=False)}
            for method, found in stats.interval_estimates(scores, aggregates=["iqm"], repetitions=1_000).items():
                iqm = found["iqm"]
                rows.append((task, method, span, iqm.estimate, iqm.low, iqm.high, len(scores[method]), last, last))
    columns = ["task", "method", "window", "iqm", "interval_low", "interval_high", "seeds", "agent_steps", "frames"]
    return pd.DataFrame(rows, columns=columns)


def beside(curves: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Published final returns, and ours of the last fifth of training, one row per source, task and method.

    ``whose, task, method, seeds, mean, sd, min, max, agent_steps, frames, source, licence``.
    """
    columns = ["task", "method", "seeds", "mean", "sd", "min", "max", "agent_steps", "frames", "source", "licence"]
    theirs = published()[columns].assign(whose="published")
    rows = []
    for (task, method), here in curves.groupby(["task", "method"], sort=False):
        last = int(here["env_steps"].max())
        final = here[here["env_steps"] >= FINAL * last].groupby("seed")[RETURN].mean()
        spread = (final.mean(), final.std() if len(final) > 1 else math.nan, final.min(), final.max())
        rows.append((task, method, len(final), *spread, last, last, f"{protocol} protocol", "", "ours"))
    ours = pd.DataFrame(rows, columns=[*columns, "whose"])
    parts = [frame.astype(object) for frame in (ours, theirs) if len(frame)]
    whole = pd.concat(parts, ignore_index=True) if parts else ours
    number_columns = ["seeds", "mean", "sd", "min", "max", "agent_steps", "frames"]
    whole[number_columns] = whole[number_columns].astype(float)
    whole = whole[whole["task"] != ""].sort_values(["task", "method", "whose", "source"], kind="stable")
    return whole[["whose", *columns]].reset_index(drop=True)


def constants(suite: Suite, protocol: Protocol, claims_kinds: dict[Kind, str]) -> pd.DataFrame:
    """Every constant of the paper family, its value here, and where it was read; `claims_kinds` gives a task per kind.

    `differs` marks the rows in which this protocol departs from the family.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for kind, task in claims_kinds.items():
        here = {row.constant: row.value for row in suite.constants("mbpo", task, protocol, kind)}
        for row in suite.constants("mbpo", task, None, kind):
            entry = {
                "constant": row.constant,
                "runs": kind,
                "paper": plain(row.value),
                "here": plain(here[row.constant]),
            }
            rows[row.constant, kind] = entry | {"unit": row.unit, "source": row.source}
    frame = pd.DataFrame(rows.values(), columns=["constant", "runs", "paper", "here", "unit", "source"])
    frame.insert(0, "differs", frame["paper"] != frame["here"])
    return frame


def budgets(suite: Suite, protocol: Protocol) -> pd.DataFrame:
    """Seeds and lengths of this protocol beside those of the paper protocol."""
    paper = suite.protocol("paper")
    lines: list[tuple[str, Any, Any, str]] = [("seeds per arm", paper.seeds, protocol.seeds, "")]
    for kind, names in (("train", ("env_steps", "eval_every", "eval_episodes")), ("fit", ("transitions", "heldout"))):
        for name in names:
            ours, theirs = getattr(getattr(protocol, kind), name), getattr(getattr(paper, kind), name)
            lines.append(
                (
                    f"{kind}: {name.replace('_', ' ')}",
                    theirs,
                    ours,
                    "episodes" if "episodes" in name else "agent steps = frames",
                )
            )
    rows = [(name, plain(theirs), plain(ours), unit) for name, theirs, ours, unit in lines]
    return pd.DataFrame(rows, columns=["budget", "paper", "here", "unit"])


def methods(suite: Suite, names: Sequence[str]) -> pd.DataFrame:
    """What each method is and where it leaves its family."""
    rows = []
    for name in names:
        entry = suite.methods[name]
        own = ", ".join(f"{path} = {plain(constant.value)}" for path, constant in entry.constants.items())
        rows.append((name, entry.doc, own or DASH))
    return pd.DataFrame(rows, columns=["method", "what", "own constants"])
