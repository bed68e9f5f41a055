import itertools
import subprocess
import sys
from collections import OrderedDict

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from mbpo.config import InputError
from mbpo.envs import EnvBatch, known_tasks, make_env, task_info

HOPPER = {"position": (0, 6), "velocity": (6, 13), "touch": (13, 15)}
HUMANOID = {
    "joint_angles": (0, 21),
    "head_height": (21, 22),
    "extremities": (22, 34),
    "torso_vertical": (34, 37),
    "com_velocity": (37, 40),
    "velocity": (40, 67),
}
QUADRUPED = {
    "egocentric_state": (0, 44),
    "torso_velocity": (44, 47),
    "torso_upright": (47, 48),
    "imu": (48, 54),
    "force_torque": (54, 78),
}
WALKER = {"orientations": (0, 14), "height": (14, 15), "velocity": (15, 24)}
SHAPES = [
    *[(f"dmc:hopper-{task}", 15, 4, HOPPER) for task in ("hop", "stand")],
    *[(f"dmc:humanoid-{task}", 67, 21, HUMANOID) for task in ("stand", "walk", "run")],
    *[(f"dmc:quadruped-{task}", 78, 12, QUADRUPED) for task in ("walk", "run")],
    *[(f"dmc:walker-{task}", 24, 6, WALKER) for task in ("walk", "run")],
    ("dmc:cheetah-run", 17, 6, {"position": (0, 8), "velocity": (8, 17)}),
    ("gym:InvertedPendulum-v5", 4, 1, {"qpos": (0, 2), "qvel": (2, 4)}),
    ("gym:Hopper-v5", 11, 3, {"qpos": (0, 5), "qvel": (5, 11)}),
    ("gym:Walker2d-v5", 17, 6, {"qpos": (0, 8), "qvel": (8, 17)}),
    ("gym:HalfCheetah-v5", 17, 6, {"qpos": (0, 8), "qvel": (8, 17)}),
    ("gym:Ant-v5", 105, 8, {"qpos": (0, 13), "qvel": (13, 27), "cfrc_ext": (27, 105)}),
    ("gym:AntTruncatedObs-v5", 27, 8, {"qpos": (0, 13), "qvel": (13, 27)}),
    ("gym:HumanoidTruncatedObs-v5", 45, 17, {"qpos": (0, 22), "qvel": (22, 45)}),
    (
        *("gym:Humanoid-v5", 348, 17),
        {
            "qpos": (0, 22),
            "qvel": (22, 45),
            "cinert": (45, 175),
            "cvel": (175, 253),
            "qfrc_actuator": (253, 270),
            "cfrc_ext": (270, 348),
        },
    ),
    ("gym:MountainCarContinuous-v0", 2, 1, {"obs": (0, 2)}),
]


class Toy(gymnasium.Env):
    """Shows its step count as every observation entry, unless told what to show at a step."""

    def __init__(self, observation_space=None, action_space=None, shown=None, rewards=None):
        three = spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.observation_space = three if observation_space is None else observation_space
        self.action_space = action_space or spaces.Box(-1, 1, (2,), np.float32)
        self.shown, self.rewards = shown or {}, rewards or {}
        self.given = []

    def _observe(self):
        return self.shown[self.t] if self.t in self.shown else np.full(self.observation_space.shape, float(self.t))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.given = 0, []
        return self._observe(), {}

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.given.append(action)
        self.t += 1
        return self._observe(), self.rewards.get(self.t, 0.0), False, False, {}


class Unseeded(Toy):
    def _observe(self):
        return np.random.default_rng().normal(size=3)


NUMBERS = itertools.count()


@pytest.fixture
def toy():
    """Registers a Toy of the given arguments under a fresh id."""
    made = []

    def register(entry=Toy, limit=None, **kwargs):
        made.append(f"Toy{next(NUMBERS)}-v0")
        gymnasium.register(made[-1], entry, kwargs=kwargs, max_episode_steps=limit)
        return f"gym:{made[-1]}"

    yield register
    for name in made:
        del gymnasium.registry[name]


def actions_for(info, steps, n, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).uniform(-1, 1, (steps, n, info.action_dim))).astype(np.float32)


def run(batch, actions):
    """Everything that `actions` (T, n, A) bring."""
    return [np.stack(part) for part in zip(*(batch.step(a) for a in actions), strict=True)]


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)


