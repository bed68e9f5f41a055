"""Studies: the page is checked, its runs are specs like any other, and what is written comes from the records there."""

import json

import pandas as pd
import pytest
from matplotlib.figure import Figure
from synthetic import write_fit

from benchmark import cli
from benchmark.drawing.gallery import Gallery
from benchmark.records.store import Store
from benchmark.studies import show
from benchmark.suite import studies
from benchmark.suite.load import SUITE
from benchmark.suite.studies import Study, load_studies, specs_of
from mbpo.config import InputError

PAGE = """
tiny:
  title: A title
  text: A text.
  runs:
    - {kind: fit, protocol: quick, tasks: hopper, methods: [mbpo, ftfl], seeds: 2}
    - {kind: fit, protocol: replay, source: replay, tasks: ["dmc:hopper-hop"], methods: [mbpo], seeds: 2}
    - {kind: fit, protocol: quick, tasks: hopper, methods: [mbpo], seeds: 2, precisions: [fp32, bf16]}
"""


@pytest.fixture
def pages(tmp_path):
    for page in SUITE.glob("*.yaml"):
        (tmp_path / page.name).write_text(page.read_text())
    (tmp_path / "studies.yaml").write_text(PAGE)
    return tmp_path


def test_the_suites_own_studies_are_sound_and_have_renderers():
    for study in load_studies().values():
        assert specs_of(study)
        module = __import__(f"benchmark.studies.{study.id}.study", fromlist=["tables"])
        assert all(callable(getattr(module, name)) for name in ("tables", "figures", "sentences"))


def test_runs_of_a_study_by_hand(pages):
    study = load_studies(pages)["tiny"]
    specs = specs_of(study)
    expected = [
        (s.task.removeprefix("dmc:hopper-"), s.method, s.seed, s.source_run is not None, s.precision) for s in specs
    ]
    both = [
        (task, method, seed, False, "fp32")
        for task in ("stand", "hop")
        for method in ("mbpo", "ftfl")
        for seed in (0, 1)
    ]
    replays = [("hop", "mbpo", seed, True, "fp32") for seed in (0, 1)]
    half = [(task, "mbpo", seed, False, "bf16") for task in ("stand", "hop") for seed in (0, 1)]
    assert expected == both + replays + half  # equal runs once


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tasks: hopper,", "tasks: hoper,", "tiny.runs.tasks = 'hoper': .*'hopper'"),
        ("methods: [mbpo, ftfl]", "methods: [mbpo, ftlf]", "unknown method 'ftlf'; .*'ftfl'"),
        ("protocol: replay,", "protocol: quick,", "protocol 'quick' has no `replay` plan"),
        ("seeds: 2", "seed: 2", "unknown field 'seed'; .*'seeds'"),
        ("  runs:", "  runs: 3\n  more:", "a mapping with title, text and a list of runs"),
        ("  title: A title\n", "", "title"),
    ],
)
def test_a_bad_page_is_told_in_one_sentence(pages, old, new, message):
    (pages / "studies.yaml").write_text(PAGE.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_studies(pages)


class Renderer:
    """Counts records by method."""

    @staticmethod
    def tables(records):
        return {
            "counts": pd.Series([r.spec.method for r in records]).value_counts().rename_axis("method").reset_index()
        }

    @staticmethod
    def figures(tables):
        figure = Figure(figsize=(1, 1), label="A caption")
        return {"dots": figure}

    @staticmethod
    def sentences(tables):
        return [f"{row.method}: {row.count}" for row in tables["counts"].itertuples(index=False)]


@pytest.fixture
def tiny(monkeypatch):
    study = Study(
        id="tiny",
        title="T",
        text="X",
        runs=[
            {"kind": "fit", "protocol": "quick", "tasks": ["dmc:hopper-hop"], "methods": ["mbpo", "ftfl"], "seeds": 2}
        ],
    )
    monkeypatch.setattr(show, "import_module", lambda name: Renderer)
    monkeypatch.setattr(studies, "load_studies", lambda: {"tiny": study})
    return study


def test_a_study_shows_the_records_that_are_there(tiny, tmp_path):
    store = Store(tmp_path / "results", tmp_path / "cache")
    assert show.render(tiny, store, Gallery(tmp_path)) is None
    assert not (tmp_path / "studies").exists()
    for spec in specs_of(tiny)[:3]:
        write_fit(store, spec, {"reward_r2": 0.5})
    shown = show.render(tiny, store, Gallery(tmp_path))
    assert (shown.present, shown.wanted) == (3, 4)
    assert shown.sentences == ("mbpo: 2", "ftfl: 1")
    assert pd.read_csv(tmp_path / "studies/tiny/counts.csv").to_dict("list") == {
        "method": ["mbpo", "ftfl"],
        "count": [2, 1],
    }
    assert {p.suffix for p in (tmp_path / "studies/tiny").glob("dots.*")} == {".svg"}


def test_the_command_shows_without_training(tiny, tmp_path, capsys):
    folders = ["--results", str(tmp_path / "results"), "--cache", str(tmp_path / "cache")]
    assert cli.main(["study", "tiny", "--no-train", *folders]) == 0
    assert "no run of tiny has a record" in capsys.readouterr().out
    store = Store(tmp_path / "results", tmp_path / "cache")
    for spec in specs_of(tiny):
        write_fit(store, spec, {"reward_r2": 0.5})
    assert cli.main(["study", "tiny", "--json", *folders]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["found"] == {"runs": 4, "wanted": 4, "sentences": ["mbpo: 2", "ftfl: 2"]}
    assert cli.main(["study", "tyni", *folders]) == 2
    assert "unknown study 'tyni'; did you mean 'tiny'" in capsys.readouterr().err
