"""The table of faults stays true: each text stands once in its file, each test exists, each fault was once caught."""

from __future__ import annotations

import ast

import pytest
from mutate import OUTCOMES, ROOT, Mutation, mutations


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_the_text_of_a_fault_stands_once_in_its_file(mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1
    ast.parse(text.replace(mutation.old, mutation.new))
    file, _, name = mutation.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_fault_was_caught() -> None:
    told = {line.split(":")[0].removeprefix("| "): line for line in OUTCOMES.read_text(encoding="utf-8").splitlines()}
    assert [m.name for m in mutations() if f"| {m.test} | caught |" not in told.get(m.name, "")] == []