# What a task looks like


@pytest.mark.parametrize("task, obs_dim, action_dim, groups", SHAPES, ids=[s[0] for s in SHAPES])
def test_dimensions_and_groups(task, obs_dim, action_dim, groups):
    info = task_info(task)
    assert (info.obs_dim, info.action_dim, info.groups) == (obs_dim, action_dim, groups)
    assert list(info.groups) == list(groups)


def test_known_tasks_start_with_the_papers_seven():
    seven = [task for task, *_ in SHAPES[:7]]
    assert sorted(known_tasks()[:7]) == sorted(seven)
    assert len(known_tasks()) == len(set(known_tasks())) == 15 + 8


@pytest.mark.parametrize("task", known_tasks())
def test_every_known_task_keeps_its_promises(task):
    env = make_env(task)
    assert task_info(task).time_limit == 1000
    assert env.action_space == spaces.Box(-1, 1, (env.info.action_dim,), np.float32)
    obs, _ = env.reset(seed=0)
    seen = [obs]
    for value in (1.0, -1.0, 0.0):
        obs, reward, terminated, truncated, _ = env.step(np.full(env.info.action_dim, value, np.float32))
        seen.append(obs)
        assert type(reward) is float and type(terminated) is bool and truncated is False
    for obs in seen:
        assert obs.dtype == np.float32 and env.observation_space.contains(obs)
    assert not np.array_equal(seen[0], seen[1])


@pytest.mark.parametrize("task", ["dmc:hopper-hop", "dmc:pendulum-swingup", "gym:HalfCheetah-v5"])
def test_time_limit_truncates_and_does_not_terminate(task):
    batch = EnvBatch(task, 1)
    batch.reset([0])
    _, _, terminated, truncated = run(batch, actions_for(batch.info, 1000, 1))
    assert not terminated.any()
    assert truncated[:, 0].tolist() == [False] * 999 + [True]


def test_termination_is_not_truncation():
    batch = EnvBatch("gym:InvertedPendulum-v5", 1)
    batch.reset([0])
    for _ in range(50):
        next_obs, _, terminated, truncated = batch.step(np.ones((1, 1)))
        assert not truncated[0]
        if terminated[0]:
            break
    assert terminated[0] and abs(next_obs[0, 1]) > 0.2


@pytest.mark.parametrize("discount, terminated", [(0.0, True), (1.0, False)])
def test_a_dm_control_end_terminates_only_with_discount_0(discount, terminated):
    env = make_env("dmc:pendulum-swingup")
    env.reset(seed=0)
    env.unwrapped._env.task.get_termination = lambda physics: discount
    assert env.step(np.zeros(1, np.float32))[2:4] == (terminated, not terminated)


# The numbers are the simulator's own


@pytest.mark.parametrize("task", ["hopper-hop", "quadruped-walk", "humanoid-stand", "reacher-hard", "swimmer-swimmer6"])
def test_dm_control_episode_equals_a_freshly_loaded_one(task):
    from dm_control import suite

    def flat(step):
        return np.concatenate([np.ravel(part) for part in step.observation.values()]).astype(np.float32)

    env = make_env(f"dmc:{task}")
    domain, _, level = task.partition("-")
    reference = suite.load(domain, level, task_kwargs={"random": 11})
    spec = reference.action_spec()
    env.reset(seed=5)
    env.step(np.ones(env.info.action_dim, np.float32))
    np.testing.assert_array_equal(env.reset(seed=11)[0], flat(reference.reset()))
    for action in actions_for(env.info, 25, 1)[:, 0]:
        half, middle = spec.maximum / 2 - spec.minimum / 2, spec.maximum / 2 + spec.minimum / 2
        expected = reference.step(half * action + middle)
        obs, reward, *_ = env.step(action)
        np.testing.assert_array_equal(obs, flat(expected))
        assert reward == expected.reward


def test_actions_span_the_bounds_of_every_actuator():
    quadruped = make_env("dmc:quadruped-walk")
    quadruped.reset(seed=0)
    physics, spec = quadruped.unwrapped._env.physics, quadruped.unwrapped._env.action_spec()
    assert spec.minimum.min() == -1.0 and spec.maximum.max() == 1.1
    humanoid = make_env("gym:Humanoid-v5")
    humanoid.reset(seed=0)
    for value, low_high in ((1.0, spec.maximum), (-1.0, spec.minimum), (0.0, (spec.minimum + spec.maximum) / 2)):
        quadruped.step(np.full(12, value, np.float32))
        np.testing.assert_allclose(physics.data.ctrl, low_high, rtol=0, atol=1e-12)
        humanoid.step(np.full(17, value, np.float32))
        np.testing.assert_allclose(humanoid.unwrapped.data.ctrl, 0.4 * value, rtol=1e-6)


