"""Published scores, and the range in which independent sources would predict a baseline of ours.

Sources disagree by orders of magnitude, so the range is the hull of what each source's own seeds predict. Runs that two
repositories both publish are one source. A source that never learned puts the random policy inside the hull, so the
hull alone is no gate: `judging.gate` asks for learning first.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from scipy import stats as sps

from benchmark.judging.stats import Interval
from mbpo.config import InputError

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
COLUMNS = [
    *("task", "published_env", "method", "seeds", "mean", "sd", "median", "min", "max", "steps_as_published"),
    *("action_repeat", "agent_steps", "frames", "source", "licence"),
]
CONFIDENCE = 0.95
SAME_RUNS = ["seeds", "mean", "sd", "median", "min", "max"]
"""Two rows of one task that agree in all of these are the same runs, published twice."""


@cache
def published(folder: Path = PUBLISHED) -> pd.DataFrame:
    """All published scores, a row per source, task and method. Raises `InputError` for a file with other columns."""
    frames = []
    for path in sorted(folder.glob("*.csv")):
        frame = pd.read_csv(path)
        if list(frame.columns) != COLUMNS:
            odd = sorted(set(COLUMNS) ^ set(frame.columns))
            raise InputError(f"{path.name}: its columns are not those of published scores; look at {', '.join(odd)}")
        frames.append(frame.assign(**{name: frame[name].fillna("") for name in ("task", "source", "licence")}))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=COLUMNS)


def prediction_interval(mean: float, sd: float, seeds: int, more: int, confidence: float = CONFIDENCE) -> Interval:
    """Where the mean of `more` further seeds would lie, were they drawn as the `seeds` of a normal sample were."""
    if seeds < 2:
        return Interval(mean, -math.inf, math.inf)
    reach = float(sps.t.ppf((1 + confidence) / 2, seeds - 1)) * sd * math.sqrt(1 / seeds + 1 / more)
    return Interval(mean, mean - reach, mean + reach)


def hull(method: str, task: str, frames: int, seeds: int) -> tuple[Interval, int] | None:
    """The least and largest mean of `seeds` runs that any source predicts after `frames`, and how many are independent.

    None where no source has the method on the task at that length, or none that says what its steps count.
    """
    table = published()
    rows = table[(table["method"] == method) & (table["task"] == task) & (table["frames"] == frames)]
    rows = rows.dropna(subset=["mean", "sd", "seeds"]).drop_duplicates(SAME_RUNS)
    if rows.empty:
        return None
    spans = [prediction_interval(row.mean_, row.sd, row.seeds, seeds) for row in _rows(rows)]
    middle = float(rows["mean"].astype(float).median())
    return Interval(middle, min(span.low for span in spans), max(span.high for span in spans)), len(rows)


class _Row(NamedTuple):
    mean_: float
    sd: float
    seeds: int


def _rows(frame: pd.DataFrame) -> list[_Row]:
    return [
        _Row(float(a), float(b), int(c)) for a, b, c in zip(frame["mean"], frame["sd"], frame["seeds"], strict=True)
    ]
