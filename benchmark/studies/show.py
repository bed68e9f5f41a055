"""Writes a study's tables and pictures, and gives its sentences, from the available records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import pandas as pd
from matplotlib.figure import Figure

from benchmark.drawing import style, tables
from benchmark.records.store import Record, Store
from benchmark.suite.studies import Study, load_studies, specs_of


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
    figures: dict[str, Figure]
    tables: tuple[str, ...]


def render(study: Study, store: Store, folder: Path) -> Shown | None:
    """Write ``folder/<study>/*.{csv,png,svg}``; None if no run of the study has a record.

    `folder` is ``results/studies``.
    """
    wanted = specs_of(study)
    records = [store.read(spec) for spec in wanted if store.has(spec)]
    if not records:
        return None
    renderer = cast(Renderer, import_module(f"benchmark.studies.{study.id}.study"))
    frames = renderer.tables(records)
    study_folder = folder / study.id
    for name, frame in frames.items():
        tables.write_csv(frame, study_folder, name)
    pictures = renderer.figures(frames)
    for name, figure in pictures.items():
        style.save(figure, study_folder, name)
    return Shown(study, len(records), len(wanted), tuple(renderer.sentences(frames)), pictures, tuple(frames))


def render_all(store: Store, results: Path) -> list[Shown]:
    """Every study that has records, in the order of the page."""
    shown = [render(study, store, results / "studies") for study in load_studies().values()]
    return [study for study in (*shown, laboratory(results / "studies")) if study is not None]


def laboratory(folder: Path) -> Shown | None:
    """The study that needs no records, from the curve that it keeps under `folder`; None where it was not run."""
    kept = import_module("benchmark.studies.laboratory.study")
    found = kept.shown(folder)
    if found is None:
        return None
    study = Study.model_construct(id=kept.NAME, title=kept.TITLE, text=kept.TEXT, runs=())
    runs = found["runs"]
    return Shown(study, runs, runs, tuple(found["sentences"]), found["figures"], found["tables"])
