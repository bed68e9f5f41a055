"""The report: the same bytes from the same records, everything on the page, nothing loaded from elsewhere."""

import hashlib
import io
import json
import re
import shutil
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from synthetic import fill, needed, write_train

from benchmark import cli, words
from benchmark.drawing import gallery, style
from benchmark.drawing import tables as drawing_tables
from benchmark.drawing.shrink import shrink
from benchmark.judging import aggregates
from benchmark.judging.verdicts import judge_claim
from benchmark.records import frames
from benchmark.records.store import Store
from benchmark.report import figures, glyphs, panels, tables
from benchmark.report import page as report
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite
from mbpo.config import InputError

SOME = ("reward-collapse-control", "variance-inflation", "pendulum-ftfl-preserved")


@pytest.fixture(scope="module", autouse=True)
def few_repetitions():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregates, "REPETITIONS", 50)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    few = {task for name in SOME for task in load_ledger().claim(name).tasks[:2]}
    fill(Store(folder / "results", folder / "cache"), claims=SOME, tasks=few)
    return report.build(folder / "results", folder / "cache", "quick").parent


def digests(folder):
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and "runs" not in path.relative_to(folder).parts
    )
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Page(HTMLParser):
    """Collects what the tests ask about, and insists that every element is closed in order."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.loads, self.text = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        if tag == "a":
            self.links.append(values["href"])
        elif tag in ("script", "link", "img", "iframe"):
            self.loads.append((tag, values))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_same_records_give_the_same_bytes(built, tmp_path):
    again = tmp_path / "elsewhere" / "results"
    shutil.copytree(built / "runs", again / "runs")
    report.build(again, tmp_path / "cache", "quick")
    first, second = digests(built), digests(again)
    first.pop("store.json"), second.pop("store.json")
    assert first == second
    assert {f"tables/aggregates{suffix}" for suffix in (".csv", ".md", ".tex")} <= first.keys()
    assert {f"figures/{name}.svg" for name in ("logvar-over-training", "aggregates", "profiles")} <= first.keys()
    assert {"report.html", "report.md", "verdicts.json", "tables/verdicts.csv", "tables/verdicts.md"} <= first.keys()
    assert {"figures/variance-inflation.svg", "figures/manifest.json"} <= first.keys()


def test_the_page_is_whole_and_self_contained(built):
    text = (built / "report.html").read_text()
    page = Page(text)
    assert page.loads == [("script", {})]
    assert not re.search(r"url\((?!#)|@import|src=", text)
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    assert len(page.ids) == len(set(page.ids))
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    assert {claim.id for claim in load_ledger().claims} <= inside
    assert [link for link in page.links if not link.startswith("#") and not (built / link).is_file()] == []


def test_every_reference_inside_a_picture_is_to_itself(built):
    text = (built / "report.html").read_text()
    ids = set(Page(text).ids)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= ids
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= ids


def test_every_claim_and_verdict_is_told(built):
    text = " ".join("".join(Page((built / "report.html").read_text()).text).split())
    markdown = (built / "report.md").read_text()
    for claim in load_ledger().claims:
        assert " ".join(claim.statement.split()).replace("'", "’") in text  # noqa: RUF001
        assert claim.statement in markdown
        assert claim.needs in text
        assert claim.needs or f'-k "{claim.id}["' in text
        assert f"form {claim.form}" in text
    assert "outside the quick protocol; needs 12 runs of the paper protocol" in text
    assert "model.updates" in text
    assert "InvertedPendulum (Gym)" in text


def test_no_trace_of_this_machine_or_of_today(built):
    for name in (
        "report.html",
        "report.md",
        "verdicts.json",
        "figures/variance-inflation.svg",
        "figures/manifest.json",
    ):
        text = (built / name).read_text()
        assert str(built) not in text
        assert not re.search(r"\b20\d\d-\d\d-\d\d\b", text), name


def test_markdown_links_lead_somewhere(built):
    text = (built / "report.md").read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target[1:] in headings if target.startswith("#") else (built / target).is_file(), target


def test_an_empty_store_still_makes_a_page(tmp_path):
    path = report.build(tmp_path / "results", tmp_path / "cache", "quick")
    page = Page(path.read_text())
    assert "There is no record yet" in "".join(page.text)
    # The paper's figure is there whatever ours are.
    assert {path.name for path in (tmp_path / "results" / "figures").iterdir()} == {"headline.svg", "manifest.json"}


def test_an_unknown_protocol_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match=r"unknown protocol 'quik'; did you mean 'quick'\?"):
        report.build(tmp_path / "results", tmp_path / "cache", "quik")
    assert not (tmp_path / "results").exists()


# Pictures


def dots_frame(values):
    rows = [
        ("dmc:hopper-hop", method, seed, value) for method, found in values.items() for seed, value in enumerate(found)
    ]
    return pd.DataFrame(rows, columns=["task", "method", "seed", "value"])


def drawn(axis, method):
    """Positions of the method's dots, in units of the axis."""
    return sorted(
        float(x)
        for line in axis.lines
        if line.get_color() == style.color(method) and line.get_linestyle() == "None"
        for x in line.get_xdata()
    )


