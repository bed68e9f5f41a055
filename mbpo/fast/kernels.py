"""Networks on a CPU: C kernels for the networks of `mbpo.nn`, compiled when first needed.

With small stacked networks torch spends a third of the time outside the matrix products: on activations, on copies,
and on reading blocks that have left the cache. ``native`` computes one network of a stack after the other and applies
the activation while sums are in registers. Results equal torch's up to rounding; no bit of them depends on the number
of threads or on the other networks of the stack.

Where torch's autocast asks for bf16, the factors of products are rounded to it, as the processor's own instructions
take them. Sums, activations, gradients and parameters stay in single precision, and so does a product with a single
column. Without such instructions the same numbers are computed in single precision, more slowly than fp32's.

The kernels need gcc on Linux. Elsewhere, or with ``MBPO_KERNELS=torch`` in the environment, torch does the work.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu, silu

from mbpo.config import InputError, nearest
from mbpo.fast.compiler import build

SWITCH = "MBPO_KERNELS"
_CHOICES = ("native", "torch")
ACTS: dict[object, int] = {relu: 1, silu: 2}
"""The library's numbers of activations."""
_MAX_LAYERS = 16
_MAX_EXPONENT = 87.0
"""``native/vectors.h`` clips exponents to +- this."""
_NO_EXPONENT = 17.0
"""1 + exp of minus this, 4e-8, is 1 in single precision."""
_Address, _Long = ctypes.c_void_p, ctypes.c_long
_Addresses, _Longs = ctypes.POINTER(_Address), ctypes.POINTER(_Long)


def serve(x: Tensor, weights: Sequence[Tensor], activation: object) -> bool:
    """Whether the kernels support these networks: contiguous float32 on a CPU, relu or silu, fp32 or bf16."""
    return (
        x.dtype == weights[0].dtype == torch.float32
        and x.device.type == "cpu"
        and activation in ACTS
        and len(weights) <= _MAX_LAYERS
        and all(weight.is_contiguous() for weight in weights)
        and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") is torch.bfloat16)
        and library() is not None
    )


def exact_std(high: float) -> bool:
    """Whether stds up to ``exp(high)`` are exact; one so small that it is clipped vanishes beside any mean."""
    return high <= _MAX_EXPONENT


def exact_gaussian(low: float, high: float) -> bool:
    """Whether `gaussian_gradients` is exact for log-variances within these bounds.

    Both bounds and their distance are exponents; with the margin `_NO_EXPONENT` clipping changes nothing but rounding.
    """
    return max(-low, high, high - low + _NO_EXPONENT) <= _MAX_EXPONENT


def forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: object) -> Tensor:
    """``x (*S, B, in) -> (*S, B, out)``, with gradients if the inputs need them; sizes as in `mbpo.nn.StackedMLP`."""
    act = ACTS[activation]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *weights, *biases)):
        out: Tensor = _Pass.apply(x, act, rounding(), *weights, *biases)
        return out
    return _forward(x, weights, biases, act, False)[0]


def rounding() -> bool:
    """Whether factors of products are rounded to bf16 here."""
    return torch.is_autocast_enabled("cpu")


