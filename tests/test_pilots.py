"""Pilots: what they are, that no verdict sees them, and their table."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from synthetic import PROVENANCE, fill, write_train

from benchmark import cli
from benchmark.judging.verdicts import judge_all
from benchmark.records.store import Store
from benchmark.report import pilots as page
from benchmark.suite import needs
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import SUITE, load_suite, specs
from benchmark.suite.pilots import FIRST_SEED, groups_of, load_pilots
from mbpo.config import InputError


def test_every_rival_explanation_has_a_pilot_on_a_toy() -> None:
    links = (
        "simulator|alpha|layer|feature|reward-backup|ratio|length|mean|clip|reset|z-scored|obs-clip|redq|twin|discount"
        "|entropy|bounded"
    )
    rival = re.compile(rf"(norm-only|ftfl|mbpo)-({links})|sac-same-utd-|simulator")
    rivals = {name for name in load_suite().methods if rival.match(name)}
    assert len(rivals) > 45 and rivals <= set(load_pilots()["toy"].methods)


def test_no_claim_ever_asks_for_a_pilots_seed() -> None:
    """Not at a later look either; and no run of a list is one that a claim asks for."""
    asked = {
        (spec.key, spec.seed)
        for protocol in load_suite().protocols.values()
        for claim in load_ledger().claims
        for spec in needs.with_later_looks(claim, protocol)
    }
    pilots = {spec.key for each in load_pilots().values() for group in groups_of(each) for spec in group}
    assert max(seed for _, seed in asked) < FIRST_SEED
    assert pilots.isdisjoint(key for key, _ in asked)


def test_records_of_pilots_move_no_verdict(tmp_path: Path) -> None:
    """Even where they lie among the runs that are judged, and say the opposite."""
    protocol, claims = load_suite().protocol("quick"), ("pendulum-mbpo-beats-sac", "toy-plain-control")
    store = Store(tmp_path / "results", tmp_path / "cache")
    fill(store, claims=claims)

    def verdicts() -> list[tuple[str, str, str, float | None, str]]:
        rows = judge_all(Store(store.results, store.cache), protocol)
        told = [(r.claim.id, r.task, r.outcome.verdict, r.outcome.effect, r.outcome.reason) for r in rows]
        return [row for row in told if row[0] in claims]

    before = verdicts()
    for spec in specs("train", ["gym:InvertedPendulum-v5"], ["sac", "mbpo"], protocol, range(100, 110)):
        write_train(store, spec, [1000.0 * (spec.method == "sac")] * 13)
    assert verdicts() == before


def test_a_seed_of_claims_is_refused_and_names_are_checked(tmp_path: Path) -> None:
    for file in SUITE.glob("*.yaml"):
        shutil.copy(file, tmp_path)
    text = (SUITE / "pilots.yaml").read_text()
    for changed, words in (
        (text.replace("seeds: [100]", "seeds: [99]"), "those below 100 are for claims"),
        (text.replace("- norm-only-redq\n", "- norm-only-red\n"), "unknown method 'norm-only-red'"),
        (text.replace("precision: bf16", "precison: bf16"), "did you mean 'precision'"),
    ):
        (tmp_path / "pilots.yaml").write_text(changed)
        load_pilots.cache_clear()
        with pytest.raises(InputError, match=words):
            load_pilots(tmp_path)
    load_pilots.cache_clear()


def test_the_table_has_the_last_evaluation_and_the_first_sign(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    store = Store(tmp_path / "results", tmp_path / "cache")
    (spec,) = groups_of(load_pilots()["onset"])[0]
    steps = [0, 7500, 15000]
    values = {
        **{"updates": [0, 1e4, 4e4], "temperature": [1.0, 5.0, 231.0], "entropy": [6.0, 3.0, -8.0]},
        **{"q_mean": [0.0, 10.0, 2e5], "mc_entropy_part": [0.0, 5.0, 1e5], "critic_bias": [0.0, 3.0, 4e5]},
        **{"real_reward_mean": [0.5] * 3, "real_reward_std": [0.1] * 3},
    }
    rows = [
        (step, name, -1, value) for name, column in values.items() for step, value in zip(steps, column, strict=True)
    ]
    curve = pd.DataFrame({"env_steps": steps, "episode": 0, "episode_return": [1.0, 2.0, 7.0], "length": 1000})
    store.write(spec, curve, pd.DataFrame(rows, columns=["step", "measure", "dim", "value"]), PROVENANCE)
    assert cli.main(["pilots", "--no-train", "--results", str(store.results), "--cache", str(store.cache)]) == 0
    frame = pd.read_csv(store.results / "pilots.csv")
    assert frame.loc[0, ["temperature", "mean_q", "entropy_part", "critic_bias", "episode_return"]].tolist() == [
        231.0, 2e5, 1e5, 4e5, 7.0
    ]  # fmt: skip
    assert frame.loc[0, "first"] == "temperature" and frame.loc[0, "at"] == 7500
    text = (store.results / "README.md").read_text()
    assert "1 of 29 runs" in text and "bf16" in text and "| norm-only |" in text
    capsys.readouterr()
    empty = ["--results", str(tmp_path / "empty"), "--cache", str(tmp_path / "cache")]
    assert cli.main(["pilots", "--no-train", *empty]) == 0 and "no pilot" in capsys.readouterr().out
    assert cli.main(["pilots", "toys", "--no-train", *empty]) == 2
    assert page.write(Store(tmp_path / "empty", tmp_path / "cache")) == []