def test_every_seed_is_a_dot_where_it_belongs():
    frame = dots_frame({"mbpo": [-180.0, -9.0, 0.0], "ftfl": [0.5, 0.9, np.nan]})
    figure = figures.dots([(frame, figures.R2)], ["dmc:hopper-hop"], ["mbpo", "ftfl"])
    axis = figure.axes[0]
    assert drawn(axis, "mbpo") == pytest.approx([-np.log10(181), -1.0, 0.0])
    assert drawn(axis, "ftfl") == pytest.approx([-np.log10(0.5), 1.0])
    low, high = axis.get_xlim()
    assert low < -np.log10(181) and high > 1.0
    shown = dict(zip(axis.get_xticks(), (label.get_text() for label in axis.get_xticklabels()), strict=True))
    assert shown[0.0] == "0"
    assert axis.get_yticklabels()[0].get_text() == "hopper-hop\nonly 2 of 3 seeds"


def test_predictions_beyond_a_panel_are_marked():
    rows = [
        ("dmc:hopper-hop", "mbpo", seed, b, 0.1 * b, 500.0 if (seed, b) == (0, 4) else 0.1 * b)
        for seed in range(5)
        for b in range(10)
    ]
    frame = pd.DataFrame(rows, columns=["task", "method", "seed", "bin", "true", "predicted"])
    axis = figures.bins(frame, ["dmc:hopper-hop"], ["mbpo"]).axes[0]
    low, high = axis.get_ylim()
    assert high < 2
    up = [line for line in axis.lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in up] == [([5.0], [high])]
    assert not [line for line in axis.lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert low < 0


def test_every_seed_has_its_own_curve():
    rows = [("gym:Hopper-v5", "sac", seed, step, float(seed + step)) for seed in range(5) for step in (0, 10, 20)]
    frame = pd.DataFrame(rows, columns=["task", "method", "seed", "env_steps", "episode_return"])
    axis = figures.curves(frame, ["gym:Hopper-v5"], ["sac"], windows=[(0.5, 1.0)]).axes[0]
    assert [list(line.get_ydata()) for line in axis.lines] == [[s, s + 10, s + 20] for s in range(5)] + [[2, 12, 22]]
    assert [patch.get_x() for patch in axis.patches] == [10.0]


def test_a_picture_for_the_page_takes_its_colors():
    figure = figures.dots([(dots_frame({"mbpo": [0.1, 0.2]}), figures.RATIO)], ["dmc:hopper-hop"], ["mbpo"])
    text = style.svg(figure, "name", "a <description> & more")
    root = ElementTree.fromstring(text)
    assert root.attrib["aria-label"] == "a <description> & more"
    assert "var(--ink)" in text and "var(--rule)" in text
    assert not any(color in text for color in (style.INK, style.RULE, style.SOFT))


def test_methods_keep_their_colors_apart():
    assert len(set(style.COLORS.values())) == len(style.COLORS)
    assert set(load_suite().methods) <= set(style.COLORS)
    assert style.color("a-method-of-yours") in style.SPARE


def test_forest_places_the_interval_against_the_claim(built):
    store = Store(built, built.parent / "cache")
    rows = judge_claim(load_ledger().claim("variance-inflation"), store, load_suite().protocol("quick"))
    scale = glyphs.forest(rows)
    svg = ElementTree.fromstring(scale.row(rows[0].outcome, "teal"))
    zero, line = svg.findall("line")
    shade, dot = svg.find("rect"), svg.find("circle")
    assert (
        float(shade.attrib["x"]) == float(zero.attrib["x1"]) == 75.0
    )  # higher, margin 0: shaded from zero to the right
    assert float(line.attrib["x1"]) < float(dot.attrib["cx"]) < float(line.attrib["x2"])
    assert float(line.attrib["x1"]) > 75.0


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (float("nan"), "\N{EN DASH}"),
        (0.0, "0"),
        (-1.234567, "\N{MINUS SIGN}1.23"),
        (12345.6, "12,346"),
        (0.01234, "0.012"),
        (0.000012, "1.2e\N{MINUS SIGN}05"),
        (-0.0, "0"),
    ],
)
def test_numbers_read_well(value, text):
    assert words.number(value) == text


