"""Writes a study's tables and pictures, and gives its sentences, from the available records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import pandas as pd
from matplotlib.figure import Figure

from benchmark.drawing import style, tables
from benchmark.drawing.gallery import Drawn, Gallery
from benchmark.records.store import Record, Store
from benchmark.suite.studies import Study, load_studies, specs_of

KEPT = ("laboratory", "advice")
"""Studies that need no records: they keep what they measured under results/studies themselves."""


class Renderer(Protocol):
    """The functions of the module `study` in a study's folder."""

    def tables(self, records: Sequence[Record]) -> dict[str, pd.DataFrame]:
        """Tidy tables by file name."""

    def figures(self, tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
        """Pictures by file name."""

    def sentences(self, tables: Mapping[str, pd.DataFrame]) -> list[str]:
        """The tables in sentences."""


@dataclass(frozen=True)
class Shown:
    """A study as the report shows it."""

    study: Study
    present: int
    wanted: int
    sentences: tuple[str, ...]
    figures: dict[str, Drawn]
    tables: tuple[str, ...]


def render(study: Study, store: Store, gallery: Gallery) -> Shown | None:
    """Write ``studies/<study>/*.{csv,svg}`` in the folder of `gallery`; None if no run of the study has a record."""
    wanted = specs_of(study)
    records = [store.read(spec) for spec in wanted if store.has(spec)]
    if not records:
        return None
    renderer = cast(Renderer, import_module(f"benchmark.studies.{study.id}.study"))
    frames = renderer.tables(records)
    for name, frame in frames.items():
        tables.write_csv(frame, gallery.folder / "studies" / study.id, name)
    pictures = _draw(gallery, study.id, frames, lambda: renderer.figures(frames))
    return Shown(study, len(records), len(wanted), tuple(renderer.sentences(frames)), pictures, tuple(frames))


def _draw(gallery: Gallery, study: str, inputs: object, draw: Callable[[], Mapping[str, Figure]]) -> dict[str, Drawn]:
    def make(folder: Path) -> dict[str, Drawn]:
        made = draw()
        for name, figure in made.items():
            style.save(figure, folder, name)
        return {name: _drawn(figure, f"{study}-{name}") for name, figure in made.items()}

    return gallery.draw(f"studies/{study}", study, inputs, make)


def _drawn(figure: Figure, name: str) -> Drawn:
    caption = str(figure.get_label())
    return Drawn(caption, (style.svg(figure, name, caption),))


def render_all(store: Store, gallery: Gallery) -> list[Shown]:
    """Every study that has records, in the order of the page."""
    shown = [render(study, store, gallery) for study in load_studies().values()]
    return [study for study in (*shown, *(kept(name, gallery) for name in KEPT)) if study is not None]


def kept(name: str, gallery: Gallery) -> Shown | None:
    """A study that needs no records, from the curves that it keeps in the results; None where it was not run."""
    module = import_module(f"benchmark.studies.{name}.study")
    found = module.shown(gallery.folder / "studies")
    if found is None:
        return None
    pictures = _draw(gallery, name, found["figures"], found["figures"])
    study = Study.model_construct(id=name, title=module.TITLE, text=module.TEXT, runs=())
    runs = found["runs"]
    return Shown(study, runs, runs, tuple(found["sentences"]), pictures, found["tables"])
