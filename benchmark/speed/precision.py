"""Whether two precisions are equivalent: exact tests on all mechanism measures and on learning curves.

``suite/precision.yaml`` states what is compared, the margins and their reasons. The runs are ordinary records, with the
precision in their keys. A row is *equivalent* if two exact one-sided tests place the shift inside the margin,
*different* if they place it outside, else *open*. The precisions are equivalent if every row is: a claim that all of
many hypotheses hold needs no correction for their number (Berger 1982, intersection-union).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from benchmark.drawing import style, tables
from benchmark.judging import stats
from benchmark.judging.scores import score
from benchmark.judging.signed_rank import paired_interval, signed_rank
from benchmark.records.spec import Kind, Precision, RunSpec
from benchmark.records.store import Record, Store
from benchmark.running import ensure
from benchmark.speed import figures
from benchmark.suite.criterion import Estimand
from benchmark.suite.entries import Entry
from benchmark.suite.load import load_suite, specs
from benchmark.suite.pages import load_page
from mbpo.config import InputError
from mbpo.config import build as checked

Verdict = Literal["equivalent", "different", "open", "undefined"]
Values = NDArray[np.float64]
MIN_SEEDS, FOLDER = 5, "precision"


class Margin(Entry):
    """The largest shift of one measure that counts as equivalent, its scale and the reason."""

    margin: float = Field(gt=0)
    scale: Literal["plain", "log"] = "plain"
    least: float | None = None
    most: float | None = None
    window: tuple[float, float] | None = None
    why: str = Field(min_length=1)

    def on_scale(self, value: float) -> float:
        """The clipped value on the margin's scale; NaN where it has no logarithm."""
        low, high = (-math.inf if self.least is None else self.least), (math.inf if self.most is None else self.most)
        clipped = min(max(value, low), high) if not math.isnan(value) else value
        if self.scale == "plain":
            return clipped
        return math.log(clipped) if clipped > 0 else math.nan


class Comparison(Entry):
    """Runs of one kind and the measures compared on them."""

    kind: Literal["fit", "train"]
    protocol: str
    tasks: list[str] = Field(min_length=1)
    methods: list[str] = Field(min_length=1)
    measures: dict[str, Margin] = Field(min_length=1)
    env_steps: int | None = None
    numerics_version: int | None = None
    paired: bool = False

    @model_validator(mode="after")
    def _measures_exist(self) -> Self:
        for name, margin in self.measures.items():
            Estimand(measure=name, window=margin.window).check(self.kind, f"measures.{name}")
        return self


class Plan(Entry):
    """All of ``precision.yaml``."""

    seeds: int = Field(ge=MIN_SEEDS)
    level: float = Field(gt=0, lt=0.5)
    comparisons: list[Comparison] = Field(min_length=1)


class Decision(NamedTuple):
    """Verdict of one row; `p` is of the test inside the margin, or outside it if that is the verdict."""

    verdict: Verdict
    effect: float
    low: float
    high: float
    p: float


@cache
def load_plan() -> Plan:
    """The plan in ``suite/precision.yaml``. Raises `InputError` if it is not valid."""
    return checked(Plan, load_page("precision.yaml"), "precision.yaml")


def runs(plan: Plan, precision: Precision) -> list[RunSpec]:
    """Every run of the plan in one precision."""
    return [spec for part in plan.comparisons for task in part.tasks for spec in _specs(plan, part, task, precision)]


def _specs(plan: Plan, part: Comparison, task: str, precision: Precision) -> list[RunSpec]:
    protocol, version = load_suite().protocol(part.protocol), part.numerics_version
    if part.env_steps is not None:
        train = protocol.train.model_copy(update={"env_steps": part.env_steps})
        protocol = protocol.model_copy(update={"train": train})
    return specs(part.kind, [task], part.methods, protocol, plan.seeds, precision=precision, numerics_version=version)


COLUMNS = (
    "kind", "task", "method", "measure", "scale", "seeds", "effect", "interval_low", "interval_high", "margin",
    "p", "verdict", "why",
)  # fmt: skip