def test_constants_name_every_departure():
    frame = tables.constants(load_suite(), load_suite().protocol("quick"), {"fit": "dmc:humanoid-run"})
    by = frame.set_index("constant")
    assert by.loc["model.ensemble_size", ["paper", "here"]].tolist() == ["7", "3"]
    assert by.loc["model.ensemble_size", "differs"]
    assert by.loc["model.hidden_dims", "here"] == "4 \N{MULTIPLICATION SIGN} 200"
    assert (frame["source"] != "").all()
    assert not tables.constants(load_suite(), load_suite().protocol("paper"), {"fit": "dmc:humanoid-run"})[
        "differs"
    ].any()


def test_returns_table_agrees_with_the_records(built):
    frame = pd.read_csv(built / "tables" / "returns.csv")
    store = Store(built, built.parent / "cache")
    curves = frames.curves(record for record in store.records() if record.spec.kind == "train")
    mine = curves[curves["method"] == "ftfl"].groupby("seed")["episode_return"].mean()
    row = frame[(frame["method"] == "ftfl") & (frame["window"] == "all of training")].iloc[0]
    assert row["seeds"] == 5
    assert mine.sort_values().iloc[1:4].mean() == pytest.approx(row["iqm"])
    assert row["interval_low"] <= row["iqm"] <= row["interval_high"]


def test_markdown_tables_keep_their_columns():
    text = drawing_tables.markdown(pd.DataFrame({"a_b": ["x|y"], "n": [3]}))
    assert text.splitlines() == ["| a b | n |", "|---|--:|", r"| x\|y | 3 |"]


def test_tables_are_the_same_whatever_the_last_bit_of_a_sum(tmp_path):
    first = pd.DataFrame({"x": [0.1 + 0.2, np.nan, -2e-17], "n": [1, 2, 3], "all": [0.1 + 0.2, "b", None]})
    second = first.assign(x=[0.3, np.nan, -2.0000000000000003e-17], all=[0.3, "b", None])
    for frame, name in ((first, "a"), (second, "b")):
        drawing_tables.write(frame, tmp_path, name)
    text = (tmp_path / "a.csv").read_text()
    assert text == (tmp_path / "b.csv").read_text() == "x,n,all\n0.3,1,0.3\n,2,b\n-2e-17,3,\n"


# Up to date or not


