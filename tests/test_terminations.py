import gymnasium
import numpy as np
import pytest
import torch

from mbpo.config import InputError
from mbpo.envs import known_tasks, make_env, task_info
from mbpo.envs.tasks import _MUJOCO_RULES, NEVER, termination_rule
from mbpo.envs.terminations import TERMINATIONS, hopper, termination_for

DOUBLE = "gym:InvertedDoublePendulum-v5"
GYM = [*(task for task in known_tasks() if task.startswith("gym:")), DOUBLE]
EDGES = {  # where float32 may round to the other side: (dimension, threshold)
    "inverted_pendulum": [(1, 0.2), (1, -0.2)],
    "hopper": [(0, 0.7), (1, 0.2), (1, -0.2)],
    "walker2d": [(0, 0.8), (0, 2.0), (1, 1.0), (1, -1.0)],
    "ant": [(0, 0.2), (0, 1.0)],
    "humanoid": [(0, 1.0), (0, 2.0)],
    "inverted_double_pendulum": [(0, 1.0)],
    "never": [],
}
# A next observation well inside the bounds of every rule: zeros but for the height.
ALIVE = {
    "inverted_pendulum": (4, 0.0),
    "hopper": (11, 1.2),
    "walker2d": (17, 1.2),
    "ant": (27, 0.6),
    "humanoid": (45, 1.4),
}


def alive(name, dtype=torch.float32):
    size, height = ALIVE[name]
    obs = torch.zeros(size, dtype=dtype)
    obs[0] = height
    return obs


def agree(task, env, seen):
    """The rule equals the environment's flags (T,) on next_obs (T, O), and both outcomes occurred."""
    next_obs, flags = np.stack([obs for obs, _ in seen]), np.array([flag for _, flag in seen])
    found = termination_for(env.info)(torch.from_numpy(next_obs)).numpy()
    if task == DOUBLE:  # by the height of the tip
        tip = 0.6 * (next_obs[:, 3] + next_obs[:, 3] * next_obs[:, 4] - next_obs[:, 1] * next_obs[:, 2])
        next_obs = np.concatenate([tip[:, None], next_obs], axis=1)
    for row in np.flatnonzero(found != flags):
        gaps = [abs(float(next_obs[row, dim]) - edge) for dim, edge in EDGES[env.info.termination]]
        assert min(gaps, default=1.0) < 1e-6, f"{task}: {next_obs[row]} terminated {flags[row]}, not {found[row]}"
    outcomes = {False} if task == "gym:HalfCheetah-v5" else {False, True}
    assert set(flags.tolist()) == outcomes


@pytest.mark.parametrize("task", GYM)
def test_rule_equals_the_flag_along_random_episodes(task):
    env, rng = make_env(task), np.random.default_rng(0)
    seen, after = [], 0
    env.reset(seed=0)
    scale = 1.0
    for _ in range(3000):
        action = scale * rng.uniform(-1, 1, env.info.action_dim)
        next_obs, _, terminated, truncated, _ = env.step(action.astype(np.float32))
        seen.append((next_obs, terminated))
        after += terminated
        if truncated or after > 20:  # some steps past the end, where states lie far outside
            env.reset(seed=len(seen))
            after, scale = 0, rng.uniform(0.1, 1.0)
    agree(task, env, seen)


@pytest.mark.parametrize("task", GYM)
def test_rule_equals_the_flag_from_states_all_around_its_bounds(task):
    env, rng = make_env(task), np.random.default_rng(1)
    bare = env.unwrapped
    height = {"Hopper": 1, "Walker": 1, "HalfCh": 1}.get(task[4:10], 2)
    seen = []
    for _ in range(400):
        env.reset(seed=0)
        qpos, qvel = bare.init_qpos.copy(), rng.normal(size=bare.init_qvel.shape)
        if "Inverted" in task:
            qpos[1:] = rng.uniform(-0.4, 0.4, len(qpos) - 1) * (1.0 if len(qpos) == 2 else 3.0)
        elif task != "gym:HalfCheetah-v5":
            qpos[height] = rng.uniform(0.1, 2.2)
            qpos[height + 1] += rng.uniform(-0.3, 0.3) if "Hopper" in task else rng.uniform(-1.2, 1.2)
        bare.set_state(qpos, qvel)
        next_obs, _, terminated, _, _ = env.step(np.zeros(env.info.action_dim, np.float32))
        seen.append((next_obs, terminated))
    agree(task, env, seen)


