"""The laboratory's predictions: verdicts by the rules of claims, from seeds that no prediction has seen."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmark.studies.laboratory import judged, learner, study
from benchmark.studies.laboratory.arms import ARMS, KNOWN_TEMPERATURE, known_q
from benchmark.studies.laboratory.predictions import ACCOUNTS, JUDGES, PREDICTIONS

FORMS = {p.arm: p.form for p in PREDICTIONS}
AWAY = 10 ** (4 + 0.1 * pd.Series(range(5)))
NEAR = 10 ** (0.1 * pd.Series(range(5)) - 1)


def planted(away: set[str], updates: int = judged.UPDATES) -> pd.DataFrame:
    """Rows of every arm whose Q misses the closed form by 1e4 times its size, or by a tenth of it."""
    parts = []
    for arm in ARMS:
        known = known_q(arm, KNOWN_TEMPERATURE)
        off = AWAY if arm.name in away else NEAR
        rows = {"arm": arm.name, "form": arm.form, "prediction": FORMS.get(arm.name, ""), "seed": list(JUDGES)}
        parts.append(pd.DataFrame({**rows, "updates": updates, "q_mean": known - off * abs(known)}))
    return pd.concat(parts, ignore_index=True)


def test_every_arm_but_the_reference_is_predicted_once() -> None:
    assert sorted(p.arm for p in PREDICTIONS) == sorted(arm.name for arm in ARMS if arm.name != "exact")
    assert set(JUDGES).isdisjoint(range(study.SEEDS)) and len(JUDGES) >= 5
    for account in ACCOUNTS:  # each account is wrong somewhere if the predictions are right: none is a tautology
        assert any(p.accounts.get(account, p.answer) != p.answer for p in PREDICTIONS)


def test_what_was_planted_is_judged_so() -> None:
    true = planted({p.arm for p in PREDICTIONS if p.answer == "goes on"})
    table = judged.verdicts(true).set_index("arm")
    assert set(table["verdict"]) == {"reproduced"} and (table["mark"] == "").all()
    assert table.loc["chain", "effect"] == pytest.approx(5.0) and table.loc["layer-norm", "effect"] == pytest.approx(-5)
    false = planted({"chain", "layer-norm"})
    table = judged.verdicts(false).set_index("arm")
    assert (
        table.loc["layer-norm", "verdict"] == "contradicted" and table.loc["fixed-alpha", "verdict"] == "contradicted"
    )
    told = judged.sentences(table.reset_index())
    assert "reproduced" in told[0] and any("The entropy account is right on" in line for line in told)


def test_lost_values_count_as_a_runaway_and_few_seeds_give_no_verdict() -> None:
    rows = planted({"chain"})
    rows.loc[rows["arm"] == "fixed-alpha", "q_mean"] = float("nan")
    table = judged.verdicts(rows).set_index("arm")
    assert table.loc["fixed-alpha", "verdict"] == "reproduced"
    few = rows[~((rows["arm"] == "near") & (rows["seed"] == JUDGES[0]))]
    assert judged.verdicts(few).set_index("arm").loc["near", "verdict"] == "incomplete"


def test_a_prediction_that_was_changed_after_its_runs_says_so() -> None:
    rows = planted({"chain"})
    rows.loc[rows["arm"] == "near", "prediction"] = "0" * 8
    assert judged.verdicts(rows).set_index("arm")["mark"].to_dict()["near"] == "edited after its runs"


def test_judging_seeds_are_trained_once_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []

    def made(arms: list, seeds: range, updates: int, looks: int) -> pd.DataFrame:
        trained.extend(arm.name for arm in arms)
        rows = planted({"chain"}, updates).drop(columns="prediction")
        return rows[rows["arm"].isin([arm.name for arm in arms])]

    monkeypatch.setattr(learner, "train", made)
    judged.build(tmp_path, updates=7)
    judged.build(tmp_path, updates=7)
    assert sorted(trained) == sorted(arm.name for arm in ARMS)
    rows = judged.whole(tmp_path / "judges.csv", 7)
    assert len(rows) == len(ARMS) * len(JUDGES) and judged.whole(tmp_path / "judges.csv", 8).empty
    assert rows.set_index("arm").loc["near", "prediction"].tolist() == [FORMS["near"]] * 5


def test_the_stored_verdicts_are_those_of_the_stored_runs() -> None:
    folder = Path(__file__).parents[1] / "results" / "studies" / study.NAME
    rows = judged.whole(folder / "judges.csv")
    if rows.empty:
        pytest.skip("the judging seeds are not kept")
    stored = pd.read_csv(folder / "verdicts.csv", keep_default_na=False).set_index("arm")
    table = judged.verdicts(rows).set_index("arm")
    assert stored["verdict"].to_dict() == table["verdict"].to_dict()
    assert (table["mark"] == "").all()
