"""The pages: what they say of each method, in known numbers, and what they refuse."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmark.suite.constants import defaults
from benchmark.suite.load import SUITE, load_suite, specs
from benchmark.suite.pages import load_page
from mbpo.config import Budget, InputError, Method, ModelConfig, Target
from mbpo.envs import known_tasks, task_info

SUITE_ = load_suite()
PENDULUM, HOPPER = "gym:InvertedPendulum-v5", "dmc:hopper-hop"

# jannerm/mbpo examples/config, in epochs as written there:
# task: epoch_length, updates per step, train_freq, retain_epochs, entropy, schedule, hidden, random steps
JANNER: dict[str, tuple[int, int, int, int, float, tuple[int, int, int, int], int, int]] = {
    "gym:InvertedPendulum-v5": (250, 10, 250, 1, -0.05, (1, 15, 1, 1), 200, 500),
    "gym:Hopper-v5": (1000, 20, 250, 1, -1, (20, 150, 1, 15), 200, 5000),
    "gym:Walker2d-v5": (1000, 20, 250, 1, -3, (20, 150, 1, 1), 200, 5000),
    "gym:HalfCheetah-v5": (1000, 40, 250, 1, -3, (20, 150, 1, 1), 200, 5000),
    "gym:AntTruncatedObs-v5": (1000, 20, 250, 1, -4, (20, 100, 1, 25), 200, 5000),
    "gym:HumanoidTruncatedObs-v5": (1000, 20, 1000, 5, -2, (20, 300, 1, 25), 400, 5000),
}
TARGETS = {
    "mbpo": ("none", "delta"),
    "ftfl": ("both", "next_obs"),
    "ftfl-tuned": ("both", "next_obs"),
    "norm-only": ("both", "delta"),
    "direct-only": ("none", "next_obs"),
    "reward-norm": ("reward", "delta"),
    "obs-norm": ("obs", "delta"),
    "reward-norm-direct": ("reward", "next_obs"),
    "obs-norm-direct": ("obs", "next_obs"),
    "fitted": ("both", "fitted"),
    "fitted-only": ("none", "fitted"),
    "reward-norm-fitted": ("reward", "fitted"),
    "obs-norm-fitted": ("obs", "fitted"),
}
RIVALS = {
    "mbpo-learned-bounds": {"logvar_bounds": "learned"},
    "mbpo-wide-bounds": {"min_logvar": -20.0, "max_logvar": 5.0},
    "mbpo-bootstrap": {"bootstrap": "per-member"},
    "mbpo-wide": {"hidden_dims": (400,) * 4},
    "mbpo-reward-head": {"reward_head": "separate"},
}


# What the pages say


@pytest.mark.parametrize("family", ["paper", "janner"])
def test_a_family_states_every_constant_with_its_source(family: str) -> None:
    constants = SUITE_.families[family].constants
    assert set(constants) == set(defaults())
    assert all(constant.source for constant in constants.values())


def test_the_paper_family_is_the_default_of_every_field() -> None:
    assert SUITE_.method("mbpo", HOPPER) == Method()


@pytest.mark.parametrize("task", JANNER)
def test_janner_constants_are_those_of_the_original_in_env_steps(task: str) -> None:
    epoch, utd, freq, retain, entropy, (first, last, short, long), hidden, start = JANNER[task]
    method = SUITE_.method("mbpo-janner", task)
    model = method.model
    assert model is not None
    assert (method.utd, method.random_steps, method.sac.target_entropy) == (utd, start, entropy)
    assert (method.rollout.schedule, method.rollout.epoch_steps) == ((first, last, short, long), epoch)
    assert (model.fit_every, method.rollout.every, model.hidden_dims) == (freq, freq, (hidden,) * 4)
    assert method.rollout.per_step * method.rollout.every == 100_000
    # the pool of the original: retain_epochs x length x 100k x epoch_length / train_freq
    assert method.rollout.per_step * method.rollout.retain == retain * 100_000 * epoch / freq
    assert method.real_rows == 12
    assert (model.learning_rate, model.logvar_bounds, model.bootstrap, model.stopping, model.holdout_cap) == (
        *(1e-3, "learned", "per-member"),
        *("early", 5000),
    )
    assert model.max_holdout == model.holdout_cap  # all that are held out are scored
    assert (model.init, method.sac.init, method.sac.temperature_loss) == (
        *("truncated-normal", "glorot-uniform"),
        "log-alpha",
    )
    assert (method.sac.log_std, method.sac.min_log_std, method.sac.critic_loss_scale) == ("clip", -20, 0.5)
    assert (method.sac.log_std_head, SUITE_.method("mbpo", task).sac.log_std_head) == ("joint", "own")


def test_the_original_grows_to_15_steps_on_hopper() -> None:
    """By epochs of 1,000 steps, of which the first follows 5,000 random steps."""
    length = SUITE_.method("mbpo-janner", "gym:Hopper-v5").rollout_length
    assert [length(step) for step in (0, 30_000, 90_000, 154_999, 155_000, 300_000)] == [1, 1, 8, 14, 15, 15]


@pytest.mark.parametrize("name", TARGETS)
def test_arms_are_their_targets(name: str) -> None:
    normalize, predict = TARGETS[name]
    method = SUITE_.method(name, HOPPER)
    assert (method.target.normalize, method.target.predict) == (normalize, predict)
    if name != "ftfl-tuned":
        assert method.shared() == Method()


def test_every_arm_of_the_least_grid_has_a_name() -> None:
    grid = {
        (normalize, predict)
        for normalize in ("none", "reward", "obs", "both")
        for predict in ("delta", "next_obs", "fitted")
    }
    assert grid <= set(TARGETS.values()) and set(TARGETS) <= set(SUITE_.methods)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_explanation_is_mbpo_but_for_one_thing(name: str) -> None:
    assert SUITE_.method(name, HOPPER) == Method(model=ModelConfig(**RIVALS[name]))


def test_what_is_not_an_arm_of_one_job() -> None:
    sac, twenty = SUITE_.method("sac", HOPPER), SUITE_.method("sac-utd20", HOPPER)
    assert (sac.model, sac.utd, sac.real_rows) == (None, 1, 256) and (twenty.model, twenty.utd) == (None, 20)
    tuned = SUITE_.method("ftfl-tuned", HOPPER).model
    assert tuned is not None and tuned.hidden_dims == (400,) * 4
    assert "guess" in SUITE_.methods["ftfl-tuned"].constants["model.hidden_dims"].source
    janner = SUITE_.method("ftfl-janner", PENDULUM)
    assert janner.shared() == SUITE_.method("mbpo-janner", PENDULUM).shared()
    assert janner.target == Target(normalize="both", predict="next_obs")


def test_the_tasks_are_those_of_the_core_with_their_sizes() -> None:
    assert [task for task, entry in SUITE_.tasks.items() if entry.suite in ("dmc", "gym")] == known_tasks()
    assert [task for task, entry in SUITE_.tasks.items() if entry.paper_seven] == known_tasks()[:7]
    for task in (HOPPER, "dmc:pendulum-swingup", PENDULUM, "gym:AntTruncatedObs-v5"):
        entry, info = SUITE_.tasks[task], task_info(task)
        assert (entry.obs_dim, entry.action_dim, entry.time_limit) == (info.obs_dim, info.action_dim, info.time_limit)


def test_scores_are_normalized_between_random_and_reference() -> None:
    entry = SUITE_.tasks["dmc:quadruped-walk"]
    assert entry.random_score is not None and 100 < entry.random_score < 300
    assert entry.normalize(entry.random_score) == 0 and entry.normalize(1000) == 1
    with pytest.raises(InputError, match=r"tasks\.yaml"):
        SUITE_.task("gym:Pusher-v5").normalize(0)


def test_a_registered_task_off_the_page_is_taken_as_it_is() -> None:
    entry = SUITE_.task("gym:Pusher-v5")
    assert (entry.suite, entry.obs_dim, entry.action_dim, entry.time_limit) == ("gym", 23, 7, 100)
    assert SUITE_.method("ftfl", "gym:Pusher-v5") == SUITE_.method("ftfl", HOPPER)


# Protocols


def test_paper_budgets() -> None:
    paper = SUITE_.protocol("paper")
    assert paper.seeds == 6 and paper.train.overrides == {} and paper.fit.overrides == {}
    assert paper.train.budget(HOPPER) == Budget(env_steps=500_000, eval_every=5_000, eval_episodes=10, bias_episodes=2)
    assert paper.train.budget("gym:Ant-v5").env_steps == 300_000
    assert paper.carries("train", "gym:Ant-v5")


def test_quick_keeps_the_layer_width_of_fits_and_says_that_it_shrinks_training() -> None:
    quick = SUITE_.protocol("quick")
    fit = SUITE_.method("mbpo", HOPPER, quick, "fit").model
    assert fit is not None and fit.hidden_dims == (200,) * 4 and fit.weight_decay == ModelConfig().weight_decay
    assert quick.carries("fit", HOPPER) and quick.carries("train", PENDULUM) and not quick.carries("train", HOPPER)
    assert "smaller networks" in quick.notes and quick.seeds == 5


def test_overrides_of_the_two_kinds_are_separate() -> None:
    quick = SUITE_.protocol("quick")
    train = SUITE_.method("mbpo", PENDULUM, quick)
    fit = SUITE_.method("mbpo", PENDULUM, quick, "fit")
    assert train.model is not None and fit.model is not None
    assert train.model.updates == quick.train.overrides["model.updates"] != fit.model.updates
    assert fit.model.updates == quick.fit.overrides["model.updates"]


def test_overrides_by_task_fall_on_every_task_that_begins_so() -> None:
    utd, temperature = SUITE_.protocol("quick").train.by_task.values()
    assert set(temperature) < set(utd) == {"utd", "sac.init_temperature"}
    found = {}
    for task in (PENDULUM, "gym:benchmark.toys:LQR-v0", "gym:benchmark.toys:SmallRewardLQR-v0"):
        method = SUITE_.method("mbpo", task, "quick")
        found[task] = (method.utd, method.sac.init_temperature)
    assert list(found.values()) == [(10, 1.0), (5, 0.02), (5, 2e-4)]
    model = SUITE_.method("mbpo", "gym:benchmark.toys:LQR-v0", "quick", "fit").model
    assert model is not None and model.hidden_dims == (64,) * 3


def test_a_protocol_does_not_take_away_what_makes_a_method() -> None:
    quick = SUITE_.protocol("quick")
    assert SUITE_.method("mbpo", PENDULUM, quick).utd == quick.train.overrides["utd"] == 10
    assert SUITE_.method("sac", PENDULUM, quick).utd == 1 and SUITE_.method("sac-utd20", PENDULUM, quick).utd == 20
    tuned = SUITE_.method("ftfl-tuned", PENDULUM, quick).model
    assert tuned is not None and tuned.hidden_dims == (400,) * 4
    assert SUITE_.method("mbpo-janner", PENDULUM, quick).utd == 10


def test_constants_say_where_each_came_from() -> None:
    rows = {row.constant: row for row in SUITE_.constants("ftfl", PENDULUM, "quick")}
    assert set(rows) == set(defaults())
    assert rows["target.predict"][1:] == ("next_obs", "", "[S] abstract", "method ftfl")
    assert rows["utd"].origin == "protocol quick" and rows["sac.tau"].origin == "family paper"
    assert rows["model.fit_every"].unit == "env steps"
    janner = {row.constant: row.value for row in SUITE_.constants("mbpo-janner", "gym:Hopper-v5")}
    assert janner["rollout.schedule"] == [20, 150, 1, 15]


# Runs


def test_specs_are_the_product_in_order() -> None:
    found = specs("train", [PENDULUM, "gym:Hopper-v5"], ["sac", "mbpo"], "quick", 2)
    assert [(spec.task, spec.method, spec.seed) for spec in found] == [
        (task, method, seed) for task in (PENDULUM, "gym:Hopper-v5") for method in ("sac", "mbpo") for seed in (0, 1)
    ]
    assert found[0].budget == SUITE_.protocol("quick").train.budget(PENDULUM) and found[0].fit is None
    assert [spec.seed for spec in specs("fit", [HOPPER], ["mbpo"], "quick")] == [0, 1, 2, 3, 4]
    assert [spec.seed for spec in specs("fit", [HOPPER], ["mbpo"], "quick", [7, 5])] == [7, 5]


def test_arms_share_a_job_and_others_do_not() -> None:
    jobs = {
        name: specs("train", [HOPPER], [name], "paper", 1)[0].job for name in SUITE_.methods if "janner" not in name
    }
    same = {name for name, job in jobs.items() if job == jobs["mbpo"]}
    assert (
        same == set(TARGETS) - {"ftfl-tuned"}
        and len({jobs[n] for n in ("sac", "sac-utd20", "ftfl-tuned", "mbpo")}) == 4
    )


def test_constants_that_a_run_does_not_read_do_not_make_it_another_run(tmp_path: Path) -> None:
    other = load_suite(edited(tmp_path, "protocols.yaml", "rollout.per_step: 100\n", "rollout.per_step: 90\n"))
    assert other.protocol("quick").train.overrides["rollout.per_step"] == 90
    for kind, method, same in (("train", "sac", True), ("train", "mbpo", False), ("fit", "mbpo", True)):
        one = specs(kind, [PENDULUM], [method], "quick", 1)  # type: ignore[arg-type]
        two = specs(kind, [PENDULUM], [method], "quick", 1, suite=other)  # type: ignore[arg-type]
        assert (one[0].key == two[0].key) is same, (kind, method)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("train", [HOPPER], ["mbpo-janner"], "paper"),
            "has no constants for 'dmc:hopper-hop': the 'janner' family has",
        ),
        (("train", [HOPPER], ["mbop"], "paper"), "unknown method 'mbop'; did you mean 'mbpo'?"),
        (("train", [HOPPER], ["mbpo"], "papper"), "unknown protocol 'papper'; did you mean 'paper'?"),
        (("train", ["hopper-hop"], ["mbpo"], "paper"), "unknown task 'hopper-hop'; did you mean 'dmc:hopper-hop'?"),
        (("train", ["dmc:hoper-hop"], ["mbpo"], "paper"), "did you mean 'dmc:hopper-hop'?"),
        (("train", ["gym:Hoper-v5"], ["mbpo"], "paper"), "gym:Hopper-v5"),
        (("fit", [HOPPER], ["sac"], "paper"), "method 'sac' has no model to fit"),
        (("train", [HOPPER], ["mbpo"], "paper", 0), "at least 1"),
        (("train", [HOPPER], ["mbpo"], "paper", [-1]), "seed = -1"),
    ],
)
def test_what_cannot_be_run_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(InputError) as error:
        specs(*arguments)
    assert words in str(error.value) and "\n" not in str(error.value)


# Broken pages


def edited(folder: Path, page: str, old: str, new: str) -> Path:
    """A copy of the suite with one text replaced."""
    pages = folder / "suite"
    shutil.copytree(SUITE, pages)
    text = (pages / page).read_text()
    assert text.count(old) >= 1, old
    (pages / page).write_text(text.replace(old, new, 1))
    return pages


@pytest.mark.parametrize(
    ("page", "old", "new", "words"),
    [
        ("tasks.yaml", "paper_seven: true", "paper_sevn: true", "hopper-hop: unknown field 'paper_sevn'; did you mean"),
        ("tasks.yaml", "suite: dmc", "suite: dcm", "did you mean 'dmc'?"),
        ("tasks.yaml", "time_limit: 1000", "time_limit: -1", "time_limit = -1"),
        ("tasks.yaml", "random_score: 0.2132", "random_score: .nan", "random_score = nan"),
        ("methods.yaml", "methods:\n", "method:\n", "methods.yaml: unknown key 'method'; did you mean 'methods'?"),
        (
            "methods.yaml",
            "      utd: {value: 1,",
            "      uttd: {value: 1,",
            "unknown constant 'uttd'; did you mean 'utd'?",
        ),
        ("methods.yaml", "      utd: {value: 1,", "      utd: {value: -1,", "method 'sac' on 'dmc:hopper-hop'"),
        (
            "methods.yaml",
            "      sac.min_log_std: {value",
            "      sac.min_log_sdt: {value",
            "unknown constant 'sac.min_log_sdt'; did you mean 'sac.min_log_std'",
        ),
        ("methods.yaml", "target.normalize: {value: both", "target.normalize: {value: bth", "did you mean 'both'?"),
        ("methods.yaml", "    family: paper\n", "    family: papers\n", "did you mean 'paper'?"),
        ("methods.yaml", "    family: paper\n", "", "sac.family: this field is required"),
        ("methods.yaml", "      utd: {value: 20,", "      utd: {", "give either value or by_task"),
        ("methods.yaml", "          gym:Hopper-v5: 20\n", "", "'gym:Hopper-v5' is not in every by_task"),
        ("methods.yaml", 'source: "[C] jannerm fake_env.py: raw targets"', "source: ''", "target.normalize.source"),
        ("methods.yaml", "  mbpo:\n", "  mbpo: 3\n  mbpo-b:\n", "a mapping from names is needed here, not int"),
        ("methods.yaml", "  ftfl:\n", "  mbpo:\n", "the key 'mbpo' stands twice"),
        ("protocols.yaml", "utd: 10", "udt: 10", "quick.train.overrides: unknown constant 'udt'; did you mean 'utd'?"),
        ("protocols.yaml", "utd: 10", "utd: 0", "under protocol 'quick'"),
        ("protocols.yaml", "utd: 10", "model: null", "unknown constant 'model'"),
        ("protocols.yaml", "{utd: 5, ", "{udt: 5, ", "quick.train.by_task.gym:benchmark.toys: unknown constant 'udt'"),
        ("protocols.yaml", '"gym:benchmark.toys":\n', '"gym:toys":\n', "'gym:toys': no task begins so; did you mean"),
        ("protocols.yaml", "  seeds: 2\n", "  seeds: 0\n", "smoke.seeds = 0"),
        ("protocols.yaml", "    eval_every: 20\n", "    eval_evry: 20\n", "did you mean 'eval_every'?"),
        ("protocols.yaml", "dmc: 500000", "dmc: -5", "train.env_steps = -5"),
        ("protocols.yaml", "dmc: 500000", "dmc:hoper-hop: 5", "did you mean 'dmc:hopper-hop'?"),
        ("protocols.yaml", '"gym:Hopper-v5"', '"gym:Hoper-v5"', "did you mean 'gym:Hopper-v5'?"),
        ("protocols.yaml", "    heldout: 100\n", "    heldout: 1\n", "smoke.fit.heldout = 1"),
        ("protocols.yaml", "smoke:\n", "smoke: [\n", "protocols.yaml is not valid YAML"),
    ],
)
def test_a_broken_page_is_refused_in_one_sentence(tmp_path: Path, page: str, old: str, new: str, words: str) -> None:
    with pytest.raises(InputError) as error:
        load_suite(edited(tmp_path, page, old, new))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_page_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tasks\.yaml cannot be read"):
        load_page("tasks.yaml", tmp_path)
