"""This processor's peak arithmetic, measured by multiply-adds in registers: no matrix product is faster.

torch's own product is no such bound: its library may leave half of a unit idle, and `mbpo.fast.kernels` is then faster.
"""

from __future__ import annotations

import ctypes
import time

import torch
from torch import Tensor

from mbpo.fast import kernels

ROUNDS = 2**20
"""Takes a few milliseconds. Sums stay below 2^24, up to which whole numbers are exact in single precision."""


class _Chains(ctypes.Structure):
    """Arguments as in ``native/peak.h``."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("threads", "rounds")),
        *(("one", ctypes.c_float), ("sums", ctypes.c_void_p)),
    )


def multiply_adds(precision: str, threads: int = 1, rounds: int = ROUNDS) -> Tensor | None:
    """Run chains of `rounds` multiply-adds; returns how many each lane made ``(threads, lanes)``.

    None where there is no library or no such instruction: "fp32" exists wherever the kernels do, "bf16" on AVX512-BF16
    without AMX, other precisions nowhere.
    """
    library, name = kernels.library(), f"chains_{precision}"
    if library is None or not hasattr(library, name):
        return None
    sums = torch.zeros(threads, library.chain_sums())
    kernels.call(name, _Chains(threads, rounds, 1.0, sums.data_ptr()))
    return sums


def flops(precision: str, threads: int = 1, rounds: int = ROUNDS) -> float | None:
    """Operations per second of all threads together, two per multiply-add; None where `multiply_adds` is None.

    One thread is timed in CPU seconds, as the parts of an env step are.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    counts = multiply_adds(precision, threads, rounds)
    duration = clock() - start
    return None if counts is None else 2 * float(counts.sum(dtype=torch.float64)) / duration
