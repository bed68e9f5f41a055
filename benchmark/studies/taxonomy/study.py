"""Which tasks break a residual model, told from random data alone: the study `taxonomy`.

Every number is of tasks, not of seeds or dimensions: 23 tasks are few, and those of one body are alike, so intervals
come from whole domains drawn again. The table over single predictors is exploratory; what counts is `scores`, made on
tasks that the rule had not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats as sps

from benchmark.judging import stats
from benchmark.judging.stats import Interval
from benchmark.records.store import Record
from benchmark.studies.taxonomy import atlas, domains, foresight, rules
from benchmark.studies.taxonomy import figures as taxonomy_pictures
from benchmark.studies.taxonomy.atlas import CHOICES, OUTCOMES, PREDICTORS
from benchmark.words import interval, number

LEVEL = 0.05
SLOPES = {
    "direct_error_norm": (foresight.equal_skill, "equal skill is 1, equal accuracy 0"),
    "direct_error_raw": (foresight.equal_skill, "equal skill is 1, equal accuracy 0"),
    "target_drop": (
        foresight.rescaling,
        "equal accuracy is 1, equal skill 0; in raw units it rises by what lacks to 1",
    ),
}
"""How steeply an outcome follows its physics: *skill* is the share explained of a target's own variance, *accuracy*
the error in the environment's units."""
LABELS = {"paper_seven": "membership in the paper's seven", "collapses": "collapse as measured"}


