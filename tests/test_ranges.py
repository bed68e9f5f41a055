"""Ranges of observations left out: the same numbers less those columns, everywhere, and refusals in one sentence."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from mbpo.config import InputError
from mbpo.envs import make_env, task_info
from mbpo.envs.load import load
from mbpo.envs.native import Native, native_of
from mbpo.envs.tasks import group_of

NOISY = "gym:benchmark.toys:NoisySensorsLQR-v0"


class Parts(gymnasium.Env):
    """A Dict of two parts, whose numbers name their place."""

    observation_space = spaces.Dict({name: spaces.Box(-np.inf, np.inf, (3,)) for name in ("a", "b")})
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"a": np.array([0.0, 1.0, 2.0]), "b": np.array([3.0, 4.0, 5.0])}, {}

    def step(self, action):
        return self.reset()[0], 0.0, False, False, {}


class Own(Parts):
    """With a rule of its own."""

    @staticmethod
    def termination(next_obs):
        return next_obs[..., 0] > 9


for kind in (Parts, Own):
    gymnasium.register(f"Ranged{kind.__name__}-v0", kind, max_episode_steps=10)


@pytest.mark.parametrize(
    ("drop", "left", "groups"),
    [
        (("4:8",), range(4), {"position": (0, 2), "velocity": (2, 4)}),
        (("noise",), range(4), {"position": (0, 2), "velocity": (2, 4)}),
        (
            ("1", "5:7"),
            (0, 2, 3, 4, 7),
            {"position[0:1]": (0, 1), "velocity": (1, 3), "noise[0:1]": (3, 4), "noise[3:4]": (4, 5)},
        ),
        (("3:5", "4:6"), (0, 1, 2, 6, 7), {"position": (0, 2), "velocity[0:1]": (2, 3), "noise[2:4]": (3, 5)}),
    ],
)
def test_a_box_without_ranges(drop, left, groups):
    whole, less = make_env(NOISY), make_env(NOISY, drop)
    for a, b in (
        (whole.reset(seed=3)[0], less.reset(seed=3)[0]),
        (whole.step(np.ones(2))[0], less.step(np.ones(2))[0]),
    ):
        assert np.array_equal(a[list(left)], b)
    assert less.info.groups == groups and less.info.drop == drop and less.info.obs_dim == len(left)
    names = [group_of(less.info.groups, i) for i in range(len(left))]
    assert names == [group_of(whole.info.groups, i) for i in left], "dimensions keep the names they have in the whole"


@pytest.mark.parametrize(
    ("drop", "left"), [(("1:4",), [0, 4, 5]), (("a",), [3, 4, 5]), (("a", "5"), [3, 4]), (("0", "b"), [1, 2])]
)
def test_a_dict_without_ranges_and_its_policies(drop, left):
    env, native = make_env("gym:RangedParts-v0", drop), native_of("gym:RangedParts-v0", drop)
    assert env.reset(seed=0)[0].tolist() == left
    raw, _ = load("gym:RangedParts-v0").reset(seed=0)
    assert native.flat(raw).tolist() == left and native.obs_dim == len(left)
    assert Native.from_json(native.to_json()) == native


def test_policies_of_a_box_read_the_same_columns():
    raw, _ = load(NOISY).reset(seed=1)
    assert np.array_equal(native_of(NOISY, ("1", "5:7")).flat(raw), make_env(NOISY, ("1", "5:7")).reset(seed=1)[0])


@pytest.mark.parametrize(
    ("task", "drop", "words"),
    [
        (NOISY, ("7:9",), "--drop 7:9: ranges of its 8 observations lie within 0:8"),
        (NOISY, ("3:3",), "--drop 3:3: ranges of its 8 observations lie within 0:8"),
        (NOISY, ("0:8",), "leaves no observation"),
        (NOISY, ("nosie",), "did you mean 'noise'.*a range of its 8 observations is written 3:7"),
        ("gym:Hopper-v5", ("10:11",), r"'10:11' cannot be dropped, its termination rule \(hopper\) reads it"),
        ("gym:RangedOwn-v0", ("5",), "its own `termination` function takes the full observation"),
    ],
)
def test_what_cannot_be_left_out(task, drop, words):
    with pytest.raises(InputError, match=words):
        task_info(task, drop)
