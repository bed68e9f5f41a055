"""Replay buffers for R runs on the training device, and the packed rows they hold.

A row packs ``obs O | action A | next_obs O | reward 1 | mask 1``: the model's inputs and its raw
targets are each one contiguous slice, and a batch is one gather. ``mask = 1 - terminated``; a time
limit leaves it at 1, so truncation never cuts a bootstrap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where the fields of a packed row lie; width W = 2 O + A + 2."""

    obs_dim: int
    action_dim: int

    @property
    def width(self) -> int:
        """W, the numbers in one row."""
        return 2 * self.obs_dim + self.action_dim + 2

    def obs(self, rows: Tensor) -> Tensor:
        """``(..., O)``."""
        return rows[..., : self.obs_dim]

    def action(self, rows: Tensor) -> Tensor:
        """``(..., A)``."""
        return rows[..., self.obs_dim : self.obs_dim + self.action_dim]

    def inputs(self, rows: Tensor) -> Tensor:
        """``(..., O + A)``: what dynamics and critics read."""
        return rows[..., : self.obs_dim + self.action_dim]

    def targets(self, rows: Tensor) -> Tensor:
        """``(..., D)``: next_obs and, last, the reward, in raw units."""
        return rows[..., self.obs_dim + self.action_dim : -1]

    def next_obs(self, rows: Tensor) -> Tensor:
        """``(..., O)``."""
        return rows[..., self.obs_dim + self.action_dim : -2]

    def reward(self, rows: Tensor) -> Tensor:
        """``(...)``."""
        return rows[..., -2]

    def mask(self, rows: Tensor) -> Tensor:
        """``(...)``: 1 - terminated."""
        return rows[..., -1]

    def pack(self, obs: Tensor, action: Tensor, next_obs: Tensor, reward: Tensor, mask: Tensor) -> Tensor:
        """Rows ``(..., W)`` from fields ``(..., O), (..., A), (..., O), (...), (...)``."""
        return torch.cat([obs, action, next_obs, reward[..., None], mask[..., None]], dim=-1)


@dataclass(frozen=True)
class Plain:
    """Rows of `width` numbers without fields, such as the states of a simulator."""

    width: int


_PIECE = 65_536
"""Rows that are copied at once on their way to a file: no second buffer in memory."""


class ReplayBuffer:
    """First in, first out; each run has its own fill level, since rollouts end at different steps.

    The store is ``(R, capacity + 1, W)``: the spare row takes what is not valid, which keeps an
    insertion free of any question to the device.
    """

    def __init__(
        self, runs: int, capacity: int, layout: Layout | Plain, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.width = layout.width
        self.capacity = capacity
        self.rows = torch.empty(runs, capacity + 1, layout.width, device=device, dtype=dtype)
        self.added = torch.zeros(runs, device=device, dtype=torch.int64)

    @property
    def size(self) -> Tensor:
        """Rows held by each run: ``(R,)``."""
        return self.added.clamp(max=self.capacity)

    def add(self, rows: Tensor, valid: Tensor | None = None) -> None:
        """Append ``rows (R, N, W)``, oldest first; only those with ``valid (R, N)`` if given.

        Of more than `capacity` rows the last remain.
        """
        if valid is None:
            valid = torch.ones(rows.shape[:2], device=rows.device, dtype=torch.bool)
        order = valid.cumsum(1)
        count = order[:, -1:]
        stays = valid & (order > count - self.capacity)
        slot = torch.where(stays, (self.added[:, None] + order - 1) % self.capacity, self.capacity)
        self.rows.scatter_(1, slot[..., None].expand_as(rows), rows)
        self.added += count[:, 0]

    def recent(self, uniform: Tensor, window: int | None = None) -> Tensor:
        """Slots ``(R, N)`` from ``uniform (R, N)`` on [0, 1), over the last `window` rows of each run."""
        held = self.size if window is None else self.size.clamp(max=window)
        age = (uniform * held[:, None]).to(torch.int64).clamp(max=(held - 1).clamp(min=0)[:, None])
        return (self.added[:, None] - 1 - age) % self.capacity

    def gather(self, slots: Tensor) -> Tensor:
        """Rows at ``slots (R, N)``: ``(R, N, W)``."""
        return gather_rows(self.rows, slots)

    def filled(self) -> Tensor:
        """All rows ``(R, N, W)`` when every run holds the same number; a view, in storage order."""
        n = int(self.size.max())
        if int(self.size.min()) != n:
            raise ValueError("runs hold different numbers of rows; gather them by slot")
        return self.rows[:, :n]

    def oldest(self, run: int) -> int:
        """Number of the oldest row that `run` holds; rows are numbered from 0 in the order they were added."""
        return max(int(self.added[run]) - self.capacity, 0)

    def numbered(self, run: int, first: int) -> Iterator[Tensor]:
        """The rows of `run` from number `first`, which it still holds, to its last: pieces ``(n, W)`` on the CPU."""
        added = int(self.added[run])
        while first < added:
            slot = first % self.capacity
            n = min(added - first, self.capacity - slot, _PIECE)
            yield self.rows[run, slot : slot + n].cpu()
            first += n

    def put(self, run: int, first: int, rows: Tensor) -> None:
        """Put ``rows (n, W)``, numbered from `first`, where `add` would have put them; of too many the last remain."""
        skipped = max(len(rows) - self.capacity, 0)
        slots = (torch.arange(skipped, len(rows), device=self.rows.device) + first) % self.capacity
        self.rows[run].index_copy_(0, slots, rows[skipped:].to(self.rows))


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """``rows (R, N, W)`` at ``index (R, M) -> (R, M, W)``: row indices of each run's own table."""
    offset = torch.arange(len(rows), device=rows.device)[:, None] * rows.shape[1]
    flat = rows.reshape(-1, rows.shape[-1]) if rows.is_contiguous() else None
    if flat is None:
        return torch.take_along_dim(rows, index[..., None], dim=1)
    return flat.index_select(0, (index + offset).flatten()).view(*index.shape, rows.shape[-1])
