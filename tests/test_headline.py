"""The paper's headline figure as data: what it says of claims, what is drawn, and our runs beside it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from synthetic import write_train

from benchmark.drawing import headline as drawn
from benchmark.drawing import style
from benchmark.records.store import Store
from benchmark.report import headline as report
from benchmark.suite.headline import load_headline
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import SUITE, load_suite, specs
from mbpo.config import InputError

PENDULUM = "gym:InvertedPendulum-v5"


def says(claim: str) -> str:
    return load_headline().says(load_ledger().claim(claim))


def test_the_figure_says_what_was_read_off_it() -> None:
    assert says("mbpo-below-half-of-sac") == "0 to 37 % of SAC"
    assert says("mbpo-beats-sac-gym") == "119 to 1,093 % of SAC"
    assert says("ftfl-doubles-sac") == "210 to 1,239 % of SAC"
    assert says("ftfl-beats-sac") == "0 to 1,239 % of SAC, above 100 % on 5 of 7 tasks"
    assert says("hopper-touch-zero") == "0 % of SAC"
    assert says("gym-preserved") == "89 to 147 % of MBPO"  # Ant and Hopper: 971.6 / 1092.8, 245.0 / 166.4
    assert says("reward-collapse") == ""


def test_it_names_the_papers_seven_and_the_gym_six() -> None:
    suite, bars = load_suite(), load_headline().bars
    seven = {name for name, entry in suite.tasks.items() if entry.paper_seven}
    assert {task for task in bars if task.startswith("dmc:")} == seven and len(bars) == 13
    assert load_headline().sac_at_most("dmc:humanoid-walk") == pytest.approx(43.3, abs=0.1)
    assert load_headline().sac_at_most("dmc:hopper-hop") is None is load_headline().sac_at_most("gym:Ant-v5")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"dmc:hopper-hop"', '"dmc:hoper-hop"', "bars.dmc:hoper-hop: did you mean 'dmc:hopper-hop'"),
        ("ftfl: 298.4", "ftlf: 298.4", "bars.dmc:humanoid-run.percent: 'ftlf'; did you mean 'ftfl'"),
        ("mbpo: 8.8, ", "", "has no 'mbpo'"),
        ("  mbpo-fails:", "  mbpo-fail:", "unknown claim 'mbpo-fail'; did you mean 'mbpo-fails'"),
        (
            "hopper-unsolved: {method: ftfl, over: sac}",
            "hopper-unsolved: {method: ftfl, over: sacc}",
            "no ftfl over",
        ),
    ],
)
def test_a_slip_on_the_page_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    for path in SUITE.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    page = tmp_path / "headline.yaml"
    assert page.read_text().count(old) == 1
    page.write_text(page.read_text().replace(old, new))
    with pytest.raises(InputError, match=told):
        load_headline(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results", tmp_path / "cache")


def write(store: Store, method: str, finals: list[float], protocol: str = "quick") -> None:
    for spec, final in zip(specs("train", [PENDULUM], [method], protocol), finals, strict=False):
        write_train(store, spec, [0.0] * 8 + [final] * 3)


def test_ours_are_interquartile_means_over_those_of_sac(store: Store) -> None:
    assert report.ours(store, load_headline(), load_suite()).empty
    write(store, "mbpo", [1.0, 200.0, 300.0, 400.0, 9_000.0])
    assert report.ours(store, load_headline(), load_suite()).empty  # nothing to divide by
    write(store, "sac", [50.0, 100.0, 150.0, 200.0])
    (row,) = report.ours(store, load_headline(), load_suite()).to_dict("records")
    assert (row["task"], row["method"], row["protocol"], row["env_steps"]) == (PENDULUM, "mbpo", "quick", 3000)
    assert (row["seeds"], row["reference"], row["reference_seeds"]) == (5, "sac", 4)
    assert (row["final_return"], row["reference_return"]) == (300.0, 125.0)
    assert (row["percent"], row["low"], row["high"]) == pytest.approx((240.0, 0.8, 7_200.0))


def test_a_return_that_is_not_above_nought_gives_no_ratio(store: Store) -> None:
    write(store, "mbpo", [1.0] * 5)
    write(store, "sac", [-1.0] * 5)
    (row,) = report.ours(store, load_headline(), load_suite()).to_dict("records")
    assert math.isnan(row["percent"])
    assert "no ratio to SAC, whose return is not above 0" in report._line(load_headline(), row)


def test_marks_lie_where_the_numbers_say_and_a_task_without_runs_says_so() -> None:
    published = report.published(load_headline()).query("task in ['dmc:humanoid-run', 'gym:Ant-v5']")
    ours = pd.DataFrame(
        [("gym:Ant-v5", "ftfl", 80.0, 60.0, 90.0)], columns=["task", "method", "percent", "low", "high"]
    )
    figure = drawn.headline(published, ours, load_headline().methods)
    left, right = figure.axes
    marks = {line.get_color(): line.get_xdata()[0] for line in left.lines if line.get_marker() in ("o", "s", "X")}
    assert marks == {style.color("mbpo"): 8.8, style.color("ftfl"): 298.4, style.color("ftfl-tuned"): 513.8}
    assert [text.get_text().strip() for text in left.texts] == ["no run yet"] and not right.texts
    hollow = [line.get_xdata()[0] for line in right.lines if line.get_markerfacecolor() == "white"]
    spans = [
        list(line.get_xdata()) for line in right.lines if len(line.get_xdata()) == 2 and line.get_color() != style.SOFT
    ]
    assert hollow == [80.0] and spans == [[60.0, 90.0]]
