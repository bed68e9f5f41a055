"""The arithmetic that this processor does at most, by multiply-adds that stay in registers: no product is faster.

torch's own product is no such bound. Its library may leave half of a unit idle, and `mbpo.fast.kernels` then passes it.
"""

from __future__ import annotations

import ctypes
import time

import torch
from torch import Tensor

from mbpo.fast import kernels

ROUNDS = 2**20
"""A few milliseconds; sums below 2^24, up to which whole numbers are exact in single precision."""


class _Chains(ctypes.Structure):
    """As ``native/peak.h`` has it."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("threads", "rounds")),
        *(("one", ctypes.c_float), ("sums", ctypes.c_void_p)),
    )


def multiply_adds(precision: str, threads: int = 1, rounds: int = ROUNDS) -> Tensor | None:
    """Run the chains of `rounds` links each; of each lane the multiply-adds that it made ``(threads, lanes)``.

    None where there is no library, or where it has no such instruction: "fp32" has one wherever the kernels serve,
    "bf16" on AVX512-BF16 without AMX, and other precisions have none.
    """
    library, name = kernels.library(), f"chains_{precision}"
    if library is None or not hasattr(library, name):
        return None
    sums = torch.zeros(threads, library.chain_sums())
    kernels.call(name, _Chains(threads, rounds, 1.0, sums.data_ptr()))
    return sums


def flops(precision: str, threads: int = 1, rounds: int = ROUNDS) -> float | None:
    """Operations per second of all threads together, a multiply-add being two; None as of `multiply_adds`.

    One thread is timed in seconds that it was given, as parts of an env step are.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    done = multiply_adds(precision, threads, rounds)
    taken = clock() - start
    return None if done is None else 2 * float(done.sum(dtype=torch.float64)) / taken