def test_rescaled_actions_never_leave_the_bounds(toy):
    low = np.array([[-1 / 3, 0.1], [-7.7, -0.7]], np.float32)
    high = np.array([[1.1, 0.7], [-0.3, 1e-3]], np.float32)
    env = make_env(toy(action_space=spaces.Box(low, high)))  # asserts `contains`, and a shape of (2, 2)
    env.reset(seed=0)
    for action in actions_for(env.info, 200, 1, scale=1.5)[:, 0]:
        env.step(action)
    env.step(np.array([1, -1, 0, 9], np.float32))
    np.testing.assert_allclose(env.unwrapped.given[-1], [[1.1, 0.1], [-4.0, 1e-3]], rtol=1e-6)


def test_dict_observation_is_flattened_in_name_order(toy):
    box = spaces.Box(-np.inf, np.inf, (2, 2), np.float64)
    parts = OrderedDict(wheel=box, arm=spaces.Box(-1, 1, (), np.float32), eye=spaces.Box(0, 255, (2,), np.uint8))
    shown = {0: {"wheel": np.array([[1.0, 2], [3, 4]]), "arm": np.float32(0.5), "eye": np.array([8, 9], np.uint8)}}
    task = toy(observation_space=spaces.Dict(parts), shown=shown)
    env = make_env(task)
    assert env.reset(seed=0)[0].tolist() == [0.5, 8, 9, 1, 2, 3, 4]
    assert task_info(task).groups == {"arm": (0, 1), "eye": (1, 3), "wheel": (3, 7)}
    assert make_env(task, ["eye"]).reset(seed=0)[0].tolist() == [0.5, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "task, drop, gone",
    [
        ("dmc:hopper-hop", ("touch",), range(13, 15)),
        ("dmc:humanoid-walk", ("velocity", "head_height"), [21, *range(40, 67)]),
        ("gym:Ant-v5", ("cfrc_ext",), range(27, 105)),
        ("gym:Humanoid-v5", ("cinert", "qfrc_actuator"), [*range(45, 175), *range(253, 270)]),
    ],
)
def test_drop_removes_exactly_its_dimensions(task, drop, gone):
    whole, less = make_env(task), make_env(task, drop)
    action = np.full(whole.info.action_dim, 0.3, np.float32)
    for full, part in (
        (whole.reset(seed=3)[0], less.reset(seed=3)[0]),
        (whole.step(action)[0], less.step(action)[0]),
    ):
        np.testing.assert_array_equal(part, np.delete(full, list(gone)))
    assert set(less.info.groups) == set(whole.info.groups) - set(drop)
    ends = [stop for _, stop in less.info.groups.values()]
    assert [start for start, _ in less.info.groups.values()] == [0, *ends[:-1]]
    assert ends[-1] == less.info.obs_dim == whole.info.obs_dim - len(gone)
    assert less.info.drop == drop


def test_truncated_ant_is_ant_without_contact_forces():
    left, right = EnvBatch("gym:AntTruncatedObs-v5", 1), EnvBatch("gym:Ant-v5", 1, ("cfrc_ext",))
    np.testing.assert_array_equal(left.reset([0]), right.reset([0]))
    actions = actions_for(left.info, 20, 1)
    assert_same(run(left, actions), run(right, actions))


# An episode follows from its seed and its actions

# Random actions in size and number such that no episode ends; reacher and swimmer move their targets in the model.
REPLAYED = [
    ("dmc:hopper-hop", 60, 1.0),
    ("dmc:quadruped-walk", 60, 1.0),
    ("dmc:reacher-hard", 30, 1.0),
    ("dmc:swimmer-swimmer6", 30, 1.0),
    ("gym:Hopper-v5", 60, 0.1),
    ("gym:InvertedPendulum-v5", 9, 0.03),
]
replayed = pytest.mark.parametrize("task, steps, scale", REPLAYED, ids=[task for task, *_ in REPLAYED])


