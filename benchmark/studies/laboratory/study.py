"""The laboratory's answer: which link of the chain is enough for a runaway, and which switch ends it.

Made by `python -m benchmark study laboratory` and kept as `curve.csv`; tables, figures and sentences follow from that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.drawing import tables
from benchmark.studies.laboratory import figures, judged
from benchmark.studies.laboratory.arms import (
    ALONE,  # fmt: skip
    ARMS,
    CHAIN,
    ENDED,
    HEALTHY,
    KNOWN_TEMPERATURE,
    TARGET,
    gain,
    known_q,
)
from benchmark.words import number

NAME = "laboratory"
TITLE = "The chain in a laboratory"
TEXT = (
    "Four masses on springs, whose maximum-entropy optimum has a formula, and the project's own SAC on synthetic rows "
    "that are exact but for a displacement of their next states. The formula says that a displacement leaves the best "
    "policy what it is and lowers every value by a known number, so all else that happens is the learner's doing. "
    "Every link of the chain from bootstraps off the data to a runaway temperature is taken out alone, and some are "
    "forced alone. What each arm would do was predicted from three seeds and is judged on five others, by the rules of "
    "the claims. The size of the observations was chosen so that the chain runs: the laboratory shows that it can, "
    "and what ends it here, not that it is what happens on another task. A gain is how much the simplest critic that "
    "grows in proportion to its input, one weight times the size of the observation, grows in a sweep of bootstrapping."
)
SEEDS, UPDATES = 3, 5_000
MEASURED = ("reward_part", "entropy_part", "saturated_on", "saturated_off", "cost")
RUNAWAY = 10.0
"""Times the known mean Q by which Q is off that count as a runaway."""


def summary(curve: pd.DataFrame) -> pd.DataFrame:
    """One row an arm, from its last look, medians over seeds.

    * ``arm, words, seeds, gain``; ``runaway``: how many seeds.
    * ``temperature, over_known``: and times that of the closed form. ``entropy``; ``below``: share of looks in the
      second half with entropy below its target.
    * ``q_mean, q_known, q_off``: the last is |Q - known| over |known|.
    * ``reward_part, entropy_part, saturated_on, saturated_off, cost``: as `learner.measure` has them.
    """
    rows = []
    for arm in [arm for arm in ARMS if arm.name in set(curve["arm"])]:
        mine = curve[curve["arm"] == arm.name]
        last = mine[mine["updates"] == mine["updates"].max()]
        late = mine[mine["updates"] > mine["updates"].max() / 2]
        known = known_q(arm, KNOWN_TEMPERATURE)
        off = (last["q_mean"] - known).abs() / abs(known)
        middle = last.drop(columns=["arm", "form", "seed", "updates"]).median()
        rows.append(
            {
                "arm": arm.name,
                "words": arm.words,
                "gain": gain(arm),
                "seeds": len(last),
                "runaway": int(((off > RUNAWAY) | ~np.isfinite(off)).sum()),
                "temperature": middle["temperature"],
                "over_known": middle["temperature"] / KNOWN_TEMPERATURE,
                "entropy": middle["entropy"],
                "below": float((late["entropy"] < TARGET).mean()),
                "q_mean": middle["q_mean"],
                "q_known": known,
                "q_off": float(off.median()),
                **{name: middle[name] for name in MEASURED},
            }
        )
    return pd.DataFrame(rows)


def sentences(table: pd.DataFrame) -> list[str]:
    """What the table says."""
    rows = {row.arm: row for row in table.itertuples(index=False)}
    lines = []
    if HEALTHY.name in rows and CHAIN.name in rows:
        exact, chain = rows[HEALTHY.name], rows[CHAIN.name]
        lines.append(
            f"The closed form settles at a temperature of {number(KNOWN_TEMPERATURE)}. With exact next states the "
            f"learner ends at {number(exact.temperature)} and a mean Q of {number(exact.q_mean)} (closed form "
            f"{number(exact.q_known)}); with next states displaced by 3 standard deviations at "
            f"{number(chain.temperature)} and {number(chain.q_mean)} (closed form {number(chain.q_known)}), "
            f"{chain.runaway} of {chain.seeds} seeds a runaway: Q off by more than {RUNAWAY:g} times its known size."
        )
    for arms, ended, still in (
        (ENDED, "What ends the runaway in every seed, taken alone", "What does not end it in every seed"),
        (ALONE, "Forced alone, no seed runs away with", "Forced alone, some seed runs away with"),
    ):
        known = [rows[arm.name] for arm in arms if arm.name in rows]
        for words, these in ((ended, [r for r in known if not r.runaway]), (still, [r for r in known if r.runaway])):
            if these:
                lines.append(f"{words}: {'; '.join(map(_told, these))}.")
    return lines + _of_gains(table[~table["arm"].isin([arm.name for arm in ALONE])])


def _of_gains(table: pd.DataFrame) -> list[str]:
    """Whether the gain tells the arms that run away from those that do not, and which it does not tell."""
    away, settled = table[table["runaway"] > 0], table[table["runaway"] == 0]
    if away.empty or settled.empty:
        return []
    edge = away["gain"].min()
    beyond = settled[settled["gain"] >= edge]["arm"]
    told = f", but for {', '.join(beyond)}, whose gain is as large" if len(beyond) else ""
    return [
        f"Arms of which a seed runs away have a gain of {number(edge)} to {number(away['gain'].max())}; those of which "
        f"none does have less, {number(settled['gain'].min())} to "
        f"{number(settled.loc[settled['gain'] < edge, 'gain'].max())}{told}."
    ]


def _told(row: Any) -> str:
    """An arm in a sentence: 'half of each batch real (Q -12, temperature 0.02, cost 1.1)'."""
    return (
        f"{row.words} ({row.runaway} of {row.seeds}; Q {number(row.q_mean)}, temperature {number(row.temperature)}, "
        f"cost {number(row.cost)})"
    )


def build(
    results: Path, say: Callable[[str], None] = lambda _: None, seeds: int = SEEDS, updates: int = UPDATES
) -> None:
    """Train the arms that the curve under ``results/studies/laboratory`` lacks, then the judging seeds."""
    from benchmark.studies.laboratory import learner  # torch, which a page that only shows does without

    found = [kept(results / "studies" / NAME / "curve.csv", seeds, updates)]
    there = set(found[0]["arm"])
    for index, group in enumerate(groups := learner.lockstep([arm for arm in ARMS if arm.name not in there])):
        say(f"job {index + 1} of {len(groups)}: {', '.join(arm.name for arm in group)}")
        found.append(learner.train(group, seeds, updates))
        tables.write_csv(_in_order(pd.concat(found)), results / "studies" / NAME, "curve")
    judged.build(results / "studies" / NAME, say, updates)


def kept(path: Path, seeds: int, updates: int) -> pd.DataFrame:
    """The rows of a curve that are of arms as they are now, whole, with so many seeds and updates."""
    if not path.is_file():
        return pd.DataFrame(columns=["arm"])
    curve = pd.read_csv(path)
    forms = {arm.name: arm.form for arm in ARMS}
    sound = [
        mine
        for name, mine in curve.groupby("arm")
        if set(mine["form"]) == {forms.get(str(name))}
        and set(mine.loc[mine["updates"] == mine["updates"].max(), "seed"]) == set(range(seeds))
        and mine["updates"].max() == updates
    ]
    return pd.concat(sound) if sound else curve[:0]


def _in_order(curve: pd.DataFrame) -> pd.DataFrame:
    place = {arm.name: i for i, arm in enumerate(ARMS)}
    return curve.assign(place=curve["arm"].map(place)).sort_values(
        ["place", "seed", "updates"], ignore_index=True
    ).drop(columns="place")  # fmt: skip


def shown(folder: Path) -> Mapping[str, Any] | None:
    """Tables, sentences and what draws the figures of the curve kept under `folder`; None where there is none."""
    place = folder / NAME
    if not (place / "curve.csv").is_file():
        return None
    curve = pd.read_csv(place / "curve.csv")
    table = summary(curve)
    tables.write_csv(table, place, "arms")
    runs = int(curve.groupby(["arm", "seed"]).ngroups)
    draw = partial(figures.draw, curve, table)
    told, written = sentences(table), ["arms", "curve"]
    rows = judged.whole(place / f"{judged.NAME}.csv")
    if len(rows):
        verdicts = judged.verdicts(rows)
        tables.write_csv(verdicts, place, "verdicts")
        told, written = [*told, *judged.sentences(verdicts)], [*written, judged.NAME, "verdicts"]
    return {"runs": runs + len(rows), "figures": draw, "sentences": told, "tables": tuple(written)}