def tables(records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """Tasks with all measures, scores of the rules, their predictions, single predictors, slopes and dimensions."""
    tasks = atlas.tasks(records)
    return {
        "tasks": tasks,
        "scores": foresight.scores(tasks),
        "predictions": foresight.predictions(tasks),
        "predictors": predictors(tasks),
        "membership": membership(tasks),
        "slopes": slopes(tasks),
        "dimensions": dimensions(atlas.dimensions(records)),
    }


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """The map of tasks, what increments foretell, predicted against measured, and the heat table."""
    tasks = tables["tasks"]
    if tasks.empty:
        return {}
    found = {"map": taxonomy_pictures.task_map(tasks), "increments": taxonomy_pictures.increments(tasks)}
    if len(tables["predictions"]):
        found["foreseen"] = taxonomy_pictures.foreseen(tables["predictions"], tables["scores"])
    if len(tables["predictors"]):
        found["predictors"] = taxonomy_pictures.heat(tables["predictors"], tables["membership"])
    return found


def predictors(tasks: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of every predictor with every outcome over all tasks: exploratory.

    The interval draws domains again; `p` is of the medians of domains, one value each, and Holm's over the whole table.
    """
    bodies = tasks["domain"].tolist()
    by_domain = tasks.groupby("domain")[[*PREDICTORS, *OUTCOMES]].median()
    rows = []
    for predictor in PREDICTORS:
        for outcome in OUTCOMES:
            x, y = tasks[predictor].to_numpy(float), tasks[outcome].to_numpy(float)
            found = domains.spearman_over_domains(x, y, bodies)
            both = by_domain[[predictor, outcome]].dropna()
            varies = len(both) >= 4 and (both.nunique() > 1).all()
            p = float(sps.spearmanr(both[predictor], both[outcome]).pvalue) if varies else 1.0
            n = int((~np.isnan(x + y)).sum())
            rows.append((predictor, outcome, *found, p, n, len(both)))
    frame = pd.DataFrame(rows, columns=["predictor", "outcome", "spearman", "low", "high", "p", "tasks", "domains"])
    frame["p_holm"] = stats.holm(frame["p"])
    return frame


def membership(tasks: pd.DataFrame) -> pd.DataFrame:
    """AUC of every predictor, large values first, for the paper's list of failures and for the collapse measured."""
    rows = []
    for label in LABELS:
        known = tasks[tasks[label].notna()]
        marked = (known[label] == "collapses") if label == "collapses" else known[label].astype(bool)
        mask, bodies = marked.to_numpy(bool), known["domain"].tolist()
        for predictor in PREDICTORS:
            x = known[predictor].to_numpy(float)
            found = _over_domains(rules.auc, bodies, x, mask)
            rows.append((label, predictor, *found, int(mask.sum()), len(mask)))
    return pd.DataFrame(rows, columns=["label", "predictor", "auc", "low", "high", "marked", "tasks"])


def _over_domains(measure: Callable[..., float], bodies: Sequence[str], *columns: np.ndarray) -> Interval:
    """`measure` of the columns ``(tasks,)``, with the interval of whole domains drawn again."""
    return domains.over_domains(lambda chosen: float(measure(*(column[chosen] for column in columns))), bodies)


def slopes(tasks: pd.DataFrame) -> pd.DataFrame:
    """Least-squares slope of an outcome on what physics says of it, with whole domains drawn again."""
    rows = []
    for outcome, (physics, meaning) in SLOPES.items():
        known = tasks[tasks[outcome].notna()]
        x, y = physics(known), known[outcome].to_numpy(float)
        found = _over_domains(_slope, known["domain"].tolist(), x, y)
        rows.append((outcome, *found, meaning, len(known)))
    return pd.DataFrame(rows, columns=["outcome", "slope", "low", "high", "meaning", "tasks"])


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or np.ptp(x) == 0:
        return math.nan
    return float(np.polyfit(x, y, 1)[0])


def dimensions(each: pd.DataFrame) -> pd.DataFrame:
    """Per task: which target errs less on its dimensions, and whether an increment ratio above 1 says so.

    `right` counts the dimensions on which one target is better; `always_delta` is the share right without a look.
    """
    rows = []
    for task, here in each.groupby("task", sort=False):
        told = here[here["better"] != "either"]
        direct = (told["better"] == "next_obs").to_numpy()
        above = (told["increment_ratio"] > 1).to_numpy()
        ratio, error = here["increment_ratio"].to_numpy(float), here["log_error_ratio"].to_numpy(float)
        rows.append({
            "task": task,
            "domain": atlas.domain(str(task)),
            "dims": len(here),
            "decided": len(told),
            "direct_better": float(direct.mean()) if len(told) else math.nan,
            "right": float((direct == above).mean()) if len(told) else math.nan,
            "always_delta": float((~direct).mean()) if len(told) else math.nan,
            "auc": rules.auc(told["increment_ratio"].to_numpy(float), direct),
            "spearman": stats.spearman(ratio, -error),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=None if rows else ["task", "domain", "dims", "decided"])


def sentences(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """What the tables say."""
    tasks = tables["tasks"]
    lines = [
        f"{len(tasks)} tasks of {tasks['domain'].nunique()} domains, "
        f"{tasks['seeds'].min() if len(tasks) else 0} to {tasks['seeds'].max() if len(tasks) else 0} seeds each; "
        f"the reward varies on {int(tasks['reward_gain'].notna().sum())} of them."
    ]
    lines += _collapse(tasks, tables["membership"])
    scores = tables["scores"]
    lines += [_foresight(str(outcome), here) for outcome, here in scores.groupby("outcome", sort=False)]
    lines += [
        f"Slope of {OUTCOMES[row.outcome]} on what the increments say: {number(row.slope)} "
        f"{interval((row.low, row.high))} over {row.tasks} tasks ({row.meaning})."
        for row in tables["slopes"].itertuples()
    ]
    return lines + _single(tables["predictors"]) + _dimensions(tables["dimensions"])


def _collapse(tasks: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Whether the reward's share of the variance foretells failure, and what is at odds with it."""
    lines = []
    for label, title in LABELS.items():
        here = found[(found["label"] == label) & (found["predictor"] == "reward_share_delta")]
        for row in here.itertuples():
            lines.append(
                f"A smaller reward share of the delta targets foretells {title} with AUC {number(1 - row.auc)} "
                f"{interval((1 - row.high, 1 - row.low))} ({row.marked} of {row.tasks} tasks; 0.5 is a coin)."
            )
    known = tasks[tasks["collapses"].notna()]
    failed = known[known["collapses"] == "collapses"]
    safe = known[(known["collapses"] == "holds") & (known["reward_share_delta"] < failed["reward_share_delta"].max())]
    if len(failed):
        told = ", ".join(
            f"{row.task} (10^{number(row.reward_share_delta)})"
            for row in safe.sort_values("reward_share_delta").itertuples()
        )
        lines.append(
            f"{len(failed)} of {len(known)} tasks lose more than {atlas.RESCUED} of reward R2 without normalization, "
            f"up to a share of 10^{number(failed['reward_share_delta'].max())}; below that share {len(safe)} do not"
            + (f": {told}." if told else ".")
        )
    return lines


def _foresight(outcome: str, scores: pd.DataFrame) -> str:
    """One outcome: each contender on the declared half, over random halves, and with domains left out."""
    first = scores.iloc[0]
    what = "rank correlation" if first["measure"] == "spearman" else "accuracy"
    parts = []
    for contender, here in scores.groupby("contender", sort=False):
        declared, halves, left = (here[here["design"] == design].iloc[0] for design in foresight.DESIGNS)
        rule = f" ({declared['rule']})" if declared["rule"] else ""
        parts.append(
            f"the {contender} rule{rule} {_told(declared)}, over random halves {_told(halves)}, "
            f"with each domain left out {_told(left)}"
        )
    name = {**OUTCOMES, **CHOICES}[outcome]
    line = f"{name[0].upper()}{name[1:]}, {what} on the {int(first['n_scored'])} tasks of the declared half: "
    line += "; ".join(parts)
    if what == "accuracy":
        line += f"; the majority guess {number(first['majority'])}"
    return line + "."


def _told(row: pd.Series) -> str:
    return f"{number(row['estimate'])} {interval((row['low'], row['high']))}"


def _single(found: pd.DataFrame) -> list[str]:
    """Which single predictors hold after Holm's correction, and how many do not."""
    firm = found[found["p_holm"] < LEVEL]
    lines = [
        f"{PREDICTORS[row.predictor]} goes with {OUTCOMES[row.outcome]}: rank correlation {number(row.spearman)} "
        f"{interval((row.low, row.high))}, Holm p {number(row.p_holm)} over {row.domains} domains (exploratory)."
        for row in firm.sort_values("p_holm").itertuples()
    ]
    return [*lines, f"{len(found) - len(firm)} of {len(found)} single correlations do not survive Holm's correction."]


def _dimensions(found: pd.DataFrame) -> list[str]:
    known = found[found["decided"] > 0]
    if known.empty:
        return []
    bodies = known["domain"].tolist()
    figures = {}
    for column in ("right", "always_delta"):
        figures[column] = _over_domains(np.mean, bodies, known[column].to_numpy(float))
    (right, *bounds), (blind, *blind_bounds) = figures["right"], figures["always_delta"]
    return [
        f"Dimension by dimension, an increment ratio above 1 says which target errs less with normalization in a share "
        f"of {number(right)} {interval(bounds)} of the cases that every seed decides (mean over {len(known)} tasks); "
        f"taking the increment without a look is right in {number(blind)} {interval(blind_bounds)}."
    ]