@pytest.mark.parametrize("value", [-150.0, 150.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dim", [2, 7])
def test_hopper_ends_where_an_entry_is_beyond_100_on_either_side(dim, value):
    obs = alive("hopper")
    assert not hopper(obs)
    obs[dim] = value
    assert hopper(obs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "name, dim, value, ended",
    [
        ("inverted_pendulum", 1, 0.2, False),
        ("inverted_pendulum", 1, -0.21, True),
        ("inverted_pendulum", 3, float("nan"), True),
        ("hopper", 0, 0.7, True),
        ("hopper", 0, 50.0, False),
        ("hopper", 1, 0.2, True),
        ("hopper", 1, -0.19, False),
        ("hopper", 3, -99.0, False),
        ("walker2d", 0, 0.8, True),
        ("walker2d", 0, 2.0, True),
        ("walker2d", 1, -1.0, True),
        ("walker2d", 1, 0.99, False),
        ("ant", 0, 0.2, False),
        ("ant", 0, 0.19, True),
        ("ant", 0, 1.0, False),
        ("ant", 0, 1.01, True),
        ("ant", 20, float("inf"), True),
        ("humanoid", 0, 1.0, True),
        ("humanoid", 0, 2.0, True),
        ("humanoid", 0, 1.01, False),
        ("humanoid", 0, float("nan"), True),
    ],
)
def test_bounds_are_open_or_closed_as_in_gymnasium(name, dim, value, ended, dtype):
    obs = alive(name, dtype)
    assert not TERMINATIONS[name](obs)
    obs[dim] = value
    assert bool(TERMINATIONS[name](obs)) is ended


@pytest.mark.parametrize("name", ALIVE)
def test_rules_work_row_by_row_and_leave_their_input(name):
    obs = alive(name).expand(2, 3, -1).clone()
    obs[1, 2, 0 if name != "inverted_pendulum" else 1] = 9e9 if name != "hopper" else -9e9
    before = obs.clone()
    ended = TERMINATIONS[name](obs)
    assert ended.dtype == torch.bool and ended.shape == (2, 3)
    assert ended.nonzero().tolist() == [[1, 2]]
    assert torch.equal(obs, before)


@pytest.mark.parametrize("task", GYM)
def test_groups_that_a_rule_does_not_read_may_be_dropped(task):
    rule = termination_rule(task, make_env(task))
    groups = task_info(task).groups
    unread = [name for name in groups if name not in rule.reads]
    rng = torch.Generator().manual_seed(0)
    if rule.name == "never" or not unread:
        return
    obs = alive(rule.name).expand(500, -1).clone()
    obs[:, :2] += torch.randn(500, 2, generator=rng)
    whole = torch.zeros(500, task_info(task).obs_dim)
    whole[:, : obs.shape[1]] = obs
    kept = torch.cat([whole[:, slice(*groups[name])] for name in groups if name in rule.reads], dim=-1)
    for name in unread:
        start, stop = groups[name]
        whole[:, start:stop] = 1e3 * torch.randn(500, stop - start, generator=rng)
    expected = TERMINATIONS[rule.name](kept)
    assert torch.equal(TERMINATIONS[rule.name](whole), expected)
    assert 0 < expected.sum() < 500


def test_dm_control_never_terminates():
    for task in ("dmc:hopper-hop", "dmc:humanoid-run"):
        rule = termination_for(task_info(task))
        ended = rule(torch.full((2, 3, task_info(task).obs_dim), float("nan")))
        assert ended.shape == (2, 3) and ended.dtype == torch.bool and not ended.any()


def test_every_mujoco_task_of_gymnasium_has_a_rule_by_name():
    """`never` is said of a task, not fallen back to."""
    specs = [s for s in gymnasium.registry.values() if "envs.mujoco" in str(s.entry_point) and s.version == 5]
    names = {spec.name.removesuffix("TruncatedObs") for spec in specs}
    assert names == set(_MUJOCO_RULES)
    still = {name for name, rule in _MUJOCO_RULES.items() if rule is NEVER}
    assert still == {"HalfCheetah", "HumanoidStandup", "Pusher", "Reacher", "Swimmer"}


@pytest.mark.parametrize("name", ["HumanoidStandup", "Pusher", "Reacher", "Swimmer"])
def test_tasks_said_never_to_end_do_not_along_random_steps(name):
    env, rng = make_env(f"gym:{name}-v5"), np.random.default_rng(0)
    env.reset(seed=0)
    for _ in range(200):
        *_, terminated, truncated, _ = env.step(rng.uniform(-1, 1, env.info.action_dim).astype(np.float32))
        assert not terminated
        if truncated:
            env.reset(seed=1)


@pytest.mark.parametrize("version", ["v4", "v5"])
def test_rules_are_known_for_both_versions(version):
    assert task_info(f"gym:InvertedPendulum-{version}").termination == "inverted_pendulum"


# An environment with a rule of its own


class Cliff(gymnasium.Env):
    """A walk on a line that ends beyond 1."""

    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, rule=None):
        if rule is not None:
            self.termination = rule

    def termination(self, next_obs):
        return next_obs[..., 0] > 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = np.zeros(2, np.float32)
        return self.at.copy(), {}

    def step(self, action):
        self.at[0] += action[0]
        return self.at.copy(), 0.0, bool(self.termination(self.at)), False, {}


@pytest.fixture
def cliff(request):
    name = f"Cliff{abs(hash(request.node.name))}-v0"
    gymnasium.register(name, Cliff)
    yield f"gym:{name}"
    del gymnasium.registry[name]


def test_an_environment_brings_its_own_rule(cliff):
    info = task_info(cliff)
    rule = termination_for(info)
    assert info.termination not in TERMINATIONS
    env = make_env(cliff)
    env.reset(seed=0)
    for step, ended in ((0.75, False), (0.75, True)):
        next_obs, _, terminated, _, _ = env.step(np.array([step]))
        assert terminated is ended
        assert rule(torch.from_numpy(next_obs)).item() is ended
    with pytest.raises(InputError, match="'obs' cannot be dropped, its own `termination` function takes the full"):
        task_info(cliff, ["obs"])


@pytest.mark.parametrize(
    "rule, message",
    [
        (lambda next_obs: next_obs[..., 0], r"to torch.float32 \(2, 3\); a bool tensor \(2, 3\) is needed"),
        (lambda next_obs: next_obs > 1, r"to torch.bool \(2, 3, 2\); a bool tensor \(2, 3\)"),
        (lambda next_obs: False, "to bool; a bool tensor"),
        (3, "its attribute `termination` is 3, not a function of next_obs"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(rule, message):
    name = f"Cliff{abs(hash(message))}-v0"
    gymnasium.register(name, Cliff, kwargs={"rule": rule})
    with pytest.raises(InputError, match=message):
        termination_for(task_info(f"gym:{name}"))
    del gymnasium.registry[name]