def compare(store: Store, precision: Precision, against: Precision, plan: Plan | None = None) -> pd.DataFrame:
    """A row per task, method and measure: the shift from `against` to `precision`.

    All runs must have records. Columns are `COLUMNS`; the plan is `load_plan` by default.
    """
    plan = plan or load_plan()
    rows = []
    for part in plan.comparisons:
        for task in part.tasks:
            arms = [[store.read(spec) for spec in _specs(plan, part, task, p)] for p in (precision, against)]
            for method in part.methods:
                x, y = ([record for record in arm if record.spec.method == method] for arm in arms)
                for name, margin in part.measures.items():
                    test = judge(_values(x, name, margin), _values(y, name, margin), margin.margin, plan, part.paired)
                    cells = (part.kind, task, method, name, margin.scale, len(x), test.effect, test.low, test.high)
                    rows.append((*cells, margin.margin, test.p, test.verdict, margin.why))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def build(
    store: Store, precision: Precision, against: Precision, device: str = "auto", kind: Kind | None = None
) -> tuple[pd.DataFrame, list[Path]]:
    """Train what is missing, compare, and write table and picture under ``results/precision/``.

    With `kind` only comparisons of such runs are made, and the files have it in their names.

    Raises:
        InputError: a precision that the device lacks, or that is compared with itself; before anything trains.
    """
    if precision == against:
        raise InputError(f"precision = {precision!r}: compared with itself; give --against another")
    plan = load_plan()
    if kind is not None:
        comparisons = [part for part in plan.comparisons if part.kind == kind]
        plan = plan.model_copy(update={"comparisons": type(plan.comparisons)(comparisons)})
    ensure.ensure([*runs(plan, against), *runs(plan, precision)], store, device=device)
    frame = compare(store, precision, against, plan)
    folder, name = store.results / FOLDER, "-".join([precision, "against", against, *([kind] if kind else [])])
    return frame, [
        tables.write_csv(frame, folder, name),
        *style.save(figures.precision(figure_rows(frame)), folder, name),
    ]


def _values(records: Iterable[Record], name: str, margin: Margin) -> Values:
    """One value per seed ``(S,)``, in the order of seeds."""
    estimand = Estimand(measure=name, window=margin.window)
    ordered = sorted(records, key=lambda record: record.spec.seed)
    return np.array([margin.on_scale(score(record, estimand).value) for record in ordered])


def judge(x: Values, y: Values, margin: float, plan: Plan, paired: bool) -> Decision:
    """Whether the shift from ``y (S,)`` to ``x (S,)`` lies inside `margin`, outside it, or neither is shown.

    `paired` compares seed by seed.
    """
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Decision("undefined", math.nan, math.nan, math.nan, math.nan)
    confidence = 1 - 2 * plan.level
    beyond: Callable[[float, stats.Alternative], float]
    if paired:
        interval = paired_interval(x - y, confidence)

        def beyond(bound: float, side: stats.Alternative) -> float:
            return signed_rank(x - y - bound, side)
    else:
        interval = stats.shift_interval(x, y, confidence)

        def beyond(bound: float, side: stats.Alternative) -> float:
            return stats.shift_test(x, y, bound, side).p

    inside = max(beyond(-margin, "greater"), beyond(margin, "less"))
    outside = min(1.0, 2 * min(beyond(margin, "greater"), beyond(-margin, "less")))  # two-sided
    if inside <= plan.level:
        return Decision("equivalent", *interval, inside)
    return Decision("different" if outside <= plan.level else "open", *interval, min(inside, outside))


def sentences(table: pd.DataFrame, precision: str, against: str) -> list[str]:
    """The result as lines: a summary, then every row that is not equivalent."""
    counts = table["verdict"].value_counts()
    names = [verdict for verdict in get_args(Verdict) if verdict in counts]
    by_verdict = ", ".join(f"{counts[verdict]} {verdict}" for verdict in names)
    relation = "equivalent to" if (table["verdict"] == "equivalent").all() else "not shown to be equivalent to"
    if (table["verdict"] == "different").any():
        relation = "different from"
    lines = [f"{precision} is {relation} {against}: of {len(table)} comparisons {by_verdict}"]
    for row in table[table["verdict"] != "equivalent"].to_dict("records"):
        lines.append(
            f"  {row['verdict']}: {row['measure']} of {row['method']} on {row['task']} shifts by {row['effect']:.3g}"
            f" ({row['interval_low']:.3g} to {row['interval_high']:.3g}), margin {row['margin']:g}"
        )
    return lines


def figure_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows for `figures.precision`: ``label, method, effect, margin, low, high`` of all defined comparisons."""
    frame = table[table["verdict"] != "undefined"]
    names = [_label(row) for row in frame.to_dict("records")]
    rows = pd.DataFrame({"label": names, **{name: frame[name].to_numpy() for name in ("method", "effect", "margin")}})
    return rows.assign(low=frame["interval_low"].to_numpy(), high=frame["interval_high"].to_numpy())


def _label(row: dict[str, Any]) -> str:
    task = str(row["task"]).split(":")[-1].removesuffix("-v5").removesuffix("-v0")
    return f"{str(row['measure']).replace('_', ' ')}, {task}"
