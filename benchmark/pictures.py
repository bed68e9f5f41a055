"""Which figure belongs to which claim and chapter, in the two widths of the page and as files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmark import claims, figures, style
from benchmark.gather import Data
from benchmark.ledger import Claim

AXES = {"reward_r2": figures.R2, "reward_std_ratio": figures.RATIO}
TARGET_UNITS = figures.Axis("mean log-variance, in target units")
RAW_UNITS = figures.Axis("mean log-variance, in the environment's units")


@dataclass(frozen=True)
class Picture:
    """One figure: its `svg` in the two widths of the page; `name` is that of its files."""

    name: str
    caption: str
    wide: str
    narrow: str


def draw_all(data: Data, folder: Path) -> dict[str, list[Picture]]:
    """Figures by the claim or chapter they belong to; written to `folder` on the way."""
    found: dict[str, list[Picture]] = {}
    for name, chapter in data.ledger.chapters.items():
        members = [claim for claim in data.ledger.claims if claim.chapter == name]
        found[name] = [p for figure in chapter.figures for p in _chapter_picture(data, figure, members, folder)]
    for claim in data.ledger.claims:
        found[claim.id] = _claim_picture(data, claim, folder)
    return found


def _claim_picture(data: Data, claim: Claim, folder: Path) -> list[Picture]:
    """The claim's two arms, every seed."""
    if not claims.runs(claim, data.protocol):
        return []
    arms = list(dict.fromkeys([claim.arm, claim.against]))
    name = claim.id
    if claim.kind == "train":
        frame = data.curves[data.curves["method"].isin(arms)]
        tasks = _tasks(claim, frame)
        windows = [window for window in (claim.estimand.window, claim.reference.window) if window]
        caption = f"{_told(arms)} in training: a thin line is a seed, a thick one their mean."
        if any(window != (0.0, 1.0) for window in windows):
            caption += " The score is the mean over the shaded part."

        def draw(width: float) -> Figure:
            return figures.curves(frame, tasks, arms, width, windows)

    else:
        frame = data.values(claim.estimand.measure)
        frame = frame[frame["method"].isin(arms)]
        tasks = _tasks(claim, frame)
        axis = AXES.get(
            claim.estimand.measure, TARGET_UNITS if claim.estimand.measure == "logvar_target" else RAW_UNITS
        )
        caption = f"{_told(arms)}: a dot is a seed, a bar the median."

        def draw(width: float) -> Figure:
            return figures.dots([(frame, axis)], tasks, arms, width)

    return [_picture(draw, name, caption, folder)] if tasks else []


def _chapter_picture(data: Data, figure: str, members: Sequence[Claim], folder: Path) -> list[Picture]:
    tasks = list(dict.fromkeys(task for claim in members for task in claim.tasks if task in set(data.scalars["task"])))
    if not tasks:
        return []
    if figure == "reward-by-bin":
        arms = ["mbpo", "norm-only", "ftfl"]

        def draw(width: float) -> Figure:
            return figures.bins(data.bins[data.bins["method"].isin(arms)], tasks, arms, width)

        caption = (
            "Held-out transitions, sorted by their true reward into ten equal parts (across): the mean true reward of "
            "each part in grey, the mean predicted one (up) as a line per seed. A triangle at the edge is a prediction "
            "beyond the panel."
        )
    else:
        arms = ["mbpo", "direct-only", "norm-only", "ftfl"]
        panels = [(data.values("logvar_target"), TARGET_UNITS), (data.values("logvar_raw"), RAW_UNITS)]

        def draw(width: float) -> Figure:
            return figures.dots(panels, tasks, arms, width)

        caption = (
            "The same predictions in two units: as the model puts them out, and with the scale of the targets "
            "multiplied back in. Residual arms are mbpo and norm-only, direct ones direct-only and ftfl. A dot is a "
            "seed, a bar the median."
        )
    return [_picture(draw, figure, caption, folder)]


def _picture(draw: Callable[[float], Figure], name: str, caption: str, folder: Path) -> Picture:
    wide = draw(style.WIDE)
    style.save(wide, folder, name)
    narrow = style.svg(draw(style.NARROW), f"{name}-n", caption)
    return Picture(name, caption, style.svg(wide, f"{name}-w", caption), narrow)


def _told(arms: Sequence[str]) -> str:
    return " and ".join(arms)


def _tasks(claim: Claim, frame: pd.DataFrame) -> list[str]:
    here = set(frame["task"])
    return [task for task in claim.tasks if task in here]
