"""Broken promises of an environment are found before hours are spent, each in one sentence."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from broken_envs import WALL, Walk
from gymnasium import spaces
from gymnasium.wrappers import ClipAction
from toy_envs import DRIFT

from mbpo import Budget, Method, Run, train
from mbpo.config import InputError
from mbpo.envs import EnvBatch, agreement, known_tasks, make_env, promises, surroundings, task_info
from mbpo.envs.load import arguments_of, is_named, with_episode_steps
from mbpo.envs.terminations import termination_for


def broken(name: str) -> str:
    return f"gym:broken_envs:{name}"


def method(random_steps: int = 60) -> Method:
    return Method(
        model={"updates": 2, "hidden_dims": (4,), "weight_decay": (0.0, 0.0), "ensemble_size": 2, "num_elites": 1},
        rollout={"per_step": 2, "retain": 2},
        utd=1,
        random_steps=random_steps,
    )


def last_row(task: str, steps: int = 64, checkpoint: Path | None = None, **given):
    budget = Budget(env_steps=steps, eval_every=steps, eval_episodes=1)
    return list(train(task, [Run(method(**given), 0)], budget, device="cpu", checkpoint=checkpoint))[-1]


# What step returns


@pytest.mark.parametrize(
    "odd, message",
    [
        ({"reward": np.zeros(2)}, r"reward is an array of shape \(2,\) at step 1; one number is needed"),
        ({"reward": None}, "reward is None at step 1; one number"),
        ({"reward": "much"}, "reward is 'much' at step 1; one number"),
        ({"terminated": None}, "terminated is None at step 1; a boolean is needed"),
        ({"truncated": 0.5}, "truncated is 0.5 at step 1; a boolean"),
        ({"terminated": np.zeros(2, bool)}, r"terminated is an array of shape \(2,\)"),
        ({"obs": np.zeros(1)}, r"the observation has shape \(1,\) at step 1, its space says \(2,\)"),
        ({"obs": 0.0}, r"the observation has shape \(\) at step 1"),
        ({"obs": None}, r"the observation has shape \(\) at step 1"),
    ],
)
def test_what_step_returns_is_held_to_the_space(odd, message):
    gymnasium.register("Odd-v0", "broken_envs:Returns", kwargs=odd, max_episode_steps=20)
    env = make_env("gym:Odd-v0")
    env.reset(seed=0)
    with pytest.raises(InputError, match=message):
        env.step(np.zeros(1, np.float32))
    del gymnasium.registry["Odd-v0"]


@pytest.mark.parametrize(
    "odd, values",
    [
        ({"reward": np.array([2.5])}, (2.5, False, False)),
        ({"reward": np.float32(2.5), "terminated": np.True_}, (2.5, True, False)),
        ({"reward": 3, "truncated": 1}, (3.0, False, True)),
        ({"reward": np.array([[2.5]]), "truncated": np.array([True])}, (2.5, False, True)),
        ({"reward": torch.tensor(2.5), "terminated": 0, "obs": [0.0, 1.0]}, (2.5, False, False)),
    ],
)
def test_one_number_and_one_flag_are_taken_however_they_are_wrapped(odd, values):
    gymnasium.register("Odd-v0", "broken_envs:Returns", kwargs=odd, max_episode_steps=20)
    env = make_env("gym:Odd-v0")
    env.reset(seed=0)
    _, *returned, _ = env.step(np.zeros(1, np.float32))
    assert tuple(returned) == values and [type(x) for x in returned] == [float, bool, bool]
    del gymnasium.registry["Odd-v0"]


def test_parts_of_a_dict_are_not_broadcast():
    class Parts(gymnasium.Env):
        observation_space = spaces.Dict(arm=spaces.Box(-1, 1, (2,)), leg=spaces.Box(-1, 1, ()))
        action_space = spaces.Box(-1, 1, (1,))

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return {"arm": np.zeros(2), "leg": 0.0}, {}

        def step(self, action):
            arm = np.zeros(1) if action[0] > 0 else np.zeros(2)
            return {"arm": arm, "leg": 0.0}, 0.0, False, False, {}

    gymnasium.register("Parts-v0", Parts)
    env = make_env("gym:Parts-v0")
    env.reset(seed=0)
    env.step(np.array([-1.0]))
    with pytest.raises(InputError, match=r"observation 'arm' has shape \(1,\) at step 2, its space says \(2,\)"):
        env.step(np.array([1.0]))
    del gymnasium.registry["Parts-v0"]


@pytest.mark.parametrize(
    "odd, message",
    [
        ({"obs": np.array([1 + 1j, 0])}, "the observation is complex128 at step 1; real numbers are needed"),
        ({"obs": np.array(["a", "b"])}, "the observation is <U1 at step 1; real numbers are needed"),
        ({"obs": np.ma.masked_array([1.0, 2.0], [True, False])}, "float64 with masked entries at step 1"),
        ({"reward": 1e39}, "reward is 1e\\+39, too large for float32, at step 1"),
    ],
)
def test_what_is_no_real_number_is_refused(odd, message):
    test_what_step_returns_is_held_to_the_space(odd, message)


def test_an_environment_that_clips_its_actions_is_told_what_to_do():
    gymnasium.register("Clips-v0", lambda: ClipAction(Walk()), max_episode_steps=20)
    with pytest.raises(InputError, match="action 0 is unbounded; leave ClipAction out"):
        make_env("gym:Clips-v0")
    del gymnasium.registry["Clips-v0"]


@pytest.mark.parametrize(
    "how, message",
    [
        ("exit", r"the environment calls sys\.exit\(7\)"),
        ("raise", r"raised KeyError: 'gear' \(broken_envs.py, line \d+\)"),
    ],
)
def test_an_environment_that_raises_in_its_trial_is_one_sentence(how, message):
    with pytest.raises(InputError, match=message) as e:
        last_row(broken(f"Exits-v0?how={how}"))
    assert "\n" not in str(e.value)


def test_an_environment_that_calls_exit_ends_its_own_run_alone():
    batch = EnvBatch(broken("Exits-v0"), 2, isolate=True)
    batch.reset([0, 1])
    batch.step(np.zeros((1, 1)), [1])
    assert list(batch.failed) == [1] and "calls sys.exit(7)" in batch.failed[1]
    batch.close()


def test_an_environment_that_fails_to_close_loses_nothing(caplog):
    assert last_row(broken("Exits-v0?how=close")).env_steps == 64
    assert sum("close raised OSError: no such window" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("what, message", [("directory", "results would be written elsewhere"), ("dtype", "precision")])
def test_an_environment_that_changes_the_process_is_refused_and_all_put_back(what, message):
    before = surroundings.look()
    with pytest.raises(InputError, match=message):
        last_row(broken(f"Meddles-v0?what={what}"))
    assert surroundings.look() == before


def test_an_environment_that_takes_signals_over_is_told(caplog):
    last_row(broken("Meddles-v0?what=signals"))
    assert "changes what signals that end a program do" in caplog.text


def test_networks_of_another_default_precision_are_refused():
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(InputError, match=r"torch's default dtype is torch\.float64"):
            last_row(DRIFT)
    finally:
        torch.set_default_dtype(torch.float32)


# Seeds and copies


@pytest.mark.parametrize(
    "name, kind, message",
    [
        ("SeedIgnored-v0", "unrepeatable", r"two copies given one seed .* differ \(obs\[0\] is .* at reset\)"),
        ("RunningNorm-v0", "wrong", r"one copy given one seed .* carries something over from earlier episodes"),
        ("Shared-v0", "wrong", r"a copy differs while another is stepped beside it .* copies share a state"),
    ],
)
def test_copies_that_disagree_are_found_and_their_kind_is_told(name, kind, message, tmp_path):
    findings = promises.examine(broken(name))
    (sentence,) = getattr(findings, kind)
    assert findings.all[0] == sentence and "\n" not in sentence
    with pytest.raises(InputError, match=message):
        last_row(broken(name), checkpoint=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_seed_that_decides_nothing_is_told_where_nothing_is_to_be_resumed(caplog):
    last_row(broken("SeedIgnored-v0"))
    assert "reset(seed=...) does not decide the episode" in caplog.text


@pytest.mark.parametrize(
    "task", [DRIFT, "gym:Pendulum-v1", "gym:broken_envs:RightRule-v0", "gym:benchmark.toys:LQR-v0"]
)
def test_kept_promises_are_not_complained_of(task, caplog):
    assert promises.check(task) == () and not caplog.records


def test_named_tasks_are_not_tried_and_told_apart():
    assert all(is_named(task) for task in known_tasks())
    assert is_named("gym:Reacher-v5") and is_named("dmc:finger-spin")
    assert not is_named(DRIFT) and not is_named("gym:Hopper-v5?frame_skip=2")


# Numbers


def test_dimensions_that_cannot_be_carried_are_named():
    large, clock, constant = sorted(promises.examine(broken("Clock-v0")).notes, key=lambda line: "obs[4]" not in line)
    if "obs[3]" in clock:
        clock, constant = constant, clock
    assert "obs[4]" in large and "too large for networks" in large and "obs[2]" not in large
    assert "obs[2] (1700000" in clock and "too large for float32 to resolve its changes" in clock
    assert "obs[3] (7): constant" in constant and "obs[0]" not in large + clock + constant


@pytest.mark.parametrize("bound", [np.finfo(np.float32).max, 1e10, 2.0**31])
def test_bounds_that_stand_for_none_are_unbounded(bound):
    class Open(gymnasium.Env):
        observation_space = spaces.Box(-1, 1, (2,))
        action_space = spaces.Box(-bound, bound, (1,), np.float32)

    gymnasium.register("Open-v0", Open)
    with pytest.raises(InputError, match=r"action 0 has the bounds \[-.*\], which stand for unbounded"):
        make_env("gym:Open-v0")
    del gymnasium.registry["Open-v0"]


# Termination


def test_a_wrong_rule_is_refused_with_its_share_before_anything_is_learned():
    with pytest.raises(
        InputError, match=r"rule \(own\) disagrees with the environment's `terminated` in \d+\.\d% of 60"
    ):
        last_row(broken("WrongRule-v0"))


def test_ends_without_a_rule_are_told(caplog):
    last_row(broken("Walk-v0"))
    (record,) = [r for r in caplog.records if "no termination rule is known" in r.message]
    assert "episodes terminate" in record.message and "termination(next_obs)" in record.message


def test_a_right_rule_is_passed_in_silence(caplog):
    last_row(broken("RightRule-v0"))
    assert not caplog.records


def test_counts_of_agreement_are_exact():
    info = task_info(broken("RightRule-v0"))
    obs = torch.tensor([[0.0, 0.0], [0.7, 0.0], [-0.7, 0.0], [0.5, 0.0]])
    counted = agreement.compare(termination_for(info), obs, torch.tensor([False, True, False, True]))
    assert counted == agreement.Agreement(4, by_rule=2, by_flag=2, wrong=2) and not counted.holds
    assert counted + counted == agreement.Agreement(8, 4, 4, 4)
    assert agreement.Agreement(1000, 41, 40, 1).holds and agreement.Agreement(1000, 100, 100, 4).holds


def test_a_wrong_rule_that_shows_late_is_told_once(caplog):
    info = task_info(broken("WrongRule-v0"))
    watch = agreement.Watch(info, termination_for(info))
    rows = torch.tensor([[0.0, 0.1]]).expand(10, -1)
    for _ in range(3):
        watch.look(rows, torch.zeros(10, dtype=torch.bool), early=False)
    assert len(caplog.records) == 1 and "in 100.0% of 10 steps" in caplog.text


def test_a_rule_reads_the_observation_it_was_written_for():
    info = task_info(broken("Rescaled-v0"))
    assert info.termination == "never"
    assert "left out, since TransformObservation changes the observation" in info.notes[0]
    outer = task_info(broken("Rescaled-v0?rule=True"))
    assert outer.termination == "own" and outer.notes == ()
    rule = termination_for(outer)
    assert rule(torch.tensor([[5.9, 0.0], [6.1, 0.0]])).tolist() == [False, True] and WALL == 0.6


@pytest.mark.parametrize(
    "name, rule, note",
    [
        ("MyHopper-v0", "hopper", ""),
        ("FreeHopper-v0", "never", ""),
        ("LowHopper-v0", "never", "healthy_z_range = (0.2, 9.0) moves it"),
    ],
)
def test_gymnasiums_classes_keep_their_rule_under_any_id_while_its_bounds_stand(name, rule, note):
    info = task_info(broken(name))
    assert info.termination == rule
    assert note in "".join(info.notes) and bool(info.notes) == bool(note)


def test_a_class_that_only_goes_by_the_name_has_no_rule():
    gymnasium.register("Hopper-v7", "broken_envs:Walk", max_episode_steps=20)
    assert task_info("gym:Hopper-v7").termination == "never"
    del gymnasium.registry["Hopper-v7"]


# Time


def test_an_endless_episode_is_cut_as_in_the_paper_and_said_so(monkeypatch):
    info = task_info(broken("Endless-v0"))
    assert info.time_limit == 1000 and "cut after 1,000 steps, as in the paper" in info.notes[0]
    gymnasium.register("Still-v0", "toy_envs:Lqr")
    env = make_env("gym:Still-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[3] for _ in range(1000)]
    assert ends == [False] * 999 + [True]
    del gymnasium.registry["Still-v0"]


def test_a_limit_may_be_given_with_the_task():
    task = with_episode_steps(broken("Endless-v0"), 7)
    assert task == broken("Endless-v0?max_episode_steps=7")
    assert task_info(task).time_limit == 7 and task_info(task).notes == ()
    assert arguments_of("gym:A-v0?size=3&name=ab&x=(1, 2)") == {"size": 3, "name": "ab", "x": (1, 2)}
    with pytest.raises(InputError, match="max_episode_steps = 0"):
        task_info(broken("Endless-v0?max_episode_steps=0"))
    with pytest.raises(InputError, match="is for gym: tasks"):
        with_episode_steps("dmc:hopper-hop", 5)
    with pytest.raises(InputError, match="both say where episodes end"):
        with_episode_steps(task, 5)


# Making it, here and in processes


def test_two_modules_may_register_one_id(tmp_path, monkeypatch):
    source = """
        import gymnasium, broken_envs
        class Plant(broken_envs.Walk):
            def pay(self): return {}
        gymnasium.register("Plant-v7", Plant, max_episode_steps=20)
    """
    for number in (1, 2):
        (tmp_path / f"plant_{number}.py").write_text(textwrap.dedent(source).replace("{}", f"{number}.0"))
    monkeypatch.syspath_prepend(tmp_path)
    for number in (1, 2, 1):
        env = make_env(f"gym:plant_{number}:Plant-v7")
        env.reset(seed=0)
        assert env.step(np.zeros(1, np.float32))[1] == number
    del gymnasium.registry["Plant-v7"]


def test_what_needs_arguments_says_how_to_give_them():
    with pytest.raises(InputError, match=r"cannot be made: .*'size'.*; give arguments as in '\S+Sized-v0\?name=") as e:
        make_env(broken("Sized-v0"))
    assert "\n" not in str(e.value)
    env = make_env(broken("Sized-v0?size=3"))
    env.reset(seed=0)
    assert env.step(np.zeros(1, np.float32))[1] == 3.0
    with pytest.raises(InputError, match="'size' is not an argument; write name=value"):
        make_env(broken("Sized-v0?size"))


def test_a_constructor_that_raises_is_one_sentence():
    def fails():
        raise OSError("no\nlicense")

    gymnasium.register("Fails-v0", fails)
    with pytest.raises(InputError, match="cannot be made: no license"):
        make_env("gym:Fails-v0")
    del gymnasium.registry["Fails-v0"]


def test_buffers_that_do_not_fit_are_refused_before_they_are_made(monkeypatch):
    monkeypatch.setattr("mbpo.memory.free_memory", lambda: 2 * 10**9)
    with pytest.raises(
        InputError, match=r"observations of 27,648 numbers need 11\.1 GB of memory and 2\.0 GB are free"
    ):
        last_row(broken("Image-v0"), steps=50_000, random_steps=50_000)


SCRIPT = """
import sys
import gymnasium
import numpy as np
from broken_envs import Walk


class Mine(Walk):
    pass


if __name__ == "__main__":
    gymnasium.register("Mine-v0", Mine, max_episode_steps=20)
    gymnasium.register("Local-v0", lambda: Mine(), max_episode_steps=20)
    from mbpo.envs import EnvBatch

    for task in ("gym:Mine-v0", "gym:Local-v0"):
        seen = []
        for workers in (1, 2):
            batch = EnvBatch(task, 2, workers=workers)
            seen.append([batch.reset([0, 1]), *batch.step(np.ones((2, 1)))])
            print(task, type(batch._simulators).__name__)
            batch.close()
        assert all(np.array_equal(a, b) for a, b in zip(*seen))
"""


def test_processes_know_what_the_callers_script_registered(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = ":".join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = ["gym:Mine-v0 InTurn", "gym:Mine-v0 InProcesses", "gym:Local-v0 InTurn", "gym:Local-v0 InTurn"]
    assert done.stdout.splitlines() == told
