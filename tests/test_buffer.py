"""The replay buffer against one Python deque a run, and the packed rows against their fields."""

import math
import random
from collections import deque

import pytest
import torch
from torch import Tensor

from mbpo.buffer import Layout, ReplayBuffer, gather_rows

CPU = torch.device("cpu")
LAYOUT = Layout(3, 2)
F64 = torch.float64


def buffer(runs: int, capacity: int, layout: Layout = LAYOUT) -> ReplayBuffer:
    made = ReplayBuffer(runs, capacity, layout, CPU, F64)
    made.rows.fill_(math.nan)  # what is read without having been written shows
    return made


def numbered(runs: int, n: int, first: int = 0) -> Tensor:
    """Rows that name themselves: run r's i-th row holds 1000 r + first + i in every column."""
    names = 1000.0 * torch.arange(runs, dtype=F64)[:, None] + first + torch.arange(n, dtype=F64)
    return names[..., None].expand(-1, -1, LAYOUT.width).contiguous()


def newest_first(held: ReplayBuffer, run: int, n: int) -> list[float]:
    """The newest n rows of a run by their names, read through `recent`."""
    size = int(held.size[run])
    middles = (torch.arange(n, dtype=F64) + 0.5) / size
    rows = held.gather(held.recent(middles.expand(len(held.added), -1)))[run]
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    return rows[:, 0].tolist()


# Rows


def test_layout_of_a_packed_row_by_hand() -> None:
    row = torch.arange(10.0)  # obs 0 1 2, action 3 4, next_obs 5 6 7, reward 8, mask 9
    assert LAYOUT.width == 10
    assert LAYOUT.obs(row).tolist() == [0, 1, 2]
    assert LAYOUT.action(row).tolist() == [3, 4]
    assert LAYOUT.inputs(row).tolist() == [0, 1, 2, 3, 4]
    assert LAYOUT.next_obs(row).tolist() == [5, 6, 7]
    assert LAYOUT.targets(row).tolist() == [5, 6, 7, 8]
    assert (LAYOUT.reward(row).item(), LAYOUT.mask(row).item()) == (8, 9)


def test_pack_and_unpack_are_inverse() -> None:
    g = torch.Generator().manual_seed(0)
    obs, action, next_obs = (torch.randn(2, 4, n, generator=g) for n in (3, 2, 3))
    reward = torch.randn(2, 4, generator=g)
    terminated = torch.rand(2, 4, generator=g) < 0.5
    rows = LAYOUT.pack(obs, action, next_obs, reward, (~terminated).float())
    assert rows.shape == (2, 4, LAYOUT.width)
    for given, field in [
        (obs, LAYOUT.obs),
        (action, LAYOUT.action),
        (next_obs, LAYOUT.next_obs),
        (reward, LAYOUT.reward),
    ]:
        assert torch.equal(field(rows), given)
    assert torch.equal(LAYOUT.mask(rows) == 0, terminated)
    assert torch.equal(LAYOUT.inputs(rows), torch.cat([obs, action], -1))
    assert torch.equal(LAYOUT.targets(rows), torch.cat([next_obs, reward[..., None]], -1))


@pytest.mark.parametrize("whole", [True, False])
def test_gather_rows_reads_each_run_from_its_own_table(whole: bool) -> None:
    table = torch.arange(24.0).view(2, 4, 3)
    rows = table if whole else torch.arange(48.0).view(2, 8, 3)[:, ::2]
    index = torch.tensor([[3, 0, 0], [1, 2, 3]])
    expected = torch.stack([rows[r, index[r]] for r in range(2)])
    assert rows.is_contiguous() == whole
    assert torch.equal(gather_rows(rows, index), expected)


# First in, first out


def test_a_batch_that_does_not_divide_the_capacity_wraps() -> None:
    held = buffer(1, 7)
    for first in (0, 3, 6):
        held.add(numbered(1, 3, first))
    assert held.size.tolist() == [7]
    assert newest_first(held, 0, 7) == [8, 7, 6, 5, 4, 3, 2]
    assert sorted(held.filled()[0, :, 0].tolist()) == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("n", [7, 8, 13, 14, 22])
def test_of_a_batch_longer_than_the_capacity_the_last_rows_stay(n: int) -> None:
    held = buffer(2, 7)
    held.add(numbered(2, 2, 500))
    held.add(numbered(2, n))
    for r in range(2):
        assert newest_first(held, r, 7) == [1000 * r + n - 1 - i for i in range(7)]
        # Older ones go to the spare row: a slot written twice at once has no certain content on a GPU.
        spare = float(held.rows[r, 7, 0])
        assert spare in [1000 * r + i for i in range(n - 7)] or (n == 7 and math.isnan(spare))


def test_rows_that_are_not_valid_leave_no_trace() -> None:
    held = buffer(2, 5)
    rows = numbered(2, 4)
    valid = torch.tensor([[True, False, True, False], [False, False, False, True]])
    rows[~valid] = math.inf
    held.add(rows, valid)
    held.add(rows, torch.zeros_like(valid))
    assert held.size.tolist() == [2, 1]
    assert newest_first(held, 0, 2) == [2, 0]
    assert newest_first(held, 1, 1) == [1003]