def gaussian_gradients(
    x: Tensor, y: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], low: Tensor, high: Tensor
) -> list[Tensor]:
    """Gradients of `mbpo.dynamics.nll` for weights, then biases, of silu networks, in one pass per network.

    Args:
        x: ``(*S, B, in)`` inputs of the networks; size 1 on a stack axis is shared.
        y: ``(*S, B, D)`` targets, likewise.
        weights: of each layer ``(*S, in, out)``; the last gives means and raw log-variances, ``out = 2 D``.
        biases: of each layer ``(*S, 1, out)``.
        low: ``(*S, 1, D)`` lower bound of the log-variance; may be size 1 on a stack axis.
        high: ``(*S, 1, D)`` upper bound, likewise.

    Returns:
        ``(*S, in, out)`` per layer, then ``(*S, 1, out)`` per layer.
    """
    x, y, biases = _side_by_side(x), _side_by_side(y), [b.contiguous() for b in biases]
    stack, expected = weights[0].shape[:-2], (x.shape[-2], weights[-1].shape[-1] // 2)
    if y.shape[-2:] != expected:
        raise RuntimeError(f"targets of shape {tuple(y.shape)} for means of shape (..., {expected[0]}, {expected[1]})")
    low, high = (bound.expand(*stack, *bound.shape[-2:]).contiguous() for bound in (low, high))
    dw, db = like_parameters(weights)
    start = _starts(stack, y.shape[:-2], y.stride()[:-2])
    targets = _Targets(y.data_ptr(), start, y.stride(-2), low.data_ptr(), high.data_ptr())
    gradients = Gradients(None, None, addresses(dw), addresses(db))
    call("stack_gaussian", _stack(x, weights, ACTS[silu], b=addresses(biases)), targets, gradients)
    return [*dw, *db]


def forward_members(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: object, member: Tensor
) -> Tensor:
    """``x (R, 1 or E, B, in) -> (R, B, out)``: row b of run r goes through network ``member[r, b]``; no gradients.

    Bit-equal to the rows of that network in `forward`.
    """
    x, biases = _side_by_side(x), [b.contiguous() for b in biases]
    (runs, members), rows = weights[0].shape[:2], x.shape[-2]
    if member.shape != (runs, rows) or int(member.min()) < 0 or int(member.max()) >= members:
        raise RuntimeError(
            f"members of shape {tuple(member.shape)} in 0 .. {members - 1} for {runs} runs of {rows} rows"
        )
    network = (member + members * torch.arange(runs)[:, None]).flatten()
    which = network.argsort(stable=True) % rows
    begin = torch.zeros(runs * members + 1, dtype=torch.int64)
    torch.cumsum(network.bincount(minlength=runs * members), 0, out=begin[1:])
    out = x.new_empty(runs, rows, weights[-1].shape[-1])
    selection = _Members(which.data_ptr(), begin.data_ptr(), members, out.data_ptr())
    call("stack_chosen", _stack(x, weights, ACTS[activation], b=addresses(biases)), selection)
    return out


class _Pass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, act: int, pairs: bool, *parameters: Tensor) -> Tensor:
        layers = len(parameters) // 2
        weights = parameters[:layers]
        out, *saved = _forward(x, weights, parameters[layers:], act, True)
        ctx.act, ctx.pairs, ctx.layers = act, pairs, layers
        ctx.save_for_backward(x, *weights, *saved)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(f"the kernels know no second derivatives; set {SWITCH}=torch in the environment")
        x, *rest = ctx.saved_tensors
        of_x, _, _, *of_parameters = ctx.needs_input_grad
        act = (ctx.act, ctx.pairs)
        dx, grads = _backward(grad, x, rest[: ctx.layers], rest[ctx.layers :], act, of_x, any(of_parameters))
        of_input = None if dx is None else dx.sum_to_size(x.shape)
        return (of_input, None, None, *grads, *[None] * (len(of_parameters) - len(grads)))


# Arguments of the library's functions


class Stack(ctypes.Structure):
    """Networks of a stack and their inputs, as in ``native/networks.h``."""

    _fields_ = (
        *((name, _Long) for name in ("stack", "rows", "layers", "act", "threads", "pairs")),
        *(("sizes", _Longs), ("x", _Address), ("start", _Longs), ("ldx", _Long)),
        *((name, _Addresses) for name in ("w", "b", "h", "slope")),
    )


class Gradients(ctypes.Structure):
    """Gradients of a stack, as in ``native/networks.h``."""

    _fields_ = (("grad", _Address), ("dx", _Address), ("dw", _Addresses), ("db", _Addresses))


class _Members(ctypes.Structure):
    _fields_ = (("which", _Address), ("begin", _Address), ("each", _Long), ("out", _Address))


class _Targets(ctypes.Structure):
    _fields_ = (("y", _Address), ("start", _Longs), ("ldy", _Long), ("low", _Address), ("high", _Address))


def addresses(tensors: Sequence[Tensor]) -> Any:
    """Pointers to the tensors' data."""
    return (_Address * len(tensors))(*[tensor.data_ptr() for tensor in tensors])


@lru_cache(maxsize=256)
def _longs(*values: int) -> Any:
    return (_Long * len(values))(*values)