@replayed
def test_episode_follows_from_seed_and_actions(task, steps, scale):
    env, fresh = EnvBatch(task, 1), EnvBatch(task, 1)
    actions = actions_for(env.info, steps, 1, scale=scale)
    first = env.reset([7])
    expected = run(env, actions)
    env.reset([8])
    run(env, actions_for(env.info, steps // 3, 1, seed=3, scale=scale))
    for batch in (env, fresh):
        np.testing.assert_array_equal(batch.reset([7]), first)
        assert_same(run(batch, actions), expected)


@replayed
def test_resume_in_mid_episode_is_bit_identical(task, steps, scale):
    batch, other = EnvBatch(task, 3), EnvBatch(task, 3)
    actions, third = actions_for(batch.info, steps, 3, scale=scale), steps // 3
    batch.reset([1, 2, 3])
    run(batch, actions[:third])
    batch.reset([4], which=[1])  # episodes of unequal age
    obs = run(batch, actions[third : 2 * third])[0][-1]
    state = batch.state()
    assert [(s["seed"], len(s["actions"])) for s in state] == [(1, 2 * third), (4, third), (3, 2 * third)]

    other.reset([9, 9, 9])
    run(other, actions[:2])
    np.testing.assert_array_equal(other.restore(state), obs)
    assert_same(run(batch, actions[2 * third :]), run(other, actions[2 * third :]))
    assert_same(*([s["actions"] for s in b.state()] for b in (batch, other)))


def test_state_is_untouched_by_later_use(toy):
    batch = EnvBatch(toy(), 1)
    batch.reset([0])
    action = np.full((1, 2), 0.5, np.float32)
    obs, *_ = batch.step(action)
    state = batch.state()
    action[:] = 0.0
    obs[:] = -1.0
    batch.step(action)
    assert state[0]["actions"].tolist() == [[0.5, 0.5]] and state[0]["obs"].tolist() == [1, 1, 1]
    np.testing.assert_array_equal(batch.state()[0]["actions"], [[0.5, 0.5], [0.0, 0.0]])
    assert batch._simulators.envs[0].unwrapped.given[0].tolist() == [0.5, 0.5]


def test_restore_notices_an_environment_that_does_not_follow_its_seed(toy):
    batch = EnvBatch(toy(Unseeded), 1)
    batch.reset([0])
    batch.step(np.zeros((1, 2)))
    with pytest.raises(InputError, match="replaying 1 actions from seed 0 led elsewhere"):
        batch.restore(batch.state())


@pytest.mark.parametrize("task", ["dmc:hopper-hop", "gym:Hopper-v5"])
def test_seeds_give_distinct_starts_and_equal_seeds_equal_ones(task):
    start = EnvBatch(task, 4).reset([0, 1, 2, 1])
    np.testing.assert_array_equal(start[1], start[3])
    assert len(np.unique(start, axis=0)) == 3


def test_an_environment_does_not_depend_on_its_neighbours():
    batch, alone = EnvBatch("dmc:hopper-stand", 3), EnvBatch("dmc:hopper-stand", 1)
    actions = actions_for(batch.info, 20, 3)
    batch.reset([5, 6, 7])
    alone.reset([6])
    together = run(batch, actions)
    assert_same([part[:, 1:2] for part in together], run(alone, actions[:, 1:2]))


# The batch


def test_which_steps_and_resets_only_its_rows(toy):
    batch = EnvBatch(toy(), 3)
    batch.reset([0, 0, 0])
    next_obs, reward, terminated, truncated = batch.step(np.zeros((2, 2)), which=[2, 0])
    assert next_obs.tolist() == [[1] * 3] * 2
    assert (reward.shape, terminated.shape, truncated.shape) == ((2,), (2,), (2,))
    assert (next_obs.dtype, reward.dtype, terminated.dtype, truncated.dtype) == (np.float32, np.float64, bool, bool)
    assert batch.reset([5], which=[0]).tolist() == [[0] * 3]
    assert [s["obs"].tolist() for s in batch.state()] == [[0] * 3, [0] * 3, [1] * 3]
    assert [len(s["actions"]) for s in batch.state()] == [0, 0, 1]


def test_results_are_fresh_memory():
    batch = EnvBatch("gym:InvertedPendulum-v5", 2)
    results = [batch.reset([0, 1])]
    kept = [results[0].copy()]
    for _ in range(3):
        results.append(batch.step(np.full((2, 1), 0.1))[0])
        kept.append(results[-1].copy())
    assert_same(results, kept)


def test_an_ended_episode_is_not_stepped_on(toy):
    batch = EnvBatch(toy(limit=2), 2)
    with pytest.raises(ValueError, match="environment 0 has ended"):
        batch.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="before every environment was reset"):
        batch.state()
    batch.reset([0, 0])
    batch.step(np.zeros((2, 2)))
    assert batch.step(np.zeros((1, 2)), which=[1])[3].tolist() == [True]
    with pytest.raises(ValueError, match="environment 1 has ended"):
        batch.step(np.zeros((2, 2)))
    batch.step(np.zeros((1, 2)), which=[0])
    with pytest.raises(ValueError, match=r"shape \(1, 3\), expected \(2, 2\)"):
        batch.step(np.zeros((1, 3)))


def test_reading_a_task_does_not_import_torch():
    code = "import sys; from mbpo.envs import *; [task_info(t) for t in ('dmc:hopper-hop', 'gym:Hopper-v5')]"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=True, timeout=600)