@pytest.mark.parametrize("seed", range(20))
def test_random_insertions_against_a_deque(seed: int) -> None:
    rng = random.Random(seed)
    runs, capacity = rng.randint(1, 4), rng.randint(1, 12)
    held, models = buffer(runs, capacity), [deque[float](maxlen=capacity) for _ in range(runs)]
    added = 0
    for _ in range(25):
        n = rng.randint(1, 2 * capacity + 3)
        rows = numbered(runs, n, added)
        added += n
        share = rng.choice([0.0, 0.3, 0.9, 1.0])
        valid = torch.tensor([[rng.random() < share for _ in range(n)] for _ in range(runs)])
        if share == 1.0 and rng.random() < 0.5:
            held.add(rows)
        else:
            held.add(torch.where(valid[..., None], rows, torch.full_like(rows, math.nan)), valid)
        for r, model in enumerate(models):
            model.extend(rows[r, valid[r], 0].tolist())
            assert int(held.size[r]) == len(model)
            if model:
                assert newest_first(held, r, len(model)) == list(model)[::-1]


# Drawing


def test_recent_keeps_to_the_window() -> None:
    held = buffer(1, 10)
    held.add(numbered(1, 23))
    edges = torch.tensor([[0.0, 0.249, 0.25, 0.5, 0.75, 1 - 1e-12]], dtype=F64)
    assert held.gather(held.recent(edges, window=4))[0, :, 0].tolist() == [22, 22, 21, 20, 19, 19]
    assert held.gather(held.recent(edges[:, [0, -1]]))[0, :, 0].tolist() == [22, 13]
    assert held.gather(held.recent(edges[:, [0, -1]], window=99))[0, :, 0].tolist() == [22, 13]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 1000, 4095, 4097])
def test_the_ends_of_a_float32_uniform_are_the_newest_and_the_oldest_row(n: int) -> None:
    held = ReplayBuffer(1, 5000, Layout(0, 0), CPU, torch.float32)
    held.added += n
    ends = torch.tensor([[0.0, 1 - 2**-24]], dtype=torch.float32)
    assert held.recent(ends).tolist() == [[n - 1, 0]]


def test_each_run_draws_over_its_own_rows() -> None:
    held = buffer(2, 8)
    held.add(numbered(2, 8), torch.tensor([[True] * 8, [True] * 3 + [False] * 5]))
    drawn = held.gather(held.recent(torch.rand(2, 500, dtype=F64, generator=torch.Generator().manual_seed(0))))[..., 0]
    assert sorted(set(drawn[0].tolist())) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert sorted(set(drawn[1].tolist())) == [1000, 1001, 1002]


@pytest.mark.parametrize("window", [None, 6])
def test_drawing_is_uniform_after_a_wrap(window: int | None) -> None:
    """30,000 draws over 9 or 6 rows; the bound is five standard errors of a count."""
    held, n = buffer(1, 9), 30_000
    held.add(numbered(1, 14))
    uniform = torch.rand(1, n, dtype=F64, generator=torch.Generator().manual_seed(0))
    names = held.gather(held.recent(uniform, window))[0, :, 0].long()
    kept = window or 9
    counts = torch.bincount(names, minlength=14)
    assert counts[: 14 - kept].tolist() == [0] * (14 - kept)
    p = 1 / kept
    assert counts[14 - kept :].tolist() == pytest.approx([n * p] * kept, abs=5 * math.sqrt(n * p * (1 - p)))


def test_filled_is_all_rows_and_refuses_unequal_runs() -> None:
    held = buffer(2, 5)
    held.add(numbered(2, 3))
    assert held.filled()[..., 0].tolist() == [[0, 1, 2], [1000, 1001, 1002]]
    held.add(numbered(2, 1, 3), torch.tensor([[True], [False]]))
    with pytest.raises(ValueError, match="different numbers of rows"):
        held.filled()


# State


@pytest.mark.parametrize("n", [3, 7, 16])
@pytest.mark.parametrize("cuts", [[], [2], [1, 9, 10]])
def test_rows_put_back_by_number_continue_exactly(n: int, cuts: list[int]) -> None:
    """Read out piece by piece as the buffer fills and wraps, and put into another one from the oldest on."""
    held, other = buffer(2, 7), buffer(2, 7)
    kept: list[list[tuple[int, torch.Tensor]]] = [[], []]
    valid = torch.rand(2, n, generator=torch.Generator().manual_seed(n)) < 0.8
    ends = [cut for cut in cuts if cut < n] + [n]
    for first, last in zip([0, *ends], ends, strict=False):
        before = held.added.clone()
        held.add(numbered(2, n)[:, first:last], valid[:, first:last])
        for r in range(2):
            number = max(int(before[r]), held.oldest(r))
            for piece in held.numbered(r, number):
                kept[r].append((number, piece.clone()))
                number += len(piece)
    for r in range(2):
        for number, piece in kept[r]:
            other.put(r, number, piece)
    other.added.copy_(held.added)
    for each in (held, other):
        each.add(numbered(2, 4, 100))
    assert torch.equal(held.size, other.size)
    for r in range(2):
        k = int(held.size[r])
        assert newest_first(held, r, k) == newest_first(other, r, k)
