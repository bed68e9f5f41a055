"""Branched rollouts against the real environment, by hand, and as `train` makes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import CPU, drive, small
from torch import Tensor
from toy_envs import DRIFT, ENDLESS, FIXED_POINT, FixedPoint

from mbpo import Budget, loop, sac
from mbpo.buffer import Layout
from mbpo.config import RolloutConfig
from mbpo.envs import EnvBatch
from mbpo.fast.engine import engine
from mbpo.loop import Run
from mbpo.rollouts import BranchNoise, branch, draw_noise
from mbpo.state import TrainState
from mbpo.streams import Streams

RUNS, ROLLOUTS, LENGTH = 2, 8, 6
LAYOUT = Layout(obs_dim=2, action_dim=1)


def eighths(obs: Tensor, noise: Tensor) -> Tensor:
    """A stochastic policy whose actions are multiples of 1/8, so that the toy's arithmetic is exact."""
    return (8 * torch.tanh(0.5 * obs[..., :1] + noise)).round() / 8


def real_branch(start_seeds: range, noise: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """What the environments themselves do from their own starts, ``(R, N, H, W)``, and which steps they lived."""
    envs = EnvBatch(FIXED_POINT, len(start_seeds))
    obs = envs.reset(list(start_seeds))
    rows, lived = np.zeros((len(envs), LENGTH, LAYOUT.width)), np.zeros((len(envs), LENGTH), bool)
    alive = list(range(len(envs)))
    for h in range(LENGTH):
        action = eighths(torch.as_tensor(obs), noise[:, h].flatten(0, 1)).numpy()
        next_obs, reward, terminated, _ = envs.step(action[alive], which=alive)
        for k, i in enumerate(alive):
            rows[i, h] = [*obs[i], *action[i], *next_obs[k], reward[k], 1.0 - terminated[k]]
            lived[i, h] = True
        obs[alive] = next_obs
        alive = [i for k, i in enumerate(alive) if not terminated[k]]
    shape = (RUNS, ROLLOUTS, LENGTH)
    return rows.reshape(*shape, -1), lived.reshape(shape)


def test_with_a_model_that_is_the_truth_a_branch_is_the_real_trajectory() -> None:
    """Six steps, to the bit, those that terminate on the way included."""
    seeds = range(RUNS * ROLLOUTS)
    noise = draw_noise(Streams(["a", "b"], CPU, torch.float32), LENGTH, ROLLOUTS, LAYOUT)
    expected, lived = real_branch(seeds, noise.action)
    start = torch.as_tensor(EnvBatch(FIXED_POINT, len(seeds)).reset(list(seeds))).view(RUNS, ROLLOUTS, 2)
    rule = FixedPoint().termination
    rows, valid = branch(lambda obs, action, *_: FixedPoint.model(obs, action), eighths, rule, start, noise, LAYOUT)
    actual = rows.view(RUNS, LENGTH, ROLLOUTS, -1).transpose(1, 2).numpy()
    np.testing.assert_array_equal(valid.view(RUNS, LENGTH, ROLLOUTS).transpose(1, 2).numpy(), lived)
    np.testing.assert_array_equal(actual[lived], expected[lived])
    steps = lived.sum(-1)
    assert (steps == LENGTH).any() and (steps < LENGTH).any() and (steps > 1).any(), "the toy shows too little here"


def test_a_rollout_ends_with_the_row_that_terminates_it() -> None:
    """A counter that ends at 5, by hand: from 0, 3 and 4 in one run, from 2, 1 and 9 in the other."""
    start = torch.tensor([[[0.0], [3.0], [4.0]], [[2.0], [1.0], [9.0]]])
    noise = BranchNoise(torch.zeros(2, 4, 3, 1), torch.zeros(2, 4, 3), torch.zeros(2, 4, 3, 2))

    def count(obs: Tensor, action: Tensor, member: Tensor, noise: Tensor) -> Tensor:
        return torch.cat([obs + 1, 10 * obs], dim=-1)

    rows, valid = branch(count, lambda obs, _: -obs, lambda obs: obs[..., 0] >= 5, start, noise, Layout(1, 1))
    assert valid.tolist() == [
        [True, True, True, True, True, False, True, False, False, True, False, False],
        [True, True, True, True, True, False, True, True, False, False, True, False],
    ]
    obs, action, next_obs, reward, mask = rows[valid].T.tolist()
    assert obs == [0, 3, 4, 1, 4, 2, 3, 2, 1, 9, 3, 2, 4, 3, 4]
    assert action == [-x for x in obs]
    assert next_obs == [x + 1 for x in obs]
    assert reward == [10 * x for x in obs]
    assert mask == [float(x + 1 < 5) for x in obs]


def test_every_step_has_noise_of_its_own() -> None:
    """Model, policy and choice of member each see their own slice, step by step."""
    noise = draw_noise(Streams(["a", "b"], CPU, torch.float64), 3, 5, LAYOUT)
    calls: list[tuple[Tensor, ...]] = []

    def model(obs: Tensor, action: Tensor, member: Tensor, z: Tensor) -> Tensor:
        calls.append((action, member, z))
        return torch.zeros(2, 5, 3, dtype=torch.float64)

    branch(model, lambda _, z: z, lambda obs: obs[..., 0] > 1, torch.zeros(2, 5, 2), noise, LAYOUT)
    assert len(calls) == 3
    for h, (action, member, z) in enumerate(calls):
        assert torch.equal(action, noise.action[:, h])
        assert torch.equal(member, noise.member[:, h])
        assert torch.equal(z, noise.model[:, h])
    for normal in (noise.action, noise.model):
        assert normal.flatten().unique().numel() == normal.numel()


# As `train` makes them


def ready_state(task: str = ENDLESS, **changes: object) -> TrainState:
    """Two runs after their first fit, branch and updates."""
    runs = [Run(small(random_steps=30, **changes), seed) for seed in range(2)]
    return drive(task, runs, Budget(env_steps=30, eval_every=30, eval_episodes=1))[1]


def branched(state: TrainState) -> list[Tensor]:
    """The rows ``(n, W)`` that one call of the loop's branching adds to each run."""
    assert state.synthetic is not None
    before = state.synthetic.added.tolist()
    loop.branch_rollouts(state)
    newest = (
        torch.arange(a, int(b)) % state.synthetic.capacity for a, b in zip(before, state.synthetic.added, strict=True)
    )
    return [run[slots] for run, slots in zip(state.synthetic.rows, newest, strict=True)]


def test_rollouts_start_in_real_states_and_follow_the_stochastic_policy() -> None:
    state = ready_state()
    assert state.dynamics is not None
    shadow = Streams([r.entropy for r in state.runs], CPU, torch.float64)
    shadow.restore(state.streams.states())
    rows = torch.stack(branched(state))
    assert rows.shape[:2] == (2, 8)
    slots = state.real.recent(shadow.slots("rollout-start", 8))
    start = state.layout.obs(state.real.gather(slots))
    noise = draw_noise(shadow, 1, 8, state.layout)
    torch.testing.assert_close(state.layout.obs(rows), start, rtol=0, atol=0)
    action = sac.act(state.sac, start, noise.action[:, 0])
    torch.testing.assert_close(state.layout.action(rows), action, rtol=0, atol=0)
    assert ((action - sac.act(state.sac, start, None)).abs() > 1e-4).all()
    raw = state.dynamics.sample(start, action, noise.member[:, 0], noise.model[:, 0])
    torch.testing.assert_close(state.layout.targets(rows), raw, rtol=0, atol=0)


def test_starts_cover_the_whole_real_buffer() -> None:
    state = ready_state(rollout={"per_step": 400})
    for r, rows in enumerate(branched(state)):
        started = (state.layout.obs(rows)[:, None] == state.layout.obs(state.real.rows[r, :30])).all(-1).any(0)
        assert started.all(), "some real states never start a rollout"


def test_synthetic_rollouts_end_where_the_task_ends() -> None:
    """Rows after a termination are dropped, and the terminating row has mask 0."""
    rollout = {"schedule": (0, 1, 6, 6), "per_step": 100}
    state = ready_state(DRIFT, rollout=rollout, sac={"max_log_std": -5.0}, model={"max_logvar": -1.0})
    assert state.dynamics is not None
    with torch.no_grad():  # a model that pushes to the right by 0.15 a step, whatever happens
        for p in state.dynamics.net.parameters:
            p.zero_()
        state.dynamics.map.shift.copy_(torch.tensor([0.15, 0.0, 0.0]))
        state.dynamics.min_logvar.fill_(-40.0), state.dynamics.max_logvar.fill_(-39.0)
    for rows in branched(state):
        over = state.layout.next_obs(rows)[:, 0].abs() > 0.6
        assert torch.equal(state.layout.mask(rows), 1.0 - over.double())
        assert (state.layout.obs(rows)[:, 0].abs() <= 0.6).all(), "a rollout went on after its end"
        assert 100 < len(rows) < 600 and 20 < int(over.sum()) <= 100


@pytest.mark.parametrize("every", [1, 10])
def test_train_follows_the_schedule(every: int) -> None:
    """Rows that each env step adds, from a schedule of 1 to 3 between epochs 1 and 5 of 10 steps, written out."""
    rollout = {"per_step": 4, "every": every, "schedule": (1, 5, 1, 3), "epoch_steps": 10}
    method = small(random_steps=30, rollout=rollout, utd=1, model={"updates": 2, "fit_every": 1000})
    added: list[list[int]] = [[0, 0]]

    def watch(state: TrainState) -> None:
        assert state.synthetic is not None
        added.append(state.synthetic.added.tolist())

    budget = Budget(env_steps=100, eval_every=20, eval_episodes=1)
    rows, _ = drive(ENDLESS, [Run(method, 0), Run(method, 1)], budget, at_step=watch)
    lengths = [0] * 29 + [1] * 30 + [2] * 20 + [3] * 21  # steps 1..100: 30..59 of length 1, 60..79 of length 2
    assert lengths[59 - 1 : 61 - 1] == [1, 2] and lengths[79 - 1 : 81 - 1] == [2, 3]
    expected = [4 * every * n if step % every == 0 else 0 for step, n in enumerate(lengths, start=1)]
    np.testing.assert_array_equal(np.diff(added, axis=0), np.stack([expected, expected], axis=1))
    assert [row.diagnostics["rollout_length"].tolist() for row in rows[2:]] == [[1, 1], [2, 2], [3, 3], [3, 3]]


def test_batches_come_from_the_retained_rollouts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 5 rows a step, length 2 and 3 steps retained, updates see the newest 30 rows and all of them."""
    rollout = {"per_step": 5, "retain": 3, "schedule": (0, 100, 2, 4)}  # length 2 now, up to 4 later: room for 60
    runs = [Run(small(rollout=rollout, utd=40), seed) for seed in range(2)]
    state = TrainState(ENDLESS, runs, Budget(env_steps=100), engine("cpu", "fp64"))
    assert state.synthetic is not None and state.synthetic.capacity == 60
    state.env_steps = 10
    rows = torch.zeros(2, 50, state.layout.width, dtype=torch.float64)
    rows[..., -2] = torch.arange(50.0)  # the reward tells which row it is
    state.synthetic.add(rows)
    rows[..., -2] = -1.0
    state.real.add(rows)
    noises: list[Tensor] = []
    monkeypatch.setattr(state, "sac_block", lambda batches, _: noises.extend(batches[..., -2].unbind(1)) or {})
    loop.update_block(state)
    noise_stack = torch.stack(noises, dim=1)
    assert noise_stack.shape == (2, 40, 32)
    real = state.method.real_rows
    assert real == 2 and (noise_stack[..., :real] == -1).all()
    for run in noise_stack[..., real:]:
        assert set(run.flatten().tolist()) == set(range(20, 50))


def test_length_is_linear_clamped_and_rounded_down() -> None:
    """The original MBPO's Hopper: 1 to 15 between epochs 20 and 150, counted in steps after the random ones."""
    config = RolloutConfig(schedule=(20, 150, 1, 15), epoch_steps=1_000)
    lengths = {-5: 1, 0: 1, 20_000: 1, 29_999: 1, 30_000: 2, 85_000: 8, 149_999: 14, 150_000: 15, 10**6: 15}
    assert {step: config.length(step) for step in lengths} == lengths
