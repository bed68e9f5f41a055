"""Packed records read as loose ones, unpack to the same bytes, and are never lost or silently damaged."""

from __future__ import annotations

import io
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from test_store import curve, diagnostics, spec

from benchmark.records import pack as packing
from benchmark.records import packed, parquet
from benchmark.records.pack import pack, unpack
from benchmark.records.spec import RunSpec
from benchmark.records.store import Store
from mbpo.config import InputError


def record_of(store: Store, run: RunSpec, shift: float = 0.0) -> None:
    frame = curve()
    frame["episode_return"] += shift
    store.write(run, frame, diagnostics(), {"commit": "abc"})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "results", tmp_path / "cache")
    for seed in range(3):
        record_of(made, spec(seed=seed))
    return made


def texts(store: Store) -> dict[str, bytes]:
    return {str(p.relative_to(store.runs)): p.read_bytes() for p in sorted(store.runs.rglob("*")) if p.is_file()}


def again(store: Store) -> Store:
    return Store(store.results, store.cache)


def the_pack(store: Store) -> Path:
    (path,) = packed.packs(store.results)
    return path


def test_packed_records_are_read_as_loose_ones(store: Store) -> None:
    loose = [store.read(spec(seed=seed)) for seed in range(3)]
    assert pack(store)[:2] == (3, 1)
    assert texts(store) == {} and the_pack(store).name == "gym-Hopper-v5-train.parquet"
    fresh = again(store)
    assert fresh.missing(spec(seed=seed) for seed in range(4)) == [spec(seed=3)]
    assert [s.key for s in fresh.specs()] == sorted(r.spec.key for r in loose) and fresh.torn() == []
    for seed, before in enumerate(loose):
        after = fresh.read(spec(seed=seed))
        assert after.curve.equals(before.curve) and after.diagnostics.equals(before.diagnostics)
        assert after.provenance == before.provenance


def test_unpacking_gives_back_the_same_bytes(store: Store) -> None:
    before = texts(store)
    pack(store)
    assert unpack(again(store), "gym:Hopper-v5")[:2] == (3, 1)
    assert texts(store) == before and packed.packs(store.results) == []


def test_a_packed_record_is_never_written_again(store: Store) -> None:
    pack(store)
    with pytest.raises(FileExistsError, match="never overwritten"):
        record_of(again(store), spec(seed=0))


def test_later_records_join_the_pack(store: Store) -> None:
    pack(store)
    record_of(again(store), spec(seed=7))
    assert pack(again(store))[:2] == (1, 1)
    assert again(store).missing(spec(seed=seed) for seed in (0, 1, 2, 7)) == []


def test_a_dry_run_changes_nothing(store: Store) -> None:
    before = texts(store)
    assert pack(store, dry_run=True) == (3, 1, 0)
    assert texts(store) == before and packed.packs(store.results) == []


def test_a_kill_before_the_folders_are_removed_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    before = texts(store)

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing, "_spend", killed)
        with pytest.raises(KeyboardInterrupt):
            pack(store)
    assert texts(store) == before
    both = again(store)  # packed and loose: each is told once
    assert len(list(both.specs())) == 3 and both.missing(spec(seed=s) for s in range(3)) == []
    pack(both)
    assert texts(store) == {} and again(store).missing(spec(seed=s) for s in range(3)) == []