@lru_cache(maxsize=256)
def _starts(stack: tuple[int, ...], shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    """Offset of each network's first row; torch decides which rows are shared, and raises if shapes do not match."""
    steps = torch.empty_strided(shape, strides, device="meta").expand(stack).stride()
    networks = itertools.product(*(range(n) for n in stack))
    return _longs(*(sum(i * step for i, step in zip(network, steps, strict=True)) for network in networks))


def _side_by_side(x: Tensor) -> Tensor:
    """`x` with contiguous rows, which may lie anywhere."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _stack(x: Tensor, weights: Sequence[Tensor], act: int, pairs: bool | None = None, **arrays: Any) -> Stack:
    if x.shape[-1] != weights[0].shape[-2]:
        raise RuntimeError(f"inputs of {x.shape[-1]} numbers for networks that read {weights[0].shape[-2]}")
    reads = {
        "rows": x.shape[-2],
        "x": x.data_ptr(),
        "start": _starts(weights[0].shape[:-2], x.shape[:-2], x.stride()[:-2]),
        "ldx": x.stride(-2),
    }
    return networks(weights, act, pairs, **reads, **arrays)


def networks(weights: Sequence[Tensor], act: int, pairs: bool | None = None, **more: Any) -> Stack:
    """The library's description of a stack of networks; `pairs` says that products are bf16's, by default as here."""
    return Stack(
        stack=weights[0].shape[:-2].numel(),
        layers=len(weights),
        act=act,
        threads=torch.get_num_threads(),
        pairs=rounding() if pairs is None else pairs,
        sizes=_longs(weights[0].shape[-2], *(w.shape[-1] for w in weights)),
        w=addresses(weights),
        **more,
    )


def like_parameters(weights: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Uninitialized tensors for the gradients of weights and biases."""
    dw = [w.new_empty(w.shape) for w in weights]
    return dw, [w.new_empty(*w.shape[:-2], 1, w.shape[-1]) for w in weights]


def _forward(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], act: int, keep: bool) -> list[Tensor]:
    """The last layer's output; for a backward pass also the other layers' outputs and their slopes of silu."""
    x, biases = _side_by_side(x), [b.contiguous() for b in biases]
    rows = (*weights[0].shape[:-2], x.shape[-2])
    outputs = [x.new_empty(*rows, w.shape[-1]) for w in weights]
    slopes = [h.new_empty(h.shape) for h in outputs[:-1]] if keep and act == ACTS[silu] else []
    arrays = {"b": addresses(biases), "h": addresses(outputs), "slope": addresses(slopes) if slopes else None}
    call("stack_forward", _stack(x, weights, act, **arrays))
    return [outputs[-1], *(outputs[:-1] if keep else []), *slopes]


def _backward(
    grad: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    saved: Sequence[Tensor],
    act: tuple[int, bool],
    of_x: bool,
    of_parameters: bool,
) -> tuple[Tensor | None, list[Tensor]]:
    """Gradients of the input ``(*S, B, in)``, and of weights and biases, if requested; `act` and `pairs` as forward."""
    x, grad = _side_by_side(x), grad.contiguous()
    stack, layers = weights[0].shape[:-2], len(weights)
    outputs, slopes = [*saved[: layers - 1], grad], saved[layers - 1 :]  # the last layer's output is not read
    dx = x.new_empty(*stack, *x.shape[-2:]) if of_x else None
    dw, db = like_parameters(weights) if of_parameters else ([], [])
    arrays = {"h": addresses(outputs), "slope": addresses(slopes) if slopes else None}
    gradients = Gradients(grad.data_ptr(), None if dx is None else dx.data_ptr())
    if of_parameters:
        gradients.dw, gradients.db = addresses(dw), addresses(db)
    call("stack_backward", _stack(x, weights, *act, **arrays), gradients)
    return dx, [*dw, *db]


# The library


def call(name: str, *structures: ctypes.Structure) -> None:
    """Call a function of the library; torch's profiler sees it by name."""
    kernels = library()
    assert kernels is not None
    kernel, arguments = getattr(kernels, name), [ctypes.byref(structure) for structure in structures]
    if torch.autograd._profiler_enabled():
        with torch.profiler.record_function(f"mbpo::{name}"):
            kernel(*arguments)
    else:
        kernel(*arguments)


def vector_width() -> int | None:
    """Floats per vector in the compiled kernels: 16, 8 or 4; None where torch does the work."""
    kernels = library()
    return None if kernels is None else int(kernels.vector_width())


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, compiled for this processor if they are not yet; None where torch does the work.

    Raises:
        InputError: the environment variable `SWITCH` has an unknown value.
    """
    choice = os.environ.get(SWITCH, "native")
    if choice not in _CHOICES:
        raise InputError(f"{SWITCH} = {choice!r}: not a choice; {nearest(choice, _CHOICES)}")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if choice != "native" or not sys.platform.startswith("linux") or compiler is None:
        return None
    try:
        return ctypes.CDLL(str(build(compiler)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # a RuntimeError: the user has no home
        reason = getattr(error, "stderr", None) or str(error)
        warnings.warn(f"torch does the work of kernels that could not be built: {reason.strip()[:500]}", stacklevel=2)
        return None