# Bad input


@pytest.mark.parametrize(
    "task, drop, message",
    [
        ("hopper-hop", (), r"task 'hopper-hop' does not say its suite: write e\.g\. 'dmc:hopper-hop'"),
        ("Hopper-v4", (), r"does not say its suite: write e\.g\. 'gym:Hopper-v5'"),
        ("", (), r"write e\.g\. 'dmc:hopper-hop'"),
        ("dm:hopper-hop", (), "unknown suite 'dm'; did you mean 'dmc'?"),
        ("dmc:hopper-hopp", (), "unknown task 'dmc:hopper-hopp'; did you mean 'dmc:hopper-hop'?"),
        ("dmc:qqqq", (), "unknown task 'dmc:qqqq'; known: hopper-hop, "),
        ("gym:Hoper-v5", (), "unknown task 'gym:Hoper-v5'; did you mean 'gym:Hopper-v5'?"),
        ("gym:Hopper-v2", (), "gym:Hopper-v2"),
        ("gym:nowhere:Env-v0", (), "module 'nowhere' does not import: No module named 'nowhere'"),
        ("gym::Hopper-v5", (), "module '' does not import"),
        ("gym:CartPole-v1", (), "has a Discrete action space: a Box of real numbers is needed"),
        ("dmc:lqr-lqr_2_1", (), "action 0 is unbounded"),
        ("dmc:hopper-hop", ("tuch",), "no observation group 'tuch' to drop; did you mean 'touch'?"),
        ("dmc:hopper-hop", "toes", "no observation group 'toes' to drop"),
        ("dmc:hopper-hop", ("touch", "velocity", "position"), "leaves no observation"),
        ("gym:Hopper-v5", ("qvel",), r"'qvel' cannot be dropped, its termination rule \(hopper\) reads it"),
        ("gym:Ant-v5", ("qpos",), r"'qpos' cannot be dropped, its termination rule \(ant\) reads it"),
    ],
)
def test_bad_task_is_refused_in_one_sentence(task, drop, message):
    for call in (task_info, make_env):
        with pytest.raises(InputError, match=message) as refusal:
            call(task, drop)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"action_space": spaces.MultiDiscrete([2, 3])}, "has a MultiDiscrete action space"),
        ({"action_space": spaces.Box(0, 3, (2,), np.int64)}, "has a Box of int64 action space"),
        ({"action_space": spaces.Dict(a=spaces.Box(-1, 1))}, "has a Dict action space"),
        ({"action_space": spaces.Box(-1, np.inf, (2,))}, "action 0 is unbounded"),
        ({"action_space": spaces.Box(np.array([-1, -np.inf]), 1.0, dtype=np.float64)}, "action 1 is unbounded"),
        ({"action_space": spaces.Box(-1, 1, (0,))}, "has no actions"),
        ({"observation_space": spaces.Discrete(4)}, "has a Discrete observation space: a Box or a Dict of Boxes"),
        ({"observation_space": spaces.Tuple([spaces.Box(0, 1)])}, "has a Tuple observation space"),
        ({"observation_space": spaces.Dict(a=spaces.Discrete(3))}, "observation 'a' is a Discrete, a Box is needed"),
        ({"observation_space": spaces.Box(-1, 1, (0,))}, "observation has 0 dimensions"),
        ({"observation_space": spaces.Dict()}, "observation has 0 dimensions"),
    ],
)
def test_spaces_that_do_not_fit_are_refused(toy, kwargs, message):
    with pytest.raises(InputError, match=message):
        task_info(toy(**kwargs))


