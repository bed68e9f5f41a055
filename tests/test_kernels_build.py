"""Where the kernels come from: built once for a user and a processor, and torch's work where they cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import NEEDS_KERNELS
from torch.nn.functional import silu

from mbpo.config import InputError
from mbpo.fast import compiler as building
from mbpo.fast import kernels

pytestmark = NEEDS_KERNELS


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """As in a new process of a user who has built nothing yet; the user's cache."""
    monkeypatch.delenv(kernels.SWITCH, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kernels.library.cache_clear()
    yield tmp_path / "cache"
    kernels.library.cache_clear()


def test_the_switch_leaves_all_to_torch(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.SWITCH, "torch")
    assert kernels.library() is None and not fresh.exists()
    assert not kernels.serve(torch.zeros(2, 13, 9), [torch.zeros(2, 9, 4)], silu)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("value", "mend"), [("troch", "did you mean 'torch'?"), ("1", "known: native, torch")])
def test_a_switch_that_is_none_is_named(value: str, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.SWITCH, value)
    with pytest.raises(InputError) as error:
        kernels.library()
    assert str(error.value) == f"MBPO_KERNELS = {value!r}: not a choice; {mend}"


def test_without_a_compiler_torch_does_the_work(fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert kernels.library() is None and not fresh.exists()


def test_a_compiler_that_fails_is_told_of_once(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "omp.h: no such file" >&2; exit 1; }\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.warns(UserWarning, match=r"torch does the work of kernels .* omp\.h: no such file"):
        assert kernels.library() is None
    assert kernels.library() is None and not recwarn.list
    assert list(fresh.rglob("*")) == [fresh / "mbpo"]


def test_without_a_cache_the_temporary_folder_serves(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert building.cache_folder() == fresh / "mbpo"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = tmp_path / f"mbpo-{os.getuid()}"
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert building.cache_folder() == other and other.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: other.stat().st_uid + 1)
    (tmp_path / f"mbpo-{os.getuid()}").mkdir()  # another user's, where this one's would be
    with pytest.raises(OSError, match="can be written to"):
        building.cache_folder()


FORKS = """
import os, torch
from mbpo.fast import compiler as building, kernels
building.FLAGS += ("-O0",)  # quick to compile
w, b = torch.tensor([[[1.0, -1.0], [2.0, 0.5]]]), torch.tensor([[[0.5, 0.0]]])
other = os.fork()  # two processes at the price of one import; neither has built anything yet
numbers = kernels.forward(torch.tensor([[[3.0, 4.0]]]), [w], [b], torch.nn.functional.relu).tolist()
os.write(1, f"{numbers}\\n".encode())
if other:
    assert os.waitpid(other, 0)[1] == 0
"""


def test_two_processes_may_build_at_once(fresh: Path) -> None:
    """Each tries the library that it ends with on a known answer."""
    with subprocess.Popen([sys.executable, "-c", FORKS], stdout=subprocess.PIPE, text=True) as both:
        assert both.communicate()[0] == "[[[11.5, -1.0]]]\n" * 2
    assert both.returncode == 0
    (library,) = (fresh / "mbpo").iterdir()
    assert library.suffix == ".so"


def test_an_installed_package_has_the_sources() -> None:
    root = Path(__file__).parents[1]
    globs = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mbpo"]
    assert {path for glob in globs for path in (root / "mbpo").glob(glob)} == {
        root / "mbpo" / "py.typed",
        *building.SOURCES.iterdir(),
    }
