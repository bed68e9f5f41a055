"""What a user sees of finished runs: the lines after `run`, plots, played episodes, films, pages and exports."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pandas as pd
import pytest
from gymnasium import spaces
from PIL import Image

from benchmark import cli
from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from benchmark.running import ensure, outcome
from benchmark.viewing import curves, episodes, runs
from mbpo import InputError
from mbpo.config import Budget, Method, SacConfig
from mbpo.policies import load_policy


class Paid(gymnasium.Env):
    """Pays 1 a step for 4 steps, whatever is done; draws a square whose grey is the step."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float64)
        self.action_space = spaces.Box(-2.0, 2.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_number = 0
        return self.np_random.uniform(-1.0, 1.0, 2), {}

    def step(self, action):
        self.step_number += 1
        return np.full(2, self.step_number / 9), 1.0, self.step_number == 4, False, {}

    def render(self):
        return np.full((16, 16, 3), 40 * self.step_number, np.uint8)


gymnasium.register("ViewingPaid-v0", Paid, max_episode_steps=20)
PAID = "gym:ViewingPaid-v0"


def spec(seed: int = 0, steps: int = 20, method: str = "sac", **constants: object) -> RunSpec:
    given = Method(model=None, utd=1, random_steps=9, sac=SacConfig(hidden_dims=(4,), batch_size=4), **constants)
    budget = Budget(env_steps=steps, eval_every=10, eval_episodes=2)
    return RunSpec(kind="train", task=PAID, method=method, seed=seed, constants=given, budget=budget)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    place = tmp_path_factory.mktemp("viewing")
    store = Store(place / "results", place / "cache")
    ensure.ensure([spec(0), spec(1), spec(0, real_capacity=50), spec(0, 10)], store, device="cpu")
    return store


@pytest.fixture
def options(store: Store) -> list[str]:
    return ["--results", str(store.results), "--cache", str(store.cache)]


def test_the_lines_after_a_run_say_returns_files_and_what_is_next(store: Store) -> None:
    told = outcome.lines([spec(0), spec(1)], store, (Path("results"), Path(".cache")))
    assert told[0].split() == ["task", "arm", "measure", "mean", "by", "seed"]
    assert told[1].split() == [PAID, "sac", "final", "return", "4", "seed", "0:", "4,", "seed", "1:", "4"]
    folders = f"--results {store.results} --cache {store.cache}"
    assert told[3] == f"records   {store.runs / spec(0).slug / 'sac' / spec(0).key} and 1 more"
    assert told[4].startswith(f"policies  {store.cache / 'policies' / spec(0).key} (2 of these runs, ")
    assert told[5:] == [
        f"next      python -m benchmark plot {PAID} {folders}",
        f"          python -m benchmark play {spec(0).key} {folders}",
    ]
    plain = outcome.lines([spec(0)], store, (store.results, store.cache))
    assert plain[-2:] == [
        f"next      python -m benchmark plot {PAID}",
        f"          python -m benchmark play {spec(0).key}",
    ]


def test_every_command_that_the_lines_name_runs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    told = outcome.lines([spec(0)], store, (Path("results"), Path(".cache")))
    commands = [line.partition("python -m benchmark ")[2].split() for line in told if "python -m" in line]
    assert [command[0] for command in commands] == ["plot", "play"]
    assert [cli.main(command) for command in commands] == [0, 0], capsys.readouterr().err


def test_play_prints_the_return_of_every_episode(
    store: Store, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["play", spec(1).key[:8], "--episodes", "2", "--seed", "7", *options]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"sac on {PAID}, seed 1, after 20 env steps",
        "episode 7: return 4 in 4 steps, terminated",
        "episode 8: return 4 in 4 steps, terminated",
        "mean 4, from 4 to 4",
    ]
    assert (
        cli.main(["play", spec(1).key, "--episodes", "1", "--stochastic", "--which", "best", "--json", *options]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["mean"], found["episodes"][0]["steps"], found["policy"]["window_mean"]) == (4.0, 4, 4.0)


def test_a_film_has_a_picture_of_every_step(store: Store, options: list[str], tmp_path: Path) -> None:
    film = tmp_path / "film.gif"
    assert cli.main(["play", spec(0).key, "--episodes", "2", "--video", str(film), *options]) == 0
    with Image.open(film) as image:
        greys = []
        for frame in range(image.n_frames):
            image.seek(frame)
            greys.append(image.convert("L").getpixel((3, 3)))
        assert greys == [0, 40, 80, 120, 160] * 2 and image.info["duration"] == 100


def test_what_cannot_be_filmed_is_one_sentence(
    store: Store,
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = ["play", spec(0).key, "--episodes", "1", *options]
    for film, words in ((tmp_path / "a.avi", "ends in .gif or .mp4"), (tmp_path / "no" / "a.gif", "does not exist")):
        assert cli.main([*base, "--video", str(film)]) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs imageio-ffmpeg"):
        episodes.check_film(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="it has no render mode 'rgb_array', so leave out --video"):
        episodes.drawn("gym:benchmark.toys:LQR-v0")
    assert episodes.drawn(f"{PAID}?max_episode_steps=3").endswith("?max_episode_steps=3&render_mode=rgb_array")
    policy = load_policy(spec(0).key, folders=[store.cache / "policies"])
    monkeypatch.setattr(Paid, "render", lambda self: (_ for _ in ()).throw(RuntimeError("no display\n here")))
    with pytest.raises(InputError, match=r"cannot be drawn on this machine \(no display here\); set MUJOCO_GL"):
        monkeypatch.setattr(episodes, "check_film", lambda film: None)
        episodes.play(policy, range(1), film=tmp_path / "b.gif")


def test_a_run_whose_policy_was_not_kept_names_the_way_out(
    store: Store, options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    elsewhere = ["--results", str(store.results), "--cache", str(tmp_path)]
    assert cli.main(["play", spec(0).key, *elsewhere]) == 2
    way_out = f"was not kept; python -m benchmark play {spec(0).key} --again trains it once more"
    assert way_out in capsys.readouterr().err
    assert cli.main(["play", spec(0).key, "--again", "--episodes", "1", *elsewhere]) == 0
    assert "mean 4, from 4 to 4" in capsys.readouterr().out
    assert cli.main(["play", "ffffffff", *elsewhere]) == 2
    assert "is neither a file nor the key of a run" in capsys.readouterr().err


def test_runs_of_one_length_and_one_set_of_constants_are_one_arm(store: Store) -> None:
    chosen = runs.of_task(store, PAID)
    assert {arm: [s.key for s in group] for arm, group in chosen.arms.items()} == {
        "sac": [spec(0).key, spec(1).key],
        "sac, real capacity 50": [spec(0, real_capacity=50).key],
    }
    assert chosen.note == (
        "shown are runs of 20 env steps in fp32; 1 run of another length, evaluation or precision left out "
        "(--steps is one of 10, 20)"
    )
    assert [s.key for s in runs.of_task(store, PAID, steps=10).runs] == [spec(0, 10).key]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"task": "gym:ViewingPaid-v1"}, "did you mean 'gym:ViewingPaid-v0'"),
        ({"task": PAID, "methods": ["sak"]}, "no online run of 'sak' .* did you mean 'sac'"),
        ({"task": PAID, "steps": 30}, r"no run of .* is so long; lengths and their runs: 10 \(1\), 20 \(3\)"),
    ],
)
def test_runs_that_are_not_there_are_refused(store: Store, asked: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        runs.of_task(store, **asked)


def test_plot_writes_a_picture_for_ones_own_task(
    store: Store, options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["plot", PAID, *options]) == 0
    out, err = capsys.readouterr()
    path = store.results / "tasks" / spec(0).slug / "curves.png"
    assert out.splitlines() == [
        "sac: 4 in the last fifth of training, 2 seeds, from 4 to 4",
        "sac, real capacity 50: 4 in the last fifth of training, 1 seed, from 4 to 4",
        str(path),
    ]
    assert "left out" in err and Image.open(path).size[0] > 600
    assert cli.main(["plot", PAID, "--measure", "temperature", "--out", str(tmp_path / "t.svg"), *options]) == 0
    assert (tmp_path / "t.svg").read_text().count("<path") > 3
    assert cli.main(["plot", PAID, "--measure", "temperatur", *options]) == 2
    assert "did you mean 'temperature'" in capsys.readouterr().err


def test_the_drawn_mean_is_the_mean_over_seeds() -> None:
    rows = [("sac", seed, step, value) for seed in (0, 1) for step, value in ((0, seed), (10, 4.0 * seed))]
    figure = curves.draw(pd.DataFrame(rows, columns=["arm", "seed", "env_steps", "value"]), PAID)
    lines = figure.axes[0].get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [[0, 0], [1, 4], [0.5, 2]]


def test_report_and_export_know_ones_own_task(
    store: Store, options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["report", "--task", PAID, *options]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == store.results / "tasks" / spec(0).slug / "README.md"
    text = page.read_text()
    assert f"# {PAID}" in text and "| sac | 2 | 4 | 4 | 4 |" in text and str(store.results.parent) not in text
    assert pd.read_csv(page.parent / "returns.csv")["mean"].tolist() == [4.0, 4.0]
    assert cli.main(["export", str(tmp_path / "runs.csv"), "--task", PAID, *options]) == 0
    assert capsys.readouterr().out == f"3 runs in {tmp_path / 'runs.csv'}\n"
    frame = pd.read_csv(tmp_path / "runs.csv")
    assert list(frame.columns) == ["suite", "task", "method", "seed", "env_steps", "return"]
    assert (
        len(frame) == 9 and set(frame["return"]) == {4.0} and set(frame["method"]) == {"sac", "sac, real capacity 50"}
    )
    assert cli.main(["export", str(tmp_path / "runs.txt"), "--task", PAID, *options]) == 2


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    import mbpo

    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"free-lunch-forensics {mbpo.__version__}\n"


def test_two_arms_are_held_against_one_another(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = Store(tmp_path / "results", tmp_path / "cache")
    tables = pd.DataFrame({"step": [0], "measure": ["q_mean"], "dim": [-1], "value": [0.0]})
    provenance = {"engine": "e0", "device": "cpu", "versions": {}, "means": "torch"}
    for method, level in (("sac", 0.0), ("ftfl", 10.0)):
        for seed in range(5 if method == "sac" else 6):  # a seed that one arm alone has does not count
            run = spec(seed, method=method, real_capacity=60 + int(level))
            steps = [0, 10, 20]
            values = [0.0, *[level + seed if seed < 5 else -1e6] * 2]
            curve = pd.DataFrame({"env_steps": steps, "episode": 0, "episode_return": values, "length": 4})
            store.write(run, curve, tables, provenance)
    base = ["compare", PAID, "--arm", "ftfl", "--against", "sac", "--results", str(store.results)]
    assert cli.main([*base, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    # Five seeds above five others: the least exact p of a rank test is 1 in C(10, 5) = 252.
    assert (found["verdict"], found["effect"], found["n"]) == ("reproduced", 10.0, 5)
    assert found["p"] == pytest.approx(1 / 252, rel=1e-4)
    assert cli.main(base) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"reproduced: ftfl is higher than sac on {PAID}" and out[-1].startswith("stated after the runs")
    assert cli.main([*base, "--lower"]) == 0
    assert capsys.readouterr().out.startswith("contradicted: ftfl is lower than sac")
    assert cli.main([*base, "--measure", "q_mena"]) == 2
    assert "did you mean 'q_mean'" in capsys.readouterr().err