LIMBS = spaces.Dict({name: spaces.Box(-np.inf, np.inf, (2,), np.float64) for name in ("arm", "leg")})
FINE, BAD = ({"arm": np.zeros(2), "leg": np.array([0.0, entry])} for entry in (0.0, np.inf))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"shown": {0: np.array([0, np.nan, np.inf])}}, r"observation 1 \(obs\[1\]\) is nan at reset"),
        ({"shown": {2: np.array([0, 0, -np.inf])}}, r"observation 2 \(obs\[2\]\) is -inf at step 2"),
        ({"observation_space": LIMBS, "shown": {0: FINE, 1: BAD}}, r"observation 3 \(leg\[1\]\) is inf at step 1"),
        ({"rewards": {1: np.nan}}, "reward is nan at step 1"),
        ({"shown": {0: np.zeros(4)}}, r"the observation has shape \(4,\) at reset, its space says \(3,\)"),
        ({"observation_space": LIMBS, "shown": {0: {"arm": np.zeros(2)}}}, "observation 'leg' is missing at reset"),
        (
            {"observation_space": LIMBS, "shown": {0: {"arm": np.zeros(2), "leg": 0.0}}},
            r"observation 'leg' has shape \(\) at reset, its space says \(2,\)",
        ),
    ],
)
def test_what_is_not_finite_or_not_as_promised_is_named(toy, kwargs, message):
    batch = EnvBatch(toy(**kwargs), 1)
    with pytest.raises(InputError, match=message):
        batch.reset([0])
        run(batch, np.zeros((3, 1, 2)))


def test_huge_but_finite_observations_pass(toy):
    batch = EnvBatch(toy(shown={0: np.array([1e30, -1e30, 0])}), 1)
    assert np.isfinite(batch.reset([0])).all()


def test_bad_actions_seeds_and_states_are_refused(toy):
    batch = EnvBatch(toy(), 2)
    batch.reset([0, 0])
    with pytest.raises(InputError, match="action 1 of environment 1 is nan"):
        batch.step(np.array([[0, 0], [0, np.nan]]))
    with pytest.raises(InputError, match="seed = -1"):
        batch.reset([-1], which=[0])
    with pytest.raises(InputError, match="a state of 1 environments does not fit a batch of 2"):
        batch.restore(batch.state()[:1])
    with pytest.raises(InputError, match="a batch of 0 environments"):
        EnvBatch("dmc:hopper-hop", 0)


def test_diverged_simulation_is_named():
    env = make_env("dmc:pendulum-swingup")
    env.reset(seed=0)
    env.step(np.zeros(1, np.float32))
    env.unwrapped._env.physics.data.qvel[:] = np.nan
    with pytest.raises(InputError, match="task 'dmc:pendulum-swingup': simulation diverged at step 2"):
        env.step(np.zeros(1, np.float32))


def test_a_module_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    source = """
        import gymnasium, numpy as np
        class Still(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
            action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)
            def reset(self, *, seed=None, options=None): return np.zeros(2, np.float32), {}
            def step(self, action): return np.zeros(2, np.float32), float(action[0]), False, False, {}
        gymnasium.register("Still-v0", Still, max_episode_steps=7)
    """
    (tmp_path / "still_life.py").write_text("\n".join(line[8:] for line in source.splitlines()))
    (tmp_path / "broken_life.py").write_text("import this_is_not_installed")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    info = task_info("gym:still_life:Still-v0")
    assert (info.obs_dim, info.action_dim, info.time_limit, info.termination) == (2, 1, 7, "never")
    batch = EnvBatch("gym:still_life:Still-v0", 1)
    batch.reset([0])
    assert batch.step(np.ones((1, 1)))[1].tolist() == [2.0]
    with pytest.raises(InputError, match="'broken_life' does not import: No module named 'this_is_not_installed'"):
        task_info("gym:broken_life:Still-v0")
    with pytest.raises(InputError, match="did you mean 'gym:still_life:Still-v0'"):
        task_info("gym:still_life:Stil-v0")
    del gymnasium.registry["Still-v0"]
