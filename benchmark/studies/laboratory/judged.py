"""Verdicts on the predictions, from seeds that were trained after these were written.

The rules are those of the ledger's claims (`benchmark.judging.criteria`): a typical seed of two arms, a margin, a
level of 5 %, five seeds an arm. Each prediction is judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.drawing import tables
from benchmark.judging.criteria import judge
from benchmark.judging.evidence import Evidence, Outcome, Score
from benchmark.studies.laboratory.arms import ARMS, KNOWN_TEMPERATURE, Arm, gain, known_q
from benchmark.studies.laboratory.predictions import ACCOUNTS, JUDGES, PREDICTIONS, Prediction
from benchmark.words import count

NAME = "judges"
"""The file of the last look at every judging seed."""
UPDATES = 5_000
_TOGETHER = 4
"""Arms of a job, so that a stop loses little."""
_LARGEST = 1e38
"""Stands for a mean Q that is not finite."""
_ARMS = {arm.name: arm for arm in ARMS}


def build(folder: Path, say: Callable[[str], None] = lambda _: None, updates: int = UPDATES) -> None:
    """Train the judging seeds of the arms that ``folder/judges.csv`` lacks, and keep their last look there."""
    from benchmark.studies.laboratory import learner  # torch, which a page that only shows does without

    done = whole(folder / f"{NAME}.csv", updates)
    lacking = [arm for arm in ARMS if arm.name not in set(done["arm"])]
    forms = {p.arm: p.form for p in PREDICTIONS}
    groups = [group[i : i + _TOGETHER] for group in learner.lockstep(lacking) for i in range(0, len(group), _TOGETHER)]
    for index, group in enumerate(groups):
        say(f"judging seeds, job {index + 1} of {len(groups)}: {', '.join(arm.name for arm in group)}")
        new = learner.train(group, JUDGES, updates, looks=1)
        new.insert(2, "prediction", new["arm"].map(forms).fillna(""))
        done = new if done.empty else pd.concat([done, new])
        order = done["arm"].map({name: i for i, name in enumerate(_ARMS)})
        done = done.assign(order=order).sort_values(["order", "seed"], ignore_index=True).drop(columns="order")
        tables.write_csv(done, folder, NAME)


def whole(path: Path, updates: int = UPDATES) -> pd.DataFrame:
    """The rows of arms as they are now, with every judging seed and so many updates."""
    if not path.is_file():
        return pd.DataFrame(columns=["arm"])
    rows = pd.read_csv(path, dtype={"form": str, "prediction": str}, keep_default_na=False)
    sound = [
        mine
        for name, mine in rows.groupby("arm")
        if name in _ARMS
        and set(mine["form"]) == {_ARMS[str(name)].form}
        and sorted(mine["seed"]) == list(JUDGES)
        and set(mine["updates"]) == {updates}
    ]
    return pd.concat(sound) if sound else rows[:0]


def magnitudes(rows: pd.DataFrame, arm: Arm) -> dict[int, float]:
    """The order of magnitude of |Q - known| over |known| by seed."""
    known = known_q(arm, KNOWN_TEMPERATURE)
    mine = rows[rows["arm"] == arm.name]
    q = np.nan_to_num(mine["q_mean"].astype(float), nan=_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)
    off = np.log10(np.maximum(np.abs(q - known) / abs(known), 1e-12))
    return dict(zip(mine["seed"].astype(int), off.tolist(), strict=True))


def outcome(rows: pd.DataFrame, prediction: Prediction) -> Outcome:
    """The verdict on one prediction; incomplete where a seed lacks."""
    x, y = (
        tuple(Score(seed, value, 1) for seed, value in magnitudes(rows, _ARMS[name]).items())
        for name in (prediction.arm, prediction.against)
    )
    evidence = Evidence(prediction.arm, prediction.against, x, y)
    return judge(prediction.criterion, {prediction.arm: evidence}, len(JUDGES))[prediction.arm]


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a prediction: ``arm, words, gain, predicted, against, effect, low, high, p, verdict, mark`` and accounts.

    `effect` is the difference in orders of magnitude. `mark` says where a prediction is not the one that its runs
    were trained for. An account's column has what it says of the arm.
    """
    trained = rows.drop_duplicates("arm").set_index("arm")["prediction"].to_dict() if len(rows) else {}
    lines = []
    for p in PREDICTIONS:
        out = outcome(rows, p)
        low, high = out.interval or (None, None)
        edited = p.arm in trained and trained[p.arm] != p.form
        lines.append(
            {
                "arm": p.arm, "words": _ARMS[p.arm].words, "gain": gain(_ARMS[p.arm]), "predicted": p.answer,
                "against": p.against, "effect": out.effect, "low": low, "high": high, "p": out.p,
                "verdict": out.verdict, "mark": "edited after its runs" if edited else "",
                **{account: p.accounts.get(account, "") for account in ACCOUNTS},
            }
        )  # fmt: skip
    return pd.DataFrame(lines)


def sentences(table: pd.DataFrame) -> list[str]:
    """How many predictions came true, and how often each account was right where one was decided."""
    counts = table["verdict"].value_counts()
    told = ", ".join(f"{counts[name]} {name}" for name in counts.index)
    seeds = f"seeds {JUDGES[0]} to {JUDGES[-1]}"
    lines = [f"Of {count(len(table), 'prediction')} that were written before {seeds} were trained: {told}."]
    real = {row.arm: _other(row.predicted) if row.verdict == "contradicted" else row.predicted
            for row in table.itertuples() if row.verdict in ("reproduced", "contradicted")}  # fmt: skip
    for account in ACCOUNTS:
        said = {row["arm"]: row[account] for _, row in table.iterrows() if row[account] and row["arm"] in real}
        wrong = [arm for arm, answer in said.items() if answer != real[arm]]
        if said:
            names = f", wrong on {', '.join(wrong)}" if wrong else ""
            lines.append(f"The {account} account is right on {len(said) - len(wrong)} of {len(said)} arms{names}.")
    return lines


def _other(answer: str) -> str:
    return "goes on" if answer == "ends" else "ends"