def test_a_kill_while_a_folder_is_removed_leaves_no_torn_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(folder: Path) -> None:
        (folder / "curve.csv").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(packing.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            pack(store)
    assert again(store).torn() == [] and len(list(again(store).specs())) == 3
    pack(again(store))
    assert list(store.runs.rglob("*")) == []


def test_a_torn_folder_neither_hides_nor_costs_its_packed_twin(store: Store) -> None:
    pack(store)
    row = next(iter(parquet.read(the_pack(store)).values()))
    folder = store.runs / row.slug / row.method / row.key
    folder.mkdir(parents=True)
    (folder / "spec.json").write_bytes(row.files["spec.json"])
    assert len(list(again(store).specs())) == 3
    with pytest.raises(InputError, match="differs from the packed record of its key"):
        unpack(again(store))
    assert again(store).missing(spec(seed=seed) for seed in range(3)) == []
    shutil.rmtree(folder)
    assert unpack(again(store))[:2] == (3, 1)
    assert again(store).torn() == []


def test_two_records_of_one_key_that_differ_are_refused(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack(store)
    other = Store(tmp_path / "other", tmp_path / "cache")
    record_of(other, spec(seed=0), shift=1.0)
    shutil.copytree(other.runs, store.runs, dirs_exist_ok=True)
    with pytest.raises(InputError, match="and the loose record of its key differ"):
        pack(again(store))
    assert len(texts(store)) == 4
    caplog.clear()
    both = again(store)
    assert both.has(spec(seed=0)) and len(list(both.specs())) == 3
    assert caplog.text.count("two records of one key differ") == 1
    with pytest.raises(InputError, match="differs from the packed record of its key"):
        unpack(both)
    assert len(packed.packs(store.results)) == 1


def test_a_damaged_pack_is_told_and_stops_nothing_else(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    record_of(store, spec(task="gym:Walker2d-v5"))
    pack(store)
    path = next(p for p in packed.packs(store.results) if "Hopper" in p.name)
    path.write_bytes(path.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        fresh = again(store)
        assert fresh.has(spec(task="gym:Walker2d-v5")) and not fresh.has(spec(seed=0))
    assert "pack ignored, it cannot be read" in caplog.text
    record_of(fresh, spec(seed=5))
    with pytest.raises(InputError, match="cannot be read; mend or remove it"):
        pack(again(store))
    with pytest.raises(InputError, match="nothing of it was unpacked"):
        unpack(again(store))


def test_a_changed_row_is_torn(store: Store) -> None:
    pack(store)
    path = the_pack(store)
    rows = list(parquet.read(path).values())
    rows[0].files["curve.csv"] += b"0,0,1.0,1\n"
    packing._write(path, rows)
    fresh = again(store)
    assert [place.name for place in fresh.torn()] == [rows[0].key] and len(list(fresh.specs())) == 2


def test_a_task_without_packed_records_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="'gym:Ant-v5' has no packed records"):
        unpack(store, "gym:Ant-v5")


def test_the_tables_of_a_pack_are_those_of_its_texts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = pd.DataFrame({
        "step": 100, "measure": ["a", "b", "c", "a", "d"], "dim": [-1, -1, -1, 0, -1],
        "value": [float("nan"), float("inf"), -float("inf"), 0.1 + 0.2, 5e-324],
    })  # fmt: skip
    store.write(spec(seed=9), curve(), odd, {})
    pack(store)
    opened = []
    parquet_file = parquet.pq.ParquetFile
    monkeypatch.setattr(parquet.pq, "ParquetFile", lambda path: opened.append(path) or parquet_file(path))
    parquet._read.cache_clear()
    monkeypatch.setattr(packed, "parse", None)  # none is read one by one
    rows = parquet.read(the_pack(store)).values()
    made = [(row, name, parquet.table(row, name)) for row in rows for name in ("curve.csv", "diagnostics.csv")]
    assert len(made) == 8 and opened == [the_pack(store)]
    for row, name, frame in made:
        alone = pd.read_csv(io.BytesIO(row.files[name]), float_precision="round_trip")
        pd.testing.assert_frame_equal(frame, alone, check_exact=True)
    made[0][2].iloc[0, 0] += 1  # a copy: the next reader has what was stored
    assert not parquet.table(*made[0][:2]).equals(made[0][2])


@pytest.mark.parametrize("torn", [b'1,"a\n",2.0,3\n', b"1,2\n", b"\n", b"1.5,,x,y\n", b"5\r"])
def test_a_torn_table_costs_its_neighbours_nothing(store: Store, torn: bytes) -> None:
    before = {s: store.read(spec(seed=s)) for s in (0, 1, 2)}
    pack(store)
    rows = [
        replace(row, files={**row.files, "curve.csv": row.files["curve.csv"] + torn}) if i == 0 else row
        for i, row in enumerate(parquet.read(the_pack(store)).values())
    ]
    packing._write(the_pack(store), rows)
    fresh = again(store)
    sound = [s for s in before if fresh.has(spec(seed=s))]
    assert len(sound) == 2
    for seed in sound:
        assert fresh.read(spec(seed=seed)).curve.equals(before[seed].curve)
