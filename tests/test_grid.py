"""The grid study's numbers against effects that were planted in made-up records."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest

from benchmark.records.store import Record
from benchmark.studies import factors
from benchmark.studies.grid import figures, study
from benchmark.studies.grid.groups import of_group
from benchmark.studies.grid.sentences import sentences
from benchmark.suite.studies import load_studies, specs_of
from benchmark.words import minus
from mbpo.envs import task_info

TASK = "dmc:hopper-stand"
METHODS = next(part.methods for part in load_studies()["grid"].runs)
GRID = [method for method in METHODS if method not in factors.RIVALS]
SPECS = {(s.method, s.seed): s for s in specs_of(load_studies()["grid"]) if s.task == TASK and s.fit.source == "random"}
LEVEL = {"none": (0, 0), "reward": (1, 0), "obs": (0, 1), "both": (1, 1)}


def record(spec, values):
    """A fit record of these last measures, scalars and vectors, with a decoy at an earlier step."""
    rows = [(step, name, dim, float(x) + (step < 300) * 1e6)
            for step in (30, 300) for name, value in values.items()
            for dim, x in (enumerate(value) if np.ndim(value) else [(-1, value)])]  # fmt: skip
    return Record(spec, pd.DataFrame(), pd.DataFrame(rows, columns=["step", "measure", "dim", "value"]), {})


def world(measure, skip=(), seeds=5, methods=METHODS, task=TASK):
    """Records in which `measure(method, normalize, predict, seed)` gives the scalars."""
    records = []
    for method, seed in product(methods, range(seeds)):
        spec = SPECS[method, seed].model_copy(update={"task": task})
        target = spec.constants.target
        if (method, seed) not in skip:
            records.append(record(spec, measure(method, target.normalize, target.predict, seed)))
    return records


def additive(method, normalize, predict, seed):
    """Effects of 2, -0.5, and 0.25 or 1 on the reward; of factors 0.5 and 0.8, and 1.2 or 0.6 on the error."""
    reward, obs = LEVEL[normalize]
    r2 = -3.0 + 2.0 * reward - 0.5 * obs + {"delta": 0.0, "next_obs": 0.25, "fitted": 1.0}[predict] + 0.1 * seed
    error = 50.0 * 0.5**reward * 0.8**obs * {"delta": 1.0, "next_obs": 1.2, "fitted": 0.6}[predict] * 1.1**seed
    return {"reward_r2": r2, "error_over_delta": error}


def row(frame, **chosen):
    for column, value in chosen.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, (chosen, len(frame))
    return frame.iloc[0]


def test_every_arm_of_the_page_is_one_cell_or_a_rival():
    cells = {(s.constants.target.normalize, s.constants.target.predict) for (m, _), s in SPECS.items() if m in GRID}
    assert cells == set(product(factors.NORMALIZE, factors.PREDICT)) and len(GRID) == 12
    assert set(METHODS) - set(GRID) == set(factors.RIVALS)


def test_planted_effects_are_recovered_exactly():
    contrasts = study.tables(world(additive))["contrasts"]
    for contrast, effect, strata in (
        ("normalize reward", 2.0, 6),
        ("normalize obs", -0.5, 6),
        ("next_obs for delta", 0.25, 4),
    ):
        effect_row = row(contrasts, contrast=contrast, stratum="average", measure="reward_r2")
        np.testing.assert_allclose(effect_row[["effect", "low", "high", "mean"]].astype(float), effect, rtol=1e-12)
        assert (effect_row["n"], effect_row["strata"]) == (5, strata)
    for contrast, factor in (("normalize reward", 0.5), ("normalize obs", 0.8), ("next_obs for delta", 1.2)):
        effect_row = row(contrasts, contrast=contrast, stratum="average", measure="error_over_delta")
        assert math.exp(effect_row["effect"]) == pytest.approx(factor) and effect_row["scale"] == "log ratio"


def test_fitted_is_set_against_the_one_that_errs_less_under_that_normalization():
    def measure(method, normalize, predict, seed):
        swap = normalize == "both"  # there next_obs errs less
        error = {"delta": 4.0 if swap else 2.0, "next_obs": 2.0 if swap else 4.0, "fitted": 1.0}[predict]
        return {"error_over_delta": error, "logvar_raw": {"delta": -1.0, "next_obs": -3.0, "fitted": -4.0}[predict]}

    contrasts = study.tables(world(measure))["contrasts"]
    chosen = contrasts[(contrasts["contrast"] == "fitted for the better") & (contrasts["measure"] == "logvar_raw")]
    effects = dict(zip(chosen["stratum"], chosen["effect"], strict=True))
    assert effects == {"average": -2.5, "none": -3.0, "reward": -3.0, "obs": -3.0, "both": -1.0}


def test_an_interaction_is_what_both_add_to_the_two():
    def measure(method, normalize, predict, seed):
        return {"reward_r2": 1.0 - {"none": 8.0, "reward": 4.0, "obs": 8.0, "both": 0.5}[normalize]}

    tables = study.tables(world(measure))
    unexplained = tables["contrasts"][tables["contrasts"]["measure"] == "reward_unexplained"]
    factors_found = (
        unexplained[unexplained["contrast"] == "normalize reward"].set_index("stratum")["effect"].map(math.exp)
    )
    expected = {"none to reward": 0.5, "obs to both": 1 / 16, "interaction": 1 / 8, "average": math.sqrt(1 / 32)}
    assert factors_found.to_dict() == pytest.approx(expected)
    assert (
        "unexplained variance: on random data down on hopper-stand: \N{MULTIPLICATION SIGN}0.125"
        in sentences(tables)[1]
    )


def test_the_interval_runs_from_the_least_to_the_largest_of_five_paired_differences():
    gains = [0.3, 0.1, 0.2, 0.7, 0.4]

    def measure(method, normalize, predict, seed):
        # Seeds differ by far more than the arms do: only pairs can show the effect.
        return {"reward_r2": 100.0 * seed + gains[seed] * LEVEL[normalize][0]}

    effect = row(
        study.tables(world(measure))["contrasts"], contrast="normalize reward", stratum="average", measure="reward_r2"
    )
    walsh = sorted((a + b) / 2 for i, a in enumerate(gains) for b in gains[i:])
    assert (effect["low"], effect["high"], effect["effect"]) == pytest.approx((0.1, 0.7, np.median(walsh)))


def test_seeds_without_the_measure_are_counted_out_and_four_have_no_bounds():
    def measure(method, normalize, predict, seed):
        return additive(method, normalize, predict, seed) | ({"reward_r2": math.nan} if seed == 3 else {})

    tables = study.tables(world(measure))
    effect = row(tables["contrasts"], contrast="normalize reward", stratum="average", measure="reward_r2")
    assert effect["n"] == 4 and effect["effect"] == pytest.approx(2.0) and effect["low"] == -math.inf
    level = row(tables["measures"], method="mbpo", measure="reward_r2")
    assert (level["n"], level["seeds"], level["low"]) == (4, 5, -math.inf)
    assert level["median"] == pytest.approx(np.median([-3.0, -2.9, -2.8, -2.6]))
    assert "hopper-stand" in sentences(tables)[0] and "too few for an interval" in sentences(tables)[0]


def test_a_missing_cell_takes_its_stratum_out_and_a_missing_run_its_seed():
    contrasts = study.tables(world(additive, methods=[m for m in METHODS if m != "obs-norm-fitted"]))["contrasts"]
    average = {"stratum": "average", "measure": "reward_r2"}
    reward = row(contrasts, contrast="normalize reward", **average)
    assert (reward["strata"], reward["n"]) == (5, 5) and reward["effect"] == pytest.approx(2.0)
    contrasts = study.tables(world(additive, skip={("obs-norm-fitted", 2)}))["contrasts"]
    reward = row(contrasts, contrast="normalize reward", **average)
    assert (reward["strata"], reward["n"]) == (6, 4) and reward["effect"] == pytest.approx(2.0)


def test_rivals_are_held_against_mbpo_and_against_norm_only():
    unexplained = {"mbpo": 4.0, "norm-only": 0.5, "mbpo-wide": 2.0}

    def measure(method, normalize, predict, seed):
        return {"reward_r2": 1.0 - unexplained.get(method, 4.0)}

    rivals = study.tables(world(measure))["rivals"]
    for method, against, factor in (("mbpo-wide", "mbpo", 0.5), ("mbpo-wide", "norm-only", 4.0),
                                    ("norm-only", "mbpo", 0.125), ("mbpo-bootstrap", "mbpo", 1.0)):  # fmt: skip
        effect = row(rivals, method=method, against=against, measure="reward_unexplained")
        assert math.exp(effect["effect"]) == pytest.approx(factor) and effect["n"] == 5
    assert row(rivals, method="mbpo-wide", against="mbpo", measure="reward_r2")["effect"] == pytest.approx(2.0)


def test_a_group_is_its_slice_by_hand():
    values = {
        "dim_logvar_raw": np.array([1.0, 2.0, 6.0, 100.0]),
        "dim_calibration": np.array([1.0, 2.0, 8.0, 100.0]),
        "dim_error_std": np.array([3.0, 1.0, 0.5, 100.0]),
    }
    measures = of_group(values, 1, 3)
    assert measures["logvar_raw"] == 4.0 and measures["calibration"] == pytest.approx(4.0)
    assert measures["error_share"] == pytest.approx(1.25 / 10.25)
    assert measures["variance_share"] == pytest.approx((4.0 + 16.0) / (9.0 + 4.0 + 16.0))
    values["dim_calibration"][1] = math.nan  # predicted without error
    assert of_group(values, 1, 3)["calibration"] == pytest.approx(8.0)


def by_dimension(method, normalize, predict, seed):
    """Each observation's index as its log-variance, 10 more for delta; the reward would spoil every mean."""
    dims = np.append(np.arange(15.0), 1e9)
    return {
        **additive(method, normalize, predict, seed),
        "logvar_raw": 0.0,
        "dim_logvar_target": dims,
        "dim_logvar_raw": dims + 10.0 * (predict == "delta"),
        "dim_calibration": np.ones(16),
        "dim_error_std": np.append([0.0] * 13, [1.0, 3.0, 1e9]),
        "dim_at_ceiling": np.append(np.linspace(0.0, 1.0, 15), 0.25),
        "dim_at_floor": np.zeros(16),
        "increment_ratio": np.append(np.full(14, 0.25), math.nan),
        "fitted_carry": np.append(np.full(14, 0.5), math.nan),
    }


