"""Snapshots: whole or not at all, and a damaged one is said to be damaged."""

import os
import resource
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from mbpo import checkpoint
from mbpo.checkpoint import complete, copy_into, load, save
from mbpo.config import InputError


def tree(value: float = 1.0) -> dict[str, Any]:
    return {
        "weights": [torch.full((2, 3), value), torch.arange(3, dtype=torch.int64)],
        "exact": torch.tensor([0.1, 1 / 3], dtype=torch.float64),
        "generator": torch.Generator().manual_seed(int(value)).get_state(),
        "nested": {"count": 7, "name": "run", "none": None, "rows": [{"a": 1.5}]},
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


# Whole


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert load(tmp_path / "none") is None
    path = save(tmp_path / "deep" / "job", 250, tree())
    assert path.is_dir()
    assert same(load(tmp_path / "deep" / "job"), tree())


def test_the_newest_stays_and_older_ones_go(tmp_path: Path) -> None:
    for step in (9, 10, 100_000):  # ordered as numbers, not as text
        save(tmp_path, step, tree(step))
        assert same(load(tmp_path), tree(step))
        assert len(list(tmp_path.iterdir())) == 1


def test_the_newest_of_two_complete_ones_is_loaded(tmp_path: Path) -> None:
    """As if the process had ended before it dropped the older."""
    newer = save(tmp_path, 20, tree(2.0))
    kept = newer.rename(tmp_path / "aside")
    save(tmp_path, 3, tree(1.0))
    kept.rename(newer)
    assert len(complete(tmp_path)) == 2
    assert same(load(tmp_path), tree(2.0))


def test_saving_a_step_again_changes_nothing(tmp_path: Path) -> None:
    save(tmp_path, 5, tree(1.0))
    save(tmp_path, 5, tree(2.0))
    assert same(load(tmp_path), tree(1.0))


# Torn


def test_a_snapshot_without_its_sentinel_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 10, tree(1.0))
    torn = tmp_path / "step-000000000020"
    torn.mkdir()
    (torn / "state.pt").write_bytes(b"half a file")
    assert same(load(tmp_path), tree(1.0))
    assert len(complete(tmp_path)) == 1


def test_alone_a_torn_snapshot_is_none(tmp_path: Path) -> None:
    (save(tmp_path, 10, tree()) / "COMPLETE").unlink()
    assert load(tmp_path) is None


def test_a_step_that_was_torn_is_saved_again(tmp_path: Path) -> None:
    (save(tmp_path, 10, tree(1.0)) / "COMPLETE").unlink()
    save(tmp_path, 10, tree(2.0))
    assert same(load(tmp_path), tree(2.0))


@pytest.mark.parametrize("broken", ["torch.save", "os.fsync", "Path.rename"])
def test_a_write_that_fails_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    save(tmp_path, 10, tree(1.0))

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        owner, name = {"torch.save": (torch, "save"), "os.fsync": (os, "fsync"), "Path.rename": (Path, "rename")}[
            broken
        ]
        patch.setattr(owner, name, full)
        save(tmp_path, 20, tree(2.0))
    assert same(load(tmp_path), tree(1.0))
    save(tmp_path, 20, tree(2.0))
    assert same(load(tmp_path), tree(2.0))
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000000020"]


def test_the_sentinel_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the state is being written no folder is complete, under whatever name."""
    seen: list[list[str]] = []
    real = torch.save

    def spy(*args: Any, **kwargs: Any) -> None:
        real(*args, **kwargs)
        seen.append([str(p) for p in tmp_path.rglob("COMPLETE")])

    monkeypatch.setattr(checkpoint.torch, "save", spy)
    save(tmp_path, 10, tree())
    assert seen == [[]]
    assert len(list(tmp_path.rglob("COMPLETE"))) == 1


# Damaged


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "missing", "one bit"])
def test_a_damaged_snapshot_is_an_error_and_not_a_restart(tmp_path: Path, damage: str) -> None:
    folder = save(tmp_path, 10, tree())
    state = folder / "state.pt"
    whole = state.read_bytes()
    content = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "text": b"not a checkpoint\n",
        "one bit": whole.replace(number := struct.pack("<d", 1 / 3), bytes([number[0] ^ 1]) + number[1:]),
    }
    assert whole not in content.values()
    state.unlink()
    if damage in content:
        state.write_bytes(content[damage])
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    assert str(folder) in str(caught.value) and "damaged" in str(caught.value)
    assert "\n" not in str(caught.value)


# Copying into a live state


def test_copy_into_fills_the_live_tensors_in_place() -> None:
    live = {"a": [torch.zeros(2, 3), torch.zeros(1)], "b": {"c": torch.zeros(4, dtype=torch.int64)}}
    same_tensor = live["b"]["c"]  # type: ignore[call-overload]
    saved = {"a": [torch.ones(2, 3), torch.full((1,), 2.0)], "b": {"c": torch.arange(4)}}
    copy_into(live, saved)
    assert same(live, saved)
    assert same_tensor.tolist() == [0, 1, 2, 3]


def test_copy_into_reaches_parameters_that_require_gradients() -> None:
    weight = torch.zeros(3, requires_grad=True)
    copy_into([weight], [torch.arange(3.0)])
    assert weight.tolist() == [0, 1, 2] and weight.requires_grad and weight.is_leaf


@pytest.mark.parametrize(
    ("saved", "place"),
    [
        ({"a": [torch.zeros(2, 3), torch.zeros(2)], "b": {"c": torch.zeros(4)}}, "state.a.1"),
        ({"a": [torch.zeros(3, 2), torch.zeros(1)], "b": {"c": torch.zeros(4)}}, "state.a.0"),
        ({"a": [torch.zeros(2, 3)], "b": {"c": torch.zeros(4)}}, "state.a"),
        ({"a": [torch.zeros(2, 3), torch.zeros(1)], "b": {"d": torch.zeros(4)}}, "state.b"),
        ({"a": [torch.zeros(2, 3), torch.zeros(1)], "b": {"c": [torch.zeros(4)]}}, "state.b.c"),
        ({"a": [torch.zeros(2, 3), torch.zeros(1)], "b": torch.zeros(4)}, "state.b"),
        ({"a": [torch.zeros(2, 3), torch.zeros(1)], "b": None}, "state.b"),
    ],
)
def test_a_tree_of_another_form_is_refused_at_its_place(saved: Any, place: str) -> None:
    live = {"a": [torch.zeros(2, 3), torch.zeros(1)], "b": {"c": torch.zeros(4)}}
    with pytest.raises(InputError) as caught:
        copy_into(live, saved)
    assert f"does not fit this run at {place};" in str(caught.value)


def test_a_disk_that_is_really_full_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: torch raises something of its own then."""
    checkpoint.save(tmp_path, 1, {"w": torch.zeros(3)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot be written|File too large"):
            checkpoint.save(tmp_path, 2, {"w": torch.zeros(50_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.steps(tmp_path) == [1] and [path.name for path in tmp_path.iterdir()] == ["step-000000000001"]