def test_a_stale_page_is_told_and_left_alone(tmp_path, capsys, monkeypatch):
    folder, cache = tmp_path / "results", tmp_path / "cache"
    fill(Store(folder, cache), claims=("reward-collapse-control",))
    (folder / "precision" / "another-machine" / "runs").mkdir(parents=True)  # records of its own: none of the pages'
    report.build(folder, cache, "quick")
    given = ["report", "--check", "--results", str(folder), "--cache", str(cache)]
    before = digests(folder)
    with monkeypatch.context() as patch:
        patch.setattr(style, "save", None)  # nothing has moved, so nothing is drawn
        assert cli.main(given) == 0
    assert digests(folder) == before

    def stale():
        capsys.readouterr()
        code = cli.main([*given, "--json"])
        names = json.loads(capsys.readouterr().out)["stale"]
        assert code == (1 if names else 0)
        return names

    figure, left = (folder / "figures" / f"{name}.svg" for name in ("reward-collapse-control", "claim-of-last-year"))
    text = figure.read_text()
    (folder / "tables" / "methods.tex").write_text("old")
    figure.write_text(text.replace("<svg", "<svg edited", 1))
    left.write_text("left over")
    page = folder / "report.html"
    page.write_text(page.read_text().replace('<svg role="img"', '<svg edited role="img"', 1))
    spoilt = [
        "figures/claim-of-last-year.svg",
        "figures/reward-collapse-control.svg",
        "report.html",
        "tables/methods.tex",
    ]
    assert stale() == spoilt
    left.unlink()
    report.build(folder, cache, "quick")
    assert figure.read_text() == text and digests(folder) == before
    with monkeypatch.context() as patch:  # another drawing function: its file is one of the sources
        patch.setattr(gallery, "_surroundings", lambda: "edited")
        patch.setattr(figures, "_label", lambda task, frame: "another label")
        assert {"figures/reward-collapse-control.svg", "report.html"} <= set(stale())
    fill(Store(folder, cache), claims=("pendulum-mbpo-beats-sac",))
    assert "figures/pendulum-mbpo-beats-sac.svg" in stale()


def test_latex_tables_escape_what_tex_would_read():
    frame = pd.DataFrame({"a_b": ["50 % of x_y", "~"], "n": [-1.5, 2000.0]})
    lines = drawing_tables.latex(frame).splitlines()
    assert lines[0] == r"\begin{tabular}{lr}" and lines[-1] == r"\end{tabular}"
    assert lines[2] == r"a b & n \\"
    assert lines[4] == r"50 \% of x\_y & $-$1.5 \\"
    assert lines[5] == r"\textasciitilde{} & 2,000 \\"


# All tasks together


def curves_of(finals, seeds=5):
    rows = [
        (task, method, seed, step, (value + 10 * seed) * step / 10)
        for (task, method), value in finals.items()
        for seed in range(seeds)
        for step in range(11)
    ]
    return pd.DataFrame(rows, columns=["task", "method", "seed", "env_steps", "episode_return"])


def test_aggregates_are_of_normalized_returns_on_shared_tasks():
    finals = {("dmc:hopper-hop", m): v for m, v in (("sac", 100.0), ("ftfl", 500.0))}
    finals |= {("dmc:hopper-stand", m): v for m, v in (("sac", 200.0), ("ftfl", 600.0))}
    finals |= {("dmc:humanoid-run", "sac"): 900.0, ("gym:Hopper-v5", "mbpo"): 2562.0}
    found = aggregates.matrices(curves_of(finals), load_suite())
    assert {suite: {m: s.shape for m, s in made.items()} for suite, made in found.items()} == {
        "dmc": {"sac": (5, 2), "ftfl": (5, 2)},
        "gym": {"mbpo": (5, 1)},
    }
    last = (100.0 + 20) * 0.9  # seed 2, mean over the last fifth
    assert found["dmc"]["sac"][2, 0] == pytest.approx(load_suite().task("dmc:hopper-hop").normalize(last))
    improved = aggregates.improvements(found).iloc[0]
    assert (improved["method"], improved["over"], improved["probability"]) == ("ftfl", "sac", 1.0)
    shares = aggregates.profiles(found)
    assert shares[shares["score"] == 0]["share"].min() == 1.0
    table = aggregates.intervals(found).set_index(["suite", "method", "aggregate"])
    assert table.loc[("dmc", "ftfl", "iqm"), "estimate"] == pytest.approx(
        np.sort(found["dmc"]["ftfl"].ravel())[2:8].mean(), rel=0.02
    )