def test_groups_and_bounds_of_records():
    tables = study.tables(world(by_dimension))
    for group, (start, stop) in task_info(TASK).groups.items():
        mean = (start + stop - 1) / 2
        effect = row(tables["groups"], method="mbpo", group=group, measure="logvar_raw")
        assert (effect["median"], effect["dims"], effect["n"]) == (mean + 10.0, stop - start, 5)
        assert row(tables["groups"], method="ftfl", group=group, measure="logvar_raw")["median"] == mean
        effect = row(tables["groups"], method="norm-only less ftfl", group=group, measure="logvar_raw")
        assert tuple(effect[["median", "low", "high"]]) == (10.0, 10.0, 10.0)
    assert row(tables["groups"], method="mbpo", group="touch", measure="variance_share")["median"] == 1.0
    assert row(tables["groups"], method="data", group="touch", measure="increment_ratio")["median"] == 0.25
    assert row(tables["bounds"], method="mbpo", measure="obs_at_ceiling")["median"] == pytest.approx(7 / 15)
    assert row(tables["bounds"], method="mbpo", measure="reward_at_ceiling")["median"] == 0.25


@pytest.mark.parametrize(("gain", "side"), [(0.5, "up"), (-0.5, "down"), (0.0, "open")])
def test_sentences_turn_with_the_data(gain, side):
    def measure(method, normalize, predict, seed):
        return {"reward_r2": gain * LEVEL[normalize][0] * (1 + 0.1 * seed)}

    records = [r for task in (TASK, "dmc:hopper-hop") for r in world(measure, task=task)]
    (sentence,) = [text for text in sentences(study.tables(records)) if text.startswith("What normalizing the reward")]
    assert f"R²: on random data {side} on all 2 tasks; middle task" in sentence and "n = 5" in sentence


