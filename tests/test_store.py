"""Records: whole or absent, never overwritten, found by key."""

import hashlib
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmark.records import store as module
from benchmark.records.spec import FitBudget, RunSpec
from benchmark.records.store import Store
from mbpo.config import Budget, InputError, Method, Target

RETURNS = [0.1 + 0.2, 1e-300, 1 / 3, -5e17]


def spec(seed: int = 0, **changes: Any) -> RunSpec:
    base: dict[str, Any] = {"kind": "train", "task": "gym:Hopper-v5", "method": "mbpo", "seed": seed}
    return RunSpec(**{**base, "constants": Method(), "budget": Budget(), **changes})


def curve() -> pd.DataFrame:
    return pd.DataFrame({"env_steps": [0, 0, 5, 5], "episode": [0, 1, 0, 1], "episode_return": RETURNS, "length": 9})


def diagnostics() -> pd.DataFrame:
    rows = [(0, "q_mean", -1, 1.5), (5, "q_mean", -1, math.nan), (5, "reward_r2", -1, -math.inf), (5, "carry", 3, 0.1)]
    return pd.DataFrame(rows, columns=["step", "measure", "dim", "value"])


def fill(store: Store, *specs: RunSpec) -> list[Path]:
    return [store.write(one, curve(), diagnostics(), {"commit": "abc"}) for one in specs]


def test_a_record_comes_back_to_the_last_bit(store: Store) -> None:
    (folder,) = fill(store, spec())
    assert folder == store.results / "runs" / "gym-Hopper-v5" / "mbpo" / spec().key
    record = store.read(spec())
    assert record.spec == spec()
    assert record.curve["episode_return"].tolist() == RETURNS
    pd.testing.assert_frame_equal(record.curve, curve(), check_exact=True)
    pd.testing.assert_frame_equal(record.diagnostics, diagnostics(), check_exact=True)
    assert record.provenance["commit"] == "abc"
    assert record.last("reward_r2") == -math.inf and math.isnan(record.last("q_mean"))
    with pytest.raises(KeyError, match="no scalar 'carry'"):
        record.last("carry")


def test_spec_json_names_the_run_and_every_constant(store: Store) -> None:
    (folder,) = fill(store, spec())
    data = json.loads((folder / "spec.json").read_text())
    assert (data["kind"], data["task"], data["method"], data["seed"]) == ("train", "gym:Hopper-v5", "mbpo", 0)
    assert data["constants"]["model"]["hidden_dims"] == [200] * 4 and data["budget"]["env_steps"] == 500_000


def test_lookup_is_by_key_whatever_the_name(store: Store) -> None:
    fill(store, spec(method="mbpo"))
    asked = spec(method="twin")
    assert store.has(asked) and store.missing([asked, spec(1), spec(1, method="twin")]) == [spec(1)]
    assert store.read(asked).spec.method == "twin"
    with pytest.raises(KeyError, match="seed 1"):
        store.read(spec(1))


def test_a_record_is_never_overwritten(store: Store) -> None:
    (folder,) = fill(store, spec())
    before = (folder / "curve.csv").read_bytes()
    for again in (spec(), spec(method="twin")):
        with pytest.raises(FileExistsError, match="never overwritten"):
            store.write(again, curve() + 1, diagnostics(), {})
    assert (folder / "curve.csv").read_bytes() == before and len(list(store.records())) == 1


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_write_that_dies_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    calls = []

    def full(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) > at:
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr(module, "_flush", full)
    with pytest.raises(OSError, match="No space"):
        fill(store, spec())
    monkeypatch.undo()
    assert not store.has(spec()) and list((store.runs / "gym-Hopper-v5" / "mbpo").iterdir()) == []
    fill(store, spec())
    assert store.has(spec())


