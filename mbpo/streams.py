"""Per-run random streams: all randomness of a run, drawn here and passed on as tensors.

A run's numbers come from its own entropy and from the name of the stream alone. Run k thus sees the
same numbers whether it trains by itself or among twelve, and drawing more from one stream (one more
evaluation) moves no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor


def stream_seed(entropy: str, name: str) -> int:
    """A 63-bit seed from a run's entropy and a stream's name."""
    return int.from_bytes(hashlib.sha256(f"{entropy}/{name}".encode()).digest()[:8], "little") >> 1


class Streams:
    """Named generators for each of R runs; every draw has shape ``(R, *shape)``."""

    def __init__(self, entropies: Sequence[str], device: torch.device, dtype: torch.dtype) -> None:
        self.entropies = list(entropies)
        self.device = device
        self.dtype = dtype
        self._generators: dict[tuple[str, str], list[Generator]] = {}

    def generators(self, name: str, device: str | None = None) -> list[Generator]:
        """The R generators of stream `name`, created from their seeds on first use."""
        place = device or self.device.type
        if (name, place) not in self._generators:
            where = torch.device(place) if device else self.device
            self._generators[name, place] = [Generator(where).manual_seed(stream_seed(e, name)) for e in self.entropies]
        return self._generators[name, place]

    def _drawn(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, draw: Callable[..., object]) -> Tensor:
        """``(R, *shape)``, each run's row filled by its own generator through `draw`."""
        out = torch.empty(len(self.entropies), *shape, device=self.device, dtype=dtype)
        for row, generator in zip(out, self.generators(name), strict=True):
            draw(row, generator=generator)
        return out

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform on [0, 1): ``(R, *shape)``."""
        return self._drawn(name, shape, self.dtype, Tensor.uniform_)

    def slots(self, name: str, *shape: int) -> Tensor:
        """Uniform on [0, 1) in float64, to be scaled to row numbers: float32 cannot tell 2^24 rows apart."""
        return self._drawn(name, shape, torch.float64, Tensor.uniform_)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal: ``(R, *shape)``."""
        return self._drawn(name, shape, self.dtype, Tensor.normal_)

    def below(self, name: str, limit: int, *shape: int) -> Tensor:
        """Integers uniform on [0, limit): ``(R, *shape)`` int64."""
        return self._drawn(name, shape, torch.int64, lambda row, generator: row.random_(0, limit, generator=generator))

    def permutation(self, name: str, n: int) -> Tensor:
        """A permutation of range(n) for each run: ``(R, n)`` int64."""
        return torch.stack([torch.randperm(n, generator=g, device=self.device) for g in self.generators(name)])

    def seeds(self, name: str, *shape: int) -> Tensor:
        """Environment seeds, 31 bits, drawn on the host: ``(R, *shape)`` int64."""
        rows = [torch.randint(0, 2**31 - 1, shape, generator=g) for g in self.generators(name, "cpu")]
        return torch.stack(rows)

    def fork(self, name: str) -> Streams:
        """Fresh streams seeded from one draw of `name`: what is drawn from them moves nothing here.

        A job whose length differs between runs (early stopping) draws from a fork.
        """
        seeds = self.seeds(name, 2).tolist()
        return Streams([f"{e}/{name}/{s}" for e, s in zip(self.entropies, seeds, strict=True)], self.device, self.dtype)

    def state(self) -> dict[str, Any]:
        """The generators' states, for a checkpoint."""
        return {f"{name}@{place}": [g.get_state() for g in gens] for (name, place), gens in self._generators.items()}

    def restore(self, states: Sequence[dict[str, Any]]) -> None:
        """Continue every stream of each run where that run's entry of `states` left it.

        A stream that a run had not drawn from yet begins anew.
        """
        self._generators.clear()
        for run, state in enumerate(states):
            for key, saved in state.items():
                name, place = key.rsplit("@", 1)
                self.generators(name, "cpu" if place == "cpu" else None)[run].set_state(saved)

    def states(self) -> list[dict[str, Any]]:
        """The generators' states of each run, as `restore` takes them."""
        state = self.state()
        return [{name: saved[run] for name, saved in state.items()} for run in range(len(self.entropies))]
