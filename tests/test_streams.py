"""Random streams: a run's numbers are its own, whoever trains beside it and whatever else is drawn."""

import itertools
import math

import pytest
import torch

from mbpo.streams import Streams, stream_seed

CPU = torch.device("cpu")


def streams(*entropies: str, dtype: torch.dtype = torch.float64) -> Streams:
    return Streams(entropies or ("a", "b", "c"), CPU, dtype)


def draw_all(s: Streams) -> list[torch.Tensor]:
    kinds = [
        s.uniform("u", 4, 2),
        s.normal("n", 3),
        s.below("i", 1_000_000, 5),
        s.permutation("p", 50),
        s.seeds("s", 2),
    ]
    return [*kinds, s.fork("f").normal("n", 3)]


def test_a_run_draws_the_same_alone_and_among_others() -> None:
    together, shuffled, alone = draw_all(streams("a", "b", "c")), draw_all(streams("b", "x")), draw_all(streams("b"))
    for three, two, one in zip(together, shuffled, alone, strict=True):
        assert torch.equal(three[1], one[0]) and torch.equal(two[0], one[0])
        assert not torch.equal(three[0], three[1])


def test_every_draw_starts_with_the_runs() -> None:
    shapes = [(3, 4, 2), (3, 3), (3, 5), (3, 50), (3, 2), (3, 3)]
    assert [tuple(x.shape) for x in draw_all(streams())] == shapes


def test_draws_go_on_and_names_differ() -> None:
    s = streams("a")
    first, second, other = s.uniform("x", 8), s.uniform("x", 8), s.uniform("y", 8)
    assert not torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(torch.cat([first, second], 1), streams("a").uniform("x", 16))


def test_drawing_from_one_stream_moves_no_other() -> None:
    quiet, busy = streams(), streams()
    for name in ("b", "c"):
        busy.uniform(name, 1000)
        busy.permutation(name, 10)
        busy.seeds(name, 3)
    busy.fork("b").normal("a", 100)
    assert torch.equal(quiet.normal("a", 5), busy.normal("a", 5))


def test_global_seed_is_neither_read_nor_moved() -> None:
    torch.manual_seed(1)
    first = draw_all(streams())
    state = torch.get_rng_state()
    torch.manual_seed(2)
    second = draw_all(streams())
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


# Forks


def test_a_fork_depends_on_when_it_was_taken_and_not_on_how_much_it_draws() -> None:
    long, short = streams(), streams()
    a, b = long.fork("fit"), short.fork("fit")
    assert torch.equal(a.normal("n", 5), b.normal("n", 5))
    a.normal("n", 100)
    a.permutation("p", 100)
    second, other = long.fork("fit").normal("n", 5), short.fork("fit").normal("n", 5)
    assert torch.equal(second, other)
    first = streams().fork("fit").normal("n", 5)
    for different in (second, streams().fork("tif").normal("n", 5), streams().normal("n", 5)):
        assert not torch.equal(first, different)


def test_a_fork_keeps_device_dtype_and_runs() -> None:
    fork = streams("a", "b", dtype=torch.float32).fork("f")
    assert fork.uniform("u", 2).dtype == torch.float32 and fork.uniform("u", 2).shape == (2, 2)


# State


def test_restore_continues_exactly() -> None:
    s = streams()
    draw_all(s)
    s.normal("n", 7)  # an odd number, so that a pair of normals is cut in half
    state = s.states()
    expected = draw_all(s) + draw_all(s)
    fresh, used = streams(), streams()
    used.uniform("u", 99)
    for other in (fresh, used, s):
        other.restore(state)
        found = draw_all(other) + draw_all(other)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_saved_state_does_not_move_with_the_streams() -> None:
    s = streams()
    s.uniform("u", 3)
    state = s.states()
    expected = s.uniform("u", 3)
    s.uniform("u", 100)
    s.restore(state)
    assert torch.equal(s.uniform("u", 3), expected)


def test_restore_forgets_streams_begun_after_the_state() -> None:
    s = streams()
    state = s.states()
    first = s.normal("late", 4)
    s.restore(state)
    assert torch.equal(s.normal("late", 4), first)


# Seeds


def test_stream_seed_is_pinned() -> None:
    """Every stored run rests on these numbers: the first 8 bytes of `printf 0/env/0 | sha256sum`, halved."""
    assert stream_seed("0", "env/0") == int.from_bytes(bytes.fromhex("4beb91ff2d592d27"), "little") >> 1
    found = {stream_seed(str(e), n) for e, n in itertools.product(range(100), ("env/0", "env/1", "eval/0/0"))}
    assert len(found) == 300
    assert all(0 <= s < 2**63 for s in found)


def test_environment_seeds_are_reproducible_and_distinct() -> None:
    drawn = streams().seeds("env", 1000)
    assert torch.equal(drawn, streams().seeds("env", 1000))
    assert drawn.dtype == torch.int64
    assert int(drawn.min()) >= 0 and int(drawn.max()) < 2**31
    assert len(drawn.unique()) == drawn.numel()


# Distributions; the bounds are five standard errors


N = 100_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform(dtype: torch.dtype) -> None:
    x = streams(dtype=dtype).uniform("u", N)
    assert x.dtype == dtype
    assert float(x.min()) >= 0.0 and float(x.max()) < 1.0
    assert x.mean(1).tolist() == pytest.approx([0.5] * 3, abs=5 * math.sqrt(1 / 12 / N))
    assert x.var(1).tolist() == pytest.approx([1 / 12] * 3, abs=5 * math.sqrt(1 / 180 / N))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal(dtype: torch.dtype) -> None:
    x = streams(dtype=dtype).normal("n", N)
    assert x.dtype == dtype
    assert x.mean(1).tolist() == pytest.approx([0.0] * 3, abs=5 / math.sqrt(N))
    assert x.var(1).tolist() == pytest.approx([1.0] * 3, abs=5 * math.sqrt(2 / N))
    assert x.pow(4).mean(1).tolist() == pytest.approx([3.0] * 3, abs=5 * math.sqrt(96 / N))
    between = torch.corrcoef(x)
    assert float((between - torch.eye(3)).abs().max()) < 5 / math.sqrt(N)


def test_below_is_uniform_over_all_its_values() -> None:
    x = streams().below("i", 7, N)
    assert x.dtype == torch.int64
    for row in x:
        counts = torch.bincount(row, minlength=7)
        assert len(counts) == 7
        assert counts.tolist() == pytest.approx([N / 7] * 7, abs=5 * math.sqrt(N * 6 / 49))


def test_permutation_is_one_and_all_are_alike() -> None:
    s = streams()
    p = s.permutation("p", 100)
    assert torch.equal(p.sort(1).values, torch.arange(100).expand(3, -1))
    assert not torch.equal(p[0], p[1])
    assert not torch.equal(p, s.permutation("p", 100))
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(600):
        for row in s.permutation("p", 3).tolist():
            counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    assert sorted(counts) == list(itertools.permutations(range(3)))
    assert list(counts.values()) == pytest.approx([300] * 6, abs=5 * math.sqrt(1800 * 5 / 36))
