"""The machine's peak: what is counted was executed, by a loop of nothing else. How fast that is, no test asks."""

from __future__ import annotations

import math
import re
import shutil
import subprocess

import pytest
import torch
from helpers import NEEDS_KERNELS

from mbpo.fast import compiler as building
from mbpo.fast import kernels, peak


@NEEDS_KERNELS
@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("precision", "each"), [("fp32", 1), ("bf16", 2)])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rounds", [1, 1000])
def test_every_sum_counts_its_multiply_adds(precision: str, each: int, threads: int, rounds: int) -> None:
    counts = peak.multiply_adds(precision, threads, rounds)
    if counts is None and precision == "bf16":
        pytest.skip("there are no bf16 instructions here")
    assert counts is not None and counts.shape[0] == threads and (counts == rounds * each).all()


def test_a_whole_measurement_counts_exactly() -> None:
    assert 2 * peak.ROUNDS < 2**24, "whole numbers up to there are exact in single precision"


@NEEDS_KERNELS
@pytest.mark.parametrize("threads", [1, 2])
def test_operations_are_two_for_a_multiply_add_over_the_seconds(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    clock = iter([10.0, 10.5])
    own = "process_time" if threads == 1 else "perf_counter"
    monkeypatch.setattr(peak.time, own, lambda: next(clock))
    counts = peak.multiply_adds("fp32", threads, 7)
    assert counts is not None
    assert peak.flops("fp32", threads, 7) == 2 * 7 * counts.numel() / 0.5


@NEEDS_KERNELS
def test_the_peak_here_is_a_number() -> None:
    peak_flops = peak.flops("fp32")
    assert peak_flops is not None and 0 < peak_flops < math.inf


def test_where_there_is_no_such_instruction_there_is_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peak.multiply_adds("fp64") is None and peak.flops("fp64") is None
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert peak.multiply_adds("fp32") is None and peak.flops("fp32") is None


@NEEDS_KERNELS
@pytest.mark.parametrize(("width", "register"), [(8, "ymm"), (16, "zmm")])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_loop_is_multiply_adds_on_registers_and_nothing_else(width: int, register: str, precision: str) -> None:
    """Read from the compiler's own text, for processors that this one need not be."""
    width_flags = {8: ["-mavx2", "-mfma"], 16: ["-mavx512f", "-mavx512bf16"]}[width]
    if (width, precision) == (8, "bf16"):
        pytest.skip("only the widest vectors have them")
    flags = [flag for flag in building.FLAGS if flag not in ("-march=native", "-shared")]
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None
    command = [compiler, *flags, *width_flags, "-S", "-o", "-", "-x", "c", str(building.SOURCES / "peak.h")]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        pytest.skip("this compiler is for other processors")
    (body,) = re.findall(
        rf"^chains_core_{precision}[^\n]*:\n(.*?)\.cfi_endproc", process.stdout, re.MULTILINE | re.DOTALL
    )
    loops = [lines for lines in re.split(r"^\.L\w+:", body, flags=re.MULTILINE) if re.search(r"vfmadd|vdpbf16", lines)]
    (loop,) = loops
    work = loop[: re.search(r"\n\tj\w+", loop).start()].split("\n")  # type: ignore[union-attr]
    work = [line.strip() for line in work if line.strip() and not line.strip().startswith(".")]
    sums = [line for line in work if re.match(r"vfmadd|vdpbf16", line)]
    assert len(sums) == len({line.rsplit("%", 1)[1] for line in sums}) == {8: 12, 16: 16}[width]
    assert all(line.count(f"%{register}") == 3 and "(" not in line for line in sums)
    assert len(work) <= len(sums) + 2, f"a count and a comparison beside them, not {work}"


@NEEDS_KERNELS
def test_torchs_threads_are_left_alone() -> None:
    before = torch.get_num_threads()
    peak.multiply_adds("fp32", before + 1, 10)
    assert torch.get_num_threads() == before