def test_a_sentence_splits_the_tasks():
    records = world(lambda m, n, p, s: {"reward_r2": 1.0 * LEVEL[n][0]})
    records += world(lambda m, n, p, s: {"reward_r2": -1.0 * LEVEL[n][0]}, task="dmc:hopper-hop")
    (sentence,) = [text for text in sentences(study.tables(records)) if text.startswith("What normalizing the reward")]
    assert "up on 1 of 2 tasks (hopper-stand), down on 1 (hopper-hop)" in sentence


def test_two_records_of_one_run_are_refused():
    records = world(additive, methods=["mbpo"])
    with pytest.raises(ValueError, match="two records of fit mbpo"):
        study.tables([*records, records[0]])


def test_sources_stay_apart():
    replay = {(s.method, s.seed): s for s in specs_of(load_studies()["grid"])
              if s.task == TASK and s.fit.source != "random"}  # fmt: skip
    records = world(additive)
    records += [record(replay[m, seed], {"reward_r2": 7.0}) for m, seed in product(GRID, range(5))]
    tables = study.tables(records)
    assert set(tables["measures"]["source"]) == {"random", "sac replay at 100,000"}
    effect = row(tables["contrasts"], source="sac replay at 100,000", contrast="normalize reward", measure="reward_r2")
    assert effect["effect"] == 0.0
    figure = study.figures(tables)["rewards"]
    assert len(figure.axes) == 2


@pytest.mark.parametrize("methods", [METHODS, ["mbpo", "ftfl"], ["mbpo"]])
def test_whatever_is_there_is_drawn_and_told(methods):
    tables = study.tables(world(by_dimension, methods=methods))
    pictures = study.figures(tables)
    assert (
        set(pictures) <= {"rewards", "variances", "rivals", "groups"} and "rewards" in pictures and "groups" in pictures
    )
    assert all(figure.get_label() for figure in pictures.values())
    assert len(sentences(tables)) <= 8


def test_no_records_make_empty_tables():
    tables = study.tables([])
    assert all(frame.empty for frame in tables.values())
    assert study.figures(tables) == {} and sentences(tables) == []


@pytest.mark.parametrize(("value", "text"), [
    (0.94, ".94"), (-0.349, "-.35"), (0.001, "0"), (-2.06, "-2.1"), (-25.7, "-26"), (-25_693, "-26k"),
    (1.0, "1.0"), (math.nan, "\N{EN DASH}"), (-3e7, "<-1M"),
])  # fmt: skip
def test_cells_are_written_in_at_most_four_signs(value, text):
    assert figures.short(value) == minus(text)