def test_a_record_appears_in_one_step(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts: list[list[str]] = []

    def die(draft: Path, target: Path) -> None:
        drafts.append(sorted(path.name for path in draft.iterdir()))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", die)
    with pytest.raises(OSError, match="Input/output"):
        fill(store, spec())
    assert drafts == [sorted(module.FILES)], "all four files are there before the record is"
    assert list((store.runs / "gym-Hopper-v5" / "mbpo").iterdir()) == [] and not store.has(spec())


@pytest.mark.parametrize("damage", ["curve.csv", "provenance.json", "shorter", "longer", "half", "moved"])
def test_a_torn_record_is_reported_and_as_good_as_absent(
    store: Store, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    torn, whole = fill(store, spec(0), spec(1))
    if damage.endswith((".csv", ".json")):
        (torn / damage).unlink()
    elif damage == "shorter":
        text = (torn / "curve.csv").read_text().splitlines(keepends=True)
        (torn / "curve.csv").write_text("".join(text[:-1]))
    elif damage == "longer":
        (torn / "diagnostics.csv").open("a").write("5,reward_r2,-1,1.0\n")
    elif damage == "half":
        (torn / "provenance.json").write_text('{"commit": ')
    else:
        torn = torn.rename(torn.with_name("0123456789abcdef"))
    fresh = Store(store.results, store.cache)  # the first one has seen it whole
    with caplog.at_level(logging.WARNING):
        assert not fresh.has(spec(0)) and fresh.has(spec(1))
        assert [record.spec for record in fresh.records()] == [spec(1)]
    assert fresh.torn() == [torn] and whole not in fresh.torn()
    assert [str(torn) in line for line in caplog.messages] == [True]
    fill(fresh, spec(0))
    assert fresh.has(spec(0)) and fresh.read(spec(0)).curve["episode_return"].tolist() == RETURNS


CHANGED = [
    lambda text: text.replace('"abc"', '"abd"'),
    lambda text: text.replace("commit", "comnit"),
    lambda text: text.replace('"sha256": {', '"sha256": {"more": "0",'),
    lambda text: text.replace('"provenance": "', '"provenance": "0'),
]


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_provenance_is_torn_where_it_is_sealed(store: Store, change: Callable[[str], str]) -> None:
    (folder,) = fill(store, spec())
    page = folder / "provenance.json"
    text = page.read_text()
    assert change(text) != text and "provenance" in json.loads(text)["sha256"]
    page.write_text(change(text))
    assert Store(store.results, store.cache).torn() == [folder]
    page.write_text(text)
    assert Store(store.results, store.cache).torn() == []


def test_the_seal_is_of_the_canonical_json_of_all_else(store: Store) -> None:
    (folder,) = fill(store, spec())
    told = json.loads((folder / "provenance.json").read_text())
    seal = told["sha256"].pop("provenance")
    canonical = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    assert seal == hashlib.sha256(canonical).hexdigest()


def test_the_first_records_have_no_seal_and_are_sound(store: Store) -> None:
    (folder,) = fill(store, spec())
    page = folder / "provenance.json"
    told = json.loads(page.read_text())
    del told["sha256"]["provenance"]
    page.write_text(json.dumps({**told, "commit": "xyz"}))
    fresh = Store(store.results, store.cache)
    assert fresh.has(spec()) and fresh.torn() == []


def test_a_stranger_that_looks_whole_does_not_pass_for_the_run(store: Store) -> None:
    other = spec(constants=Method(utd=7))
    other.__dict__["key"] = spec().key  # what a changed default would do: other constants, the same hash
    fill(store, other)
    with pytest.raises(InputError, match=r"constants\.utd: 20 asked for, 7 stored.*raise NUMERICS_VERSIONS"):
        store.has(spec())


def test_records_of_another_version_are_left_alone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    folder, _ = fill(store, spec(0), spec(1))
    data = {**json.loads((folder / "spec.json").read_text()), "novelty": 1}
    text = json.dumps(data)
    (folder / "spec.json").write_text(text)
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["sha256"]["spec.json"] = module._sha256(text.encode())
    provenance["sha256"]["provenance"] = module._seal(provenance)
    (folder / "provenance.json").write_text(json.dumps(provenance))
    module._stored_spec.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert [record.spec for record in Store(store.results, store.cache).records()] == [spec(1)]
    assert "another version wrote it" in caplog.text and "novelty" in caplog.text


def test_frames_must_have_rows_and_columns(store: Store) -> None:
    with pytest.raises(ValueError, match="lacks the columns"):
        store.write(spec(), curve().drop(columns="length"), diagnostics(), {})
    with pytest.raises(ValueError, match="has no rows"):
        store.write(spec(), curve(), diagnostics().iloc[:0], {})
    fit = RunSpec(kind="fit", task="a", method="mbpo", seed=0, constants=Method(target=Target()), fit=FitBudget())
    with pytest.raises(ValueError, match="update"):
        store.write(fit, curve(), diagnostics(), {})
    assert not store.runs.exists()


def test_making_a_store_writes_nothing_and_prepare_marks_it(store: Store) -> None:
    assert list(store.records()) == [] and store.missing([spec()]) == [spec()]
    store.check()
    assert list(store.results.parent.iterdir()) == []
    store.prepare()
    store.prepare()
    assert json.loads((store.results / "store.json").read_text()) == {"store_version": 1}
    assert sorted(path.name for path in store.results.iterdir()) == ["store.json"] and store.cache.is_dir()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ('{"store_version": 2}', "newer version (store_version 2, this one reads up to 1)"),
        ('{"store_version": "x"}', "not a store's page"),
        ("[1]", "not a store's page"),
        ("{", "not a store's page"),
        ("[" * 100_000, "not a store's page"),
        ("", "not a store's page"),
    ],
)
def test_a_page_that_cannot_be_trusted_is_refused(tmp_path: Path, page: str, words: str) -> None:
    (tmp_path / "store.json").write_text(page)
    with pytest.raises(InputError) as error:
        Store(tmp_path, tmp_path / "cache")
    assert words in str(error.value)


def test_a_folder_in_the_place_of_a_page_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").mkdir()
    with pytest.raises(InputError, match="not a store's page"):
        Store(tmp_path, tmp_path / "cache")


def test_folders_that_are_files_or_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"results folder .*file' is a file"):
        Store(tmp_path / "file", tmp_path / "cache")
    with pytest.raises(InputError, match=r"results folder .* cannot be written \(not a directory\)"):
        Store(tmp_path / "file" / "results", tmp_path / "cache").prepare()
    with pytest.raises(InputError, match=r"results folder .* cannot be written \(not a directory\)"):
        Store(tmp_path / "file" / "results", tmp_path / "cache").check()
    with pytest.raises(InputError, match=r"cache folder .* cannot be written"):
        Store(tmp_path / "results", tmp_path / "file" / "cache").prepare()
