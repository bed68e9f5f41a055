"""Measurements saved, read and turned into rates and hours; scaling; precisions compared. Nothing here is timed."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_trainer import Fake
from synthetic import write_fit, write_train

from benchmark import cli
from benchmark.drawing import jinja
from benchmark.judging import stats
from benchmark.judging.signed_rank import paired_interval, signed_rank
from benchmark.records.frames import DERIVED
from benchmark.records.store import Store
from benchmark.running import cost, ensure
from benchmark.running.cost import Rates
from benchmark.speed import figures, precision, rates, saved, scaling
from benchmark.speed.measure import Question
from benchmark.speed.section import section
from benchmark.suite.criterion import FIT_MEASURES
from benchmark.suite.load import load_suite, specs
from benchmark.words import DASH
from mbpo.config import InputError

TRUE = Rates(80e9, 4e-4, 3e-4, 2e-4, model_flops=60e9, step_s=5e-3)
TASK = "dmc:quadruped-walk"
FRACTIONS = ("fraction_of_peak", "fraction_of_matmul")


def measured(runs: int = 1, task: str = TASK, true: Rates = TRUE, **changes: Any) -> dict[str, Any]:
    """A measurement as a machine of these rates would give it."""
    method, entry = load_suite().method("mbpo", task), load_suite().task(task)
    assert method.model is not None and entry.obs_dim is not None and entry.action_dim is not None
    obs, action = entry.obs_dim, entry.action_dim
    sac = true.sac_update_s + runs * cost.sac_update_flops(method, obs, action, true.kernels) / true.flops
    model = true.model_update_s + runs * cost.model_update_flops(method.model, obs, action) / true.ensemble_flops
    rolled = cost.rollout_flops(method, obs, action, kernels=true.kernels)
    rollout = runs * rolled / true.ensemble_flops + 0.5 * true.step_s
    parts = {
        "env": runs * true.env_step_s,
        "act": 0.25 * true.step_s,
        "host": 0.25 * true.step_s,
        "sac_update": sac,
        "model_update": model,
        "rollout": rollout,
        "evaluation": 2 * runs * true.env_step_s,
    }
    total = (sum(parts.values()) + 19 * sac + 19 * model) / runs
    gflop = cost.env_step_flops(method, obs, action, true.kernels) / 1e9
    return {
        "task": task, "method": "mbpo", "runs": runs, "threads": 1, "precision": "fp32", "device": "cpu",
        "means": "kernels" if true.kernels else "torch",
        "obs_dim": obs, "action_dim": action, "peak_gflops": 200.0, "matmul_gflops": 100.0,
        "gflop_per_env_step_per_run": gflop,
        "seconds": {**parts, "total_per_env_step_per_run": total}, "fraction_of_peak": gflop / 200 / total,
        "fraction_of_matmul": gflop / 100 / total,
        "cpus_had": 1.0, "peak_memory_bytes": 2**29, **changes,
    }  # fmt: skip


def put(results: Path, measurement: dict[str, Any], cpus: int = 2) -> Path:
    folder = results / "speed" / "some-machine"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / saved.file_name(measurement)
    path.write_text(json.dumps({**measurement, "where": {"cpus": cpus, "load_average": [0.5, 0.5, 0.5]}}))
    return path


# Rates and hours


@pytest.mark.parametrize("kernels", [False, True])
def test_rates_are_found_again_from_what_they_gave(kernels: bool) -> None:
    true = replace(TRUE, kernels=kernels)
    estimated = rates.rates_of([measured(runs, true=true) for runs in (1, 4, 16)], cpus=1)
    for name, value in vars(true).items():
        assert getattr(estimated, name) == pytest.approx(value, rel=1e-3), name


def test_one_measurement_gives_its_own_total_back() -> None:
    (spec,) = specs("train", [TASK], ["mbpo"], "paper", 1)
    assert spec.budget is not None
    steps = spec.budget.env_steps - spec.constants.random_steps
    for device in ("cpu", "NVIDIA H200"):
        row = measured(12, device=device)
        runs = specs("train", [TASK], ["mbpo"], "paper", 12)
        hours = cost.hours(runs, rates.rates_of([row], cpus=1))
        expected = 12 * steps * row["seconds"]["total_per_env_step_per_run"] / 3600
        assert hours == pytest.approx(expected, rel=0.02), device


def test_processes_side_by_side_share_the_cpus() -> None:
    rows = [measured(runs) for runs in (1, 4)]
    one, four = rates.rates_of(rows, cpus=1), rates.rates_of(rows, cpus=4)
    runs = specs("train", [TASK], ["mbpo"], "paper", 4)
    assert cost.hours(runs, one) == pytest.approx(4 * cost.hours(runs, four))
    on_gpu = [{**row, "device": "NVIDIA H200"} for row in rows]
    assert rates.rates_of(on_gpu, cpus=16) == rates.rates_of(on_gpu, cpus=1)


def test_an_estimate_rests_on_full_precision_and_fewest_threads() -> None:
    rows = [measured(), measured(threads=2), measured(precision="bf16")]
    assert rates.comparable(rows) == rows[:1] and rates.comparable(rows[2:]) == rows[2:] and rates.comparable([]) == []


def test_assumed_rates_give_the_hours_that_they_gave() -> None:
    """Hours in the report are of the assumed rates: they move when an assumption does, and not by themselves."""
    runs = specs("train", [TASK], ["mbpo", "ftfl"], "paper")
    assert cost.hours(runs, cost.rates(cpus=2)) == pytest.approx(612.688, rel=1e-5)


# Status


def test_status_estimates_from_the_file_that_it_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--results", str(tmp_path / "r"), "--cache", str(tmp_path / "c")]
    slow, fast = (put(tmp_path / name, measured(true=Rates(flops, 0, 0, 1e-4))) for name, flops in
                  (("a", 10e9), ("b", 1000e9)))  # fmt: skip
    status = {}
    for path in (slow, fast):
        assert cli.main(["status", "--protocol", "paper", "--speed", str(path), *folders, "--json"]) == 0
        status[path] = json.loads(capsys.readouterr().out)
        assert status[path]["speeds"]["files"] == [str(path)]
    paper = status[slow]["tables"]
    assert (paper["tasks"], paper["seeds"], paper["methods"]) == ({"dmc": 15, "gym": 6}, 6, ["mbpo", "ftfl"])
    assert paper["hours"] > 50 * status[fast]["tables"]["hours"] > 0
    assert cli.main(["status", "--protocol", "paper", "--speed", str(slow.parent), *folders]) == 0
    text = capsys.readouterr().out
    assert "The paper's tables, mbpo and ftfl on 15 DMC and 6 Gym tasks with 6 seeds each: about" in text
    assert f"on the CPUs (speeds measured in {slow})" in text


def test_status_without_a_measurement_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "own_folder", lambda results, environ: results / "speed" / "some-machine")
    assumed = rates.speeds(tmp_path, {"CUDA_VISIBLE_DEVICES": ""})
    assert assumed.rates == cost.rates() and "assumed speeds" in assumed.words
    path = put(tmp_path, measured())
    put(tmp_path, measured(threads=2))
    own = rates.speeds(tmp_path, {"CUDA_VISIBLE_DEVICES": ""})
    assert own.files == (str(path),) and own.rates != assumed.rates
    assert rates.speeds(tmp_path, {}, path.parent).rates == own.rates


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "cannot be read: no such file"), ("{", "is not JSON"), ("[]", "has no 'task'"), ("{}", "has no 'task'")],
)
def test_a_speed_file_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, words: str
) -> None:
    path = tmp_path / "speed.json"
    if text is not None:
        path.write_text(text)
    assert cli.main(["status", "--speed", str(path), "--results", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
    assert cli.main(["status", "--speed", str(tmp_path), "--results", str(tmp_path)]) == 2
    assert "holds no measurement" in capsys.readouterr().err


def test_a_machine_goes_by_its_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Some CPU (R) X-1\nflags\t\t: fpu avx512f avx512_bf16 sse\n")
    assert saved.processor(cpuinfo) == "Some CPU (R) X-1 avx512 bf16" and saved.processor(tmp_path / "no") == "cpu"
    assert saved.machine("NVIDIA H200") == "nvidia-h200"
    monkeypatch.setattr(saved, "processor", lambda: "Some CPU (R) X-1")
    monkeypatch.setattr(saved, "cpu_count", lambda: 2)
    assert saved.machine("cpu") == "some-cpu-r-x-1-2-cpus"


# Scaling


def test_scaling_varies_one_axis_at_a_time() -> None:
    base = Question()
    on_cpu = scaling.questions(base, False, 6)
    assert [q.runs for axis, q in on_cpu if axis == "runs"] == [1, 2, 4, 8, 16]
    assert [q.threads for axis, q in on_cpu if axis == "threads"] == [1, 2, 4, 6]
    sizes = [load_suite().task(q.task).obs_dim for axis, q in on_cpu if axis == "obs_dim"]
    assert sizes == sorted(sizes) and (sizes[0], sizes[-1]) == (4, 348)
    changed = [sum(a != b for a, b in zip(vars(q).values(), vars(base).values(), strict=True)) for _, q in on_cpu]
    assert max(changed) == 1
    on_gpu = scaling.questions(base, True, 6)
    assert max(q.runs for _, q in on_gpu) == 64 and all(q.threads == 1 for _, q in on_gpu)


def test_scaling_measures_what_is_not_saved_and_writes_counts_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "machine", lambda device: "some-machine")
    monkeypatch.setattr(scaling, "cpu_count", lambda: 2)
    questions: list[Question] = []

    def measure(question: Question, results: Path) -> None:
        questions.append(question)
        put(results, measured(question.runs, question.task, threads=question.threads))

    monkeypatch.setattr(scaling, "_measure", measure)
    put(tmp_path, measured(4))
    put(tmp_path, measured(precision="bf16"))
    written = scaling.build(Question(), "cpu", tmp_path, lambda line: None)
    assert len(questions) == len(set(questions)) == 11  # of 14 points the base is common to three and 4 runs are saved
    assert Question(runs=4) not in questions and all(path.exists() for path in written)
    table = pd.read_csv(tmp_path / "speed" / "some-machine" / "scaling.csv")
    assert table.groupby("axis", sort=False).size().to_dict() == {"runs": 5, "threads": 2, "obs_dim": 7}
    row = table[(table["axis"] == "runs") & (table["value"] == 4)].iloc[0]
    assert row["counted"] == pytest.approx(row["gflop"] / row["matmul_gflops"])
    assert row["fraction_of_matmul"] == pytest.approx(row["counted"] / row["seconds"])
    assert row["fraction_of_peak"] == pytest.approx(row["fraction_of_matmul"] / 2)
    questions.clear()
    scaling.build(Question(), "cpu", tmp_path, lambda line: None)
    assert questions == [], "what is saved is not measured again"
    assert len(figures.scaling(table).axes) == 3 and len(saved.read_all(written[0].parent)) == 13


def test_the_section_tells_what_is_saved_and_nothing_without(tmp_path: Path) -> None:
    assert section(tmp_path) is None
    put(tmp_path, measured())
    alone = section(tmp_path)
    assert alone is not None and alone["machines"][0]["scaling"] is None and alone["precisions"] == []
    for runs in (2, 4):
        put(tmp_path, measured(runs))
    speed = section(tmp_path)
    assert speed is not None
    (machine,) = speed["machines"]
    assert [row[3] for row in machine["rows"]] == ["1", "2", "4"] and machine["rows"][0][0] == "quadruped-walk"
    for name in ("speed.html.j2", "speed.md.j2"):
        text = jinja.environment().get_template(name).render(speed=speed)
        assert "quadruped-walk" in text and all(f"{measured()[name]:.2f}" in text for name in FRACTIONS)
    assert section(tmp_path) == speed, "equal files, equal sections"


def test_what_older_files_call_the_peak_is_read_as_torchs_product(tmp_path: Path) -> None:
    new = measured()
    old = {name: value for name, value in new.items() if "matmul" not in name}
    old |= {"peak_gflops": new["matmul_gflops"], "fraction_of_peak": new["fraction_of_matmul"]}
    renamed = saved.read(put(tmp_path, old))
    assert {name: renamed[name] for name in new} == {**new, "peak_gflops": None, "fraction_of_peak": None}
    speed = section(tmp_path)
    assert speed is not None
    (row,) = speed["machines"][0]["rows"]
    by_head = dict(zip(speed["machines"][0]["heads"], row, strict=True))
    assert by_head["of the peak"] == DASH and by_head["of torch's product"] == f"{new['fraction_of_matmul']:.2f}"
    (line,) = map(scaling.row, saved.read_all(tmp_path / "speed" / "some-machine").values())
    assert np.isnan(line["fraction_of_peak"]) and line["matmul_gflops"] == 100.0
    new_again = saved.read(put(tmp_path, new))
    assert new_again["fraction_of_peak"] == new["fraction_of_peak"]


# Precisions


@pytest.mark.parametrize("seed", range(4))
def test_signed_rank_is_the_count_over_all_signs(seed: int) -> None:
    d = np.random.default_rng(seed).integers(-4, 7, 7).astype(float)
    d[d == 0] = 1.0
    ranks = stats.sps.rankdata(np.abs(d))
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in product((0, 1), repeat=7)]
    assert signed_rank(d) == pytest.approx(np.mean(np.array(sums) >= ranks[d > 0].sum()))
    assert signed_rank(d, "less") == pytest.approx(signed_rank(-d))


def test_the_paired_interval_inverts_the_test() -> None:
    d = np.random.default_rng(3).normal(0.4, 1.0, 9)
    centre, low, high = paired_interval(d, 0.9)
    assert low < centre < high
    for bound, side in ((low, "greater"), (high, "less")):
        inward = 1e-9 if side == "greater" else -1e-9
        assert signed_rank(d - bound + inward, side) <= 0.05 < signed_rank(d - bound - 10 * inward, side) + 0.05
    assert paired_interval(d[:3], 0.9).low == -np.inf
    with pytest.raises(ValueError, match="finite"):
        signed_rank([np.nan])


@pytest.mark.parametrize("paired", [True, False])
def test_a_row_is_equivalent_different_or_open(paired: bool) -> None:
    plan, y = precision.load_plan(), np.linspace(0.0, 0.1, 8)

    def verdict(shift: float, margin: float = 0.2) -> str:
        return precision.judge(y + shift, y, margin, plan, paired).verdict

    assert [verdict(shift) for shift in (0.0, 0.05, 1.0, -1.0)] == ["equivalent"] * 2 + ["different"] * 2
    assert verdict(0.2) == "open"
    assert precision.judge(y * np.nan, y, 0.2, plan, paired).verdict == "undefined"
    if not paired:
        one_sided = (stats.shift_test(y + 0.05, y, -0.2), stats.shift_test(y + 0.05, y, 0.2, "less"))
        assert precision.judge(y + 0.05, y, 0.2, plan, False).p == max(test.p for test in one_sided)


def test_the_plan_compares_all_mechanism_measures_and_shares_the_claims_runs() -> None:
    plan = precision.load_plan()
    fit = plan.comparisons[0]
    assert plan.seeds >= 5 and {part.kind for part in plan.comparisons} == {"fit", "train"}
    data_alone = {"reward_true_mean", "reward_true_std", "reward_pred_std"}  # the last is reward_std_ratio times data
    assert set(fit.measures) == set(FIT_MEASURES) - data_alone - set(DERIVED)
    ours = {spec.key for spec in precision.runs(plan, "fp32")}
    pendulum: Any = ("train", ["gym:InvertedPendulum-v5"], ["mbpo", "ftfl"], "quick", 5)
    assert {spec.key for spec in specs(*pendulum, numerics_version=1)} <= ours
    assert ours.isdisjoint(spec.key for spec in specs(*pendulum)), "its training is pinned to what it was run at"
    assert ours.isdisjoint(spec.key for spec in precision.runs(plan, "bf16"))


def fill(store: Store, plan: precision.Plan, name: str, shift: float = 0.0) -> None:
    fits = [part for part in plan.comparisons if part.kind == "fit"]
    for spec in precision.runs(plan, name):  # type: ignore[arg-type]
        if spec.kind == "fit":
            write_fit(store, spec, {m: 0.5 + 0.001 * spec.seed + shift for m in fits[0].measures})
        else:
            write_train(store, spec, [0.0, *[900.0 + 0.01 * spec.seed + 200 * shift] * 9])


def test_precisions_are_compared_from_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, store = precision.load_plan(), Store(tmp_path / "r", tmp_path / "c")
    fill(store, plan, "fp32")
    fill(store, plan, "bf16", 0.001)
    folders = ["--results", str(store.results), "--cache", str(store.cache)]
    assert cli.main(["precision", *folders]) == 0
    table = precision.compare(store, "bf16", "fp32")
    out = capsys.readouterr().out
    assert f"bf16 is equivalent to fp32: of {len(table)} comparisons {len(table)} equivalent" in out
    assert {path.suffix for path in (store.results / "precision").iterdir()} == {".csv", ".svg"}
    speed = section(store.results)
    assert speed is not None and speed["precisions"][0]["whole"] in out and speed["precisions"][0]["rest"] == []
    assert (table["effect"] > 0).all() and (table["verdict"] == "equivalent").all()


def test_a_shift_beyond_the_margin_is_told(tmp_path: Path) -> None:
    plan, store = precision.load_plan(), Store(tmp_path / "r", tmp_path / "c")
    fill(store, plan, "fp32")
    fill(store, plan, "tf32", 0.3)
    table = precision.compare(store, "tf32", "fp32", plan)
    row = table[(table["measure"] == "logvar_raw") & (table["task"] == TASK)].iloc[0]
    assert row["verdict"] == "different" and row["effect"] == pytest.approx(0.3)
    lines = precision.sentences(table, "tf32", "fp32")
    assert lines[0].startswith("tf32 is different from fp32: ") and any("logvar_raw of mbpo" in line for line in lines)


def test_run_puts_the_precision_into_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake()
    monkeypatch.setattr(ensure, "TRAINERS", {"train": fake})
    monkeypatch.setattr(ensure, "_check", lambda specs, device: None)
    command = ["run", "--task", "gym:InvertedPendulum-v5", "--method", "sac", "--seeds", "1", "--protocol", "smoke"]
    folders = ["--results", str(tmp_path / "r"), "--cache", str(tmp_path / "c"), "--device", "cpu"]
    assert cli.main([*command, "--precision", "bf16", *folders]) == 0 and cli.main([*command, *folders]) == 0
    assert [spec.precision for job in fake.jobs for spec in job] == ["bf16", "fp32"]
    assert len(set(fake.trained)) == 2
    assert cli.main([*command, "--precision", "bf61", *folders]) == 2


def test_impossible_comparisons_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["precision", "--precision", "fp32", "--results", str(tmp_path)]) == 2
    assert "compared with itself" in capsys.readouterr().err
    assert cli.main(["precision", "--precision", "bf61", "--results", str(tmp_path)]) == 2
    assert "did you mean 'bf16'" in capsys.readouterr().err
    with pytest.raises(InputError, match="measures"):
        precision.checked(precision.Comparison, {**vars(precision.load_plan().comparisons[0]), "measures": {}}, "page")
