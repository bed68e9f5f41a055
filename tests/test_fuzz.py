"""Random edits: of what is asked for, which gives another key or a refusal, and of every file that is read."""

from __future__ import annotations

import copy
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from corruption import HOW, SPEC, SUBJECTS, Edit, attempt, prepared, read_record
from helpers import small

from benchmark.records import store as records
from benchmark.records.spec import RunSpec, unique
from mbpo import Budget, InputError, Target

hypothesis = pytest.importorskip("hypothesis", reason="a package of the extra 'dev'")
from hypothesis import strategies as st  # noqa: E402

EXAMPLES = {"suite pages": 5, "claims page": 3, "record, packed": 15}
edits = st.builds(Edit, st.floats(0, 1), st.floats(0, 1), st.sampled_from(HOW), st.integers(0, 255))
specs = st.builds(
    lambda seed, steps, utd, normalize, predict, drop, method: RunSpec(
        kind="train",
        task="gym:toy_envs:ToyDrift-v0",
        method=method,
        seed=seed,
        drop=tuple(drop),
        constants=small(Target(normalize=normalize, predict=predict), utd=utd),
        budget=Budget(env_steps=steps, eval_every=10),
    ),
    st.integers(0, 2**31 - 1),
    st.integers(10, 10**6),
    st.integers(1, 40),
    st.sampled_from(["none", "obs", "reward", "both"]),
    st.sampled_from(["delta", "next_obs", "fitted"]),
    st.lists(st.sampled_from(["a", "b", "c"])),
    st.sampled_from(["mbpo", "sac", "x-1"]),
)
numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers()))


def some(examples: int) -> Any:
    return hypothesis.settings(derandomize=True, deadline=None, database=None, max_examples=examples)


def paths(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every leaf of a tree of JSON."""
    if isinstance(data, dict | list) and data:
        items = data.items() if isinstance(data, dict) else enumerate(data)
        return [path for key, value in items for path in paths(value, (*at, key))]
    return [at]


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    data = part = copy.deepcopy(data)
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return data


@some(30)
@hypothesis.given(specs, specs)
def test_equal_runs_have_equal_keys_and_others_others(one: RunSpec, other: RunSpec) -> None:
    again = RunSpec.from_json(json.loads(json.dumps(one.to_json())))
    assert again == one and again.key == one.key
    assert one.model_copy(update={"method": "renamed"}).key == one.key
    assert (one.key == other.key) == one.same_run(other) == (len(unique([one, other])) == 1)


@some(25)
@hypothesis.given(st.data())
def test_an_edited_request_is_refused_or_is_another_run(data: Any) -> None:
    sound = SPEC.to_json()
    path = data.draw(st.sampled_from(paths(sound)))
    edited = replaced(sound, path, data.draw(numbers))
    try:
        read = RunSpec.from_json(edited)
    except InputError as error:
        assert "\n" not in str(error)
        return
    if path in (("key",), ("method",)) or read == SPEC:  # 20 for 20.0: the same number
        assert read.key == SPEC.key
    else:
        assert read.key != SPEC.key


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Any:
    logging.getLogger("benchmark").setLevel(logging.ERROR)
    folder = tmp_path_factory.mktemp("fuzz")
    yield {name: (*prepared(name, folder / name.replace(" ", "-")), folder) for name in SUBJECTS}
    logging.getLogger("benchmark").setLevel(logging.NOTSET)


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_damaged_file_is_refused_or_harmless(sound: Any, name: str) -> None:
    subject, files, value, place = sound[name]

    @some(EXAMPLES.get(name, 25))
    @hypothesis.given(edits)
    def any_edit(edit: Edit) -> None:
        assert attempt(subject, files, value, edit, place) in ("refused", "harmless", "as written")

    any_edit()


@some(25)
@hypothesis.given(st.data())
def test_no_edit_of_a_provenance_passes(sound: Any, data: Any) -> None:
    _, files, *_ = sound["record, loose"]
    (page,) = files.rglob("provenance.json")
    text = page.read_text()
    told = json.loads(text)
    path = data.draw(st.sampled_from([path for path in paths(told) if path[-1] != records.SEAL]))
    edited = replaced(told, path, data.draw(st.text(max_size=3)))
    page.write_text(json.dumps(edited))
    try:
        assert read_record(files) == "absent" or edited == told
    finally:
        page.write_text(text)


def test_the_committed_table_has_no_traceback_and_no_silence() -> None:
    lines = (Path(__file__).parent / "corruption.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == list(SUBJECTS) and all(row[-2:] == ["0", "0"] for row in rows)
