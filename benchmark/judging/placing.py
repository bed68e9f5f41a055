"""Published scores as independent sources, and where each would predict a baseline of ours.

Runs that two repositories both publish are one source. Sources disagree by orders of magnitude, so what they say
together is for `judging.gate` to settle; a source that never learned says nothing.
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


class Source(NamedTuple):
    """Runs of one method on one task that somebody published: their number, mean and standard deviation."""

    name: str
    """The repository; several, where they publish the same runs."""
    seeds: int
    mean: float
    sd: float

    def predicts(self, more: int) -> Interval:
        """Where the mean of `more` further seeds would lie."""
        return prediction_interval(self.mean, self.sd, self.seeds, more)


def prediction_interval(mean: float, sd: float, seeds: int, more: int, confidence: float = CONFIDENCE) -> Interval:
    """Where the mean of `more` further seeds would lie, were they drawn as the `seeds` of a normal sample were."""
    if seeds < 2:
        return Interval(mean, -math.inf, math.inf)
    reach = float(sps.t.ppf((1 + confidence) / 2, seeds - 1)) * sd * math.sqrt(1 / seeds + 1 / more)
    return Interval(mean, mean - reach, mean + reach)


def sources(method: str, task: str, agent_steps: int) -> list[Source]:
    """The independent sources of `method` on `task` that speak of a run of so many agent steps at action repeat 1.

    A source does if that number lies between its own agent steps and its frames: at action repeat 2, 500,000 frames
    are 250,000 agent steps, so runs of ours with 250,000 to 500,000 have made as many decisions at least, and have seen
    no more of the simulator. A row that does not say what its steps count speaks of none.
    """
    table = published()
    rows = table[(table["method"] == method) & (table["task"] == task)].dropna(subset=["mean", "sd", "seeds"])
    rows = rows[(rows["agent_steps"] <= agent_steps) & (agent_steps <= rows["frames"])]
    made: dict[tuple[float, ...], list[str]] = {}
    for row in rows.to_dict("records"):
        names = made.setdefault(tuple(row[column] for column in SAME_RUNS), [])
        names.append(str(row["source"]).partition("@")[0])
    return [
        Source(" and ".join(dict.fromkeys(names)), int(seeds), float(mean), float(sd))
        for (seeds, mean, sd, *_), names in made.items()
    ]
