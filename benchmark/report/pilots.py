"""The table of the pilots: where each ended, and which sign `why` names first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmark.diagnosis import why
from benchmark.drawing import tables
from benchmark.records.frames import scalar_rows
from benchmark.records.store import RETURN, Record, Store
from benchmark.suite.load import load_suite
from benchmark.suite.pilots import FIRST_SEED, Pilots, groups_of, load_pilots
from benchmark.words import count

NAME = "pilots"
COLUMNS = {
    "temperature": "temperature",
    "q_mean": "mean_q",
    "mc_entropy_part": "entropy_part",
    "critic_bias": "critic_bias",
}
"""Measures of the last evaluation by the names of their columns."""
HEAD = (
    "# Pilots\n\n"
    f"One run of each rival explanation, seeds from {FIRST_SEED}. **They suggest and decide nothing**: no claim reads "
    "them. Written by `python -m benchmark pilots`.\n\n"
    "Columns are of the last evaluation: temperature, mean Q of the last batch, the entropy part of the policy's "
    "Monte-Carlo soft return, the critics' mean error against that return, and the return. Where critics hold rewards "
    "alone, the entropy part counts as their error. *First* is the sign that `python -m benchmark why` names first, "
    "*at* the env steps of the evaluation at which it set in.\n"
)


def table(pilots: Pilots, store: Store) -> pd.DataFrame:
    """A row a finished run, in the order of the list.

    ``arm, task, seed, precision, temperature, mean_q, entropy_part, critic_bias, episode_return, first, at``.
    """
    rows = []
    for spec in [spec for group in groups_of(pilots) for spec in group if store.has(spec)]:
        account = why.account(store, spec)
        first = [onset.sign.id for onset in account.first]
        rows.append(
            {
                **{"arm": spec.arm, "task": spec.task, "seed": spec.seed, "precision": spec.precision},
                **{column: _last(account.record, measure) for measure, column in COLUMNS.items()},
                RETURN: _last_return(account.record),
                "first": " and ".join(first) or "nothing",
                "at": account.first[0].at if first else None,
            }
        )
    return pd.DataFrame(rows).astype({"at": "Int64"}) if rows else pd.DataFrame()


def _last(record: Record, measure: str) -> float:
    rows = scalar_rows(record, measure)
    return float(rows.loc[rows["step"].idxmax(), "value"]) if len(rows) else float("nan")


def _last_return(record: Record) -> float:
    curve = record.curve
    return float(curve.loc[curve["env_steps"] == curve["env_steps"].max(), RETURN].mean())


def write(store: Store) -> list[Path]:
    """Write ``pilots.csv`` of all lists and their page ``README.md`` into the results folder; nothing without a run."""
    parts, frames = [HEAD], []
    for name, each in load_pilots().items():
        frame = table(each, store)
        if frame.empty:
            continue
        wanted = sum(map(len, groups_of(each)))
        told = f"{len(frame)} of {count(wanted, 'run')}" if len(frame) < wanted else count(wanted, "run")
        steps = each.env_steps or load_suite().protocol(each.protocol).train.budget(each.tasks[0]).env_steps
        parts.append(
            f"## `{name}`: {each.doc.lower()}\n\nProtocol `{each.protocol}`, {steps:,} env steps, {each.precision}: "
            f"{told}. {each.notes}\n\n{tables.markdown(frame.drop(columns=['task', 'precision']))}\n"
        )
        frames.append(frame.assign(list=name))
    if not frames:
        return []
    page = store.results / "README.md"
    written = [tables.write_csv(pd.concat(frames), store.results, NAME), page]
    page.write_text("\n".join(parts), encoding="utf-8")
    return written