def test_numpys_global_generator_is_left_as_it_was():
    np.random.seed(7)
    expected = np.random.RandomState(7).rand(3)
    found = {"dmc": {"sac": np.random.RandomState(0).rand(5, 2), "ftfl": np.random.RandomState(1).rand(5, 2)}}
    first = [frame(found) for frame in (aggregates.profiles, aggregates.improvements, aggregates.intervals)]
    assert np.random.rand(3).tolist() == expected.tolist()
    for mine, frame in zip(first, (aggregates.profiles, aggregates.improvements, aggregates.intervals), strict=True):
        pd.testing.assert_frame_equal(mine, frame(found))


def test_published_scores_stand_beside_ours_in_both_counts():
    frame = tables.beside(curves_of({("dmc:hopper-hop", "sac"): 100.0}), "quick")
    here = frame[(frame["task"] == "dmc:hopper-hop") & (frame["method"] == "sac")]
    assert here["whose"].iloc[0] == "ours" and set(here["whose"]) == {"ours", "published"}
    ours = here.iloc[0]
    assert (ours["agent_steps"], ours["frames"], ours["seeds"]) == (10, 10, 5)
    theirs = here[(here["whose"] == "published") & here["frames"].notna()]
    assert set(theirs["frames"]) == {500_000} and set(theirs["agent_steps"]) == {250_000}


def test_the_sweep_is_drawn_from_nought_to_ninety_five():
    rows = [
        ("dmc:hopper-hop", share, m, s, 10.0 - share)
        for share, m in ((0.0, "sac-utd20"), (0.5, "mbpo-ratio-50"), (0.95, "mbpo"))
        for s in range(5)
    ]
    frame = pd.DataFrame(rows, columns=["task", "share", "method", "seed", "value"])
    axis = panels.sweep(frame, ["dmc:hopper-hop"]).axes[0]
    assert list(axis.lines[0].get_xdata()) == [0.0, 50.0, 95.0]
    assert [len(line.get_xdata()) for line in axis.lines[1:]] == [5, 5, 5]


def test_an_arm_without_some_observations_is_paler():
    assert style.color("ftfl without touch") not in (style.color("ftfl"), style.color("sac without touch"))


def test_a_filled_paper_protocol_draws_every_figure(tmp_path):
    folder = tmp_path / "results"
    tasks = {"dmc:hopper-stand", "dmc:humanoid-stand"}
    store = Store(folder, tmp_path / "cache")
    chosen = ("synthetic-share-half", "synthetic-share-amplifies", "hopper-stand-without-touch", "critic-cure")
    for spec in needed(load_suite().protocol("paper"), chosen):
        if spec.task in tasks and spec.seed < 5:
            write_train(store, spec, [100.0 + spec.seed] * 11, {"critic_bias": -1.0 * spec.seed})
    drawn = report.build(folder, tmp_path / "cache", "paper").parent / "figures"
    names = {path.stem for path in drawn.glob("*.svg")}
    assert {"ratio-sweep", "hopper-stand-without-touch", "critic-cure", "aggregates", "improvement"} <= names
    assert "ftfl without touch" in (drawn / "hopper-stand-without-touch.svg").read_text()
    assert "critic less soft return" in (drawn / "critic-cure.svg").read_text()


def test_a_saved_figure_is_on_the_page_what_it_would_be_drawn_anew(tmp_path: Path):
    frame = dots_frame({"mbpo": [0.1, 0.2]})
    draw = partial(figures.dots, [(frame, figures.RATIO)], ["dmc:hopper-hop"], ["mbpo"])
    saved, buffer = draw(), io.StringIO()
    style.save(saved, tmp_path, "name")
    with mpl.rc_context(style.STYLE):
        draw().savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    whole = style._SAVED[saved]
    assert (tmp_path / "name.svg").read_text() == shrink(whole)
    assert whole.count("#ffffff") == 1 and style._PAPER.search(whole)
    plain = style._PAPER.sub(r'\1L \2 \nz\n" style="fill: none"/>', whole)
    assert plain == buffer.getvalue()
    assert style.svg(saved, "name", "words") == style.svg(draw(), "name", "words")
