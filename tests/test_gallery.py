"""Figures are taken over only where nothing that decides them has moved; all else is drawn again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from benchmark.drawing import gallery
from benchmark.drawing.gallery import Drawn, Gallery
from benchmark.report import panels

FRAME = pd.DataFrame({"task": ["a", "b"], "seed": [0, 1], "value": [0.5, np.nan], "n": pd.array([1, None], "Int64")})


class Scene:
    """A results folder with one figure, of which `report` makes a report."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.drawn = folder, 0

    def report(self, inputs: object = FRAME, folder: Path | None = None) -> str:
        made = Gallery(folder or self.folder, self.folder)
        element = made.draw("figures", "one", inputs, self._make)["one"].elements[0]
        (made.folder / "report.html").write_text(f"<p>{element}</p>")
        made.write()
        return element

    def _make(self, folder: Path) -> dict[str, Drawn]:
        self.drawn += 1
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "one.svg").write_text("<svg>file</svg>")
        return {"one": Drawn("words", ('<svg role="img" id="one">\n<g/></svg>',))}

    @property
    def figure(self) -> Path:
        return self.folder / "figures" / "one.svg"

    @property
    def manifest(self) -> Path:
        return self.folder / "figures" / "manifest.json"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    (tmp_path / "results").mkdir()
    scene = Scene(tmp_path / "results")
    scene.report()
    return scene


def test_what_did_not_move_is_taken_over_to_the_byte(scene: Scene, tmp_path: Path) -> None:
    files = {path: path.read_bytes() for path in scene.folder.rglob("*") if path.is_file()}
    element = scene.report(FRAME.copy())
    assert scene.drawn == 1 and element == '<svg role="img" id="one">\n<g/></svg>'
    assert {path: path.read_bytes() for path in files} == files
    other = tmp_path / "other"
    other.mkdir()
    scene.report(folder=other)
    assert scene.drawn == 1
    assert {path.relative_to(other) for path in other.rglob("*") if path.is_file()} == {
        path.relative_to(scene.folder) for path in files
    }
    assert (other / "figures" / "one.svg").read_bytes() == files[scene.figure]


def test_a_group_keeps_its_order(scene: Scene) -> None:
    def make(folder: Path) -> dict[str, Drawn]:
        for name in "zay":
            (folder / f"{name}.svg").write_text(name)
        return {name: Drawn(name, ('<svg role="img" id="one">\n<g/></svg>',)) for name in "zay"}

    for _ in range(2):
        made = Gallery(scene.folder)
        assert list(made.draw("figures", "group", FRAME, make)) == list("zay")
        made.write()
        make = None  # type: ignore[assignment]


CHANGED: dict[str, Callable[[], object]] = {
    "a number": lambda: FRAME.assign(value=[0.5, 0.0]),
    "the last bit": lambda: FRAME.assign(value=[np.nextafter(0.5, 1), np.nan]),
    "a word": lambda: FRAME.assign(task=["a", "c"]),
    "a type": lambda: FRAME.assign(seed=[0.0, 1.0]),
    "a column's name": lambda: FRAME.rename(columns={"n": "m"}),
    "the order": lambda: FRAME.iloc[::-1],
    "a row": lambda: FRAME.iloc[:1],
    "a missing number": lambda: FRAME.assign(n=pd.array([1, 2], "Int64")),
}


@pytest.mark.parametrize("change", CHANGED)
def test_other_numbers_are_drawn(scene: Scene, change: str) -> None:
    scene.report(CHANGED[change]())
    assert scene.drawn == 2


def test_another_edited_or_lost_file_is_drawn_again(scene: Scene) -> None:
    before = scene.figure.read_bytes()
    page = scene.folder / "report.html"
    for count, spoil in enumerate(
        [
            lambda: scene.figure.write_text("<svg>edited</svg>"),
            scene.figure.unlink,
            lambda: page.write_text(page.read_text().replace("<g/>", "<g>edited</g>")),
            page.unlink,
            lambda: scene.manifest.write_text("{}"),
            lambda: scene.manifest.write_text("no JSON"),
            lambda: scene.manifest.write_text(json.dumps({"figures/one": {"figures": {"one": {}}}})),
            scene.manifest.unlink,
        ],
        start=2,
    ):
        spoil()
        scene.report()
        assert scene.drawn == count and scene.figure.read_bytes() == before


@pytest.fixture
def fresh_surroundings() -> Any:
    gallery._surroundings.cache_clear()
    yield gallery._surroundings.cache_clear
    gallery._surroundings.cache_clear()


def test_other_code_libraries_or_settings_are_drawn_again(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_surroundings: Callable[[], None]
) -> None:
    source = tmp_path / "code" / "report" / "figures.py"
    source.parent.mkdir(parents=True)
    source.write_text("WIDTH = 1\n")
    monkeypatch.setattr(gallery, "SOURCES", tmp_path / "code")
    fresh_surroundings()
    scene.report()
    fresh_surroundings()
    scene.report()
    assert scene.drawn == 2
    source.write_text("WIDTH = 2\n")
    fresh_surroundings()
    scene.report()
    assert scene.drawn == 3
    monkeypatch.setattr(gallery, "version", lambda name: "another")
    fresh_surroundings()
    scene.report()
    assert scene.drawn == 4
    with mpl.rc_context({"lines.linewidth": 7}):
        fresh_surroundings()
        scene.report()
    assert scene.drawn == 5


def test_functions_count_by_their_code_and_what_they_hold(scene: Scene) -> None:
    def drawing(frame: object, factor: float = 1.0, shift: int = 0) -> Callable[[float], object]:
        return lambda width: (frame, width * factor, shift)

    def other(frame: object) -> Callable[[float], object]:
        return lambda width: (frame, width / 1.0, 0)

    held = [
        drawing(FRAME),
        drawing(FRAME.iloc[:1]),
        drawing(FRAME, 2.0),
        other(FRAME),
        partial(drawing, FRAME),
        "{:g}".format,
    ]
    keys = [gallery._key(value) for value in held]
    assert None not in keys and len(set(keys)) == len(keys)
    assert keys == [gallery._key(value) for value in (drawing(FRAME.copy()), *held[1:])]


def test_what_cannot_be_told_apart_is_always_drawn(scene: Scene) -> None:
    for count in (2, 3):
        scene.report(object())
        assert scene.drawn == count


@contextmanager
def setting(size: int) -> Iterator[None]:
    """Something that holds while a figure is drawn."""
    yield


def test_a_decorator_of_a_drawing_function_is_told_by_its_arguments() -> None:
    def drawn(size: int) -> Callable[[], None]:
        @setting(size)
        def draw() -> None: ...

        return draw

    small = gallery._key(drawn(1))
    assert small is not None and small == gallery._key(drawn(1)) != gallery._key(drawn(2))


@pytest.mark.parametrize("draw", [panels.intervals, panels.profiles, panels.improvements])
def test_the_figures_of_all_tasks_together_can_be_told_apart(draw: Callable[..., Any]) -> None:
    assert gallery._key(draw) is not None
