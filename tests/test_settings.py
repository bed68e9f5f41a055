"""Constants set on the command line: part of the key, refused where they make the method or are read by no run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmark import cli
from benchmark.suite.load import load_suite, specs
from benchmark.suite.settings import parse, with_settings, written
from mbpo.config import InputError

LQR = "gym:benchmark.toys:LQR-v0"


def one(settings: dict[str, Any], method: str = "mbpo", kind: Any = "train") -> Any:
    page = with_settings(load_suite().protocol("quick"), kind, settings, [method])
    return specs(kind, [LQR], [method], page, 1)[0]


def test_values_are_read_and_written_back() -> None:
    given = ["sac.init_temperature=1e-4", "sac.obs_norm=running", "model.hidden_dims=(8,8)", "sac.max_temperature=none"]
    settings = parse([*given, "model.weight_decay=0.001"])
    assert settings["sac.init_temperature"] == 1e-4 and settings["sac.obs_norm"] == "running"
    assert settings["model.hidden_dims"] == [8, 8] and settings["sac.max_temperature"] is None
    assert parse(word for word in written(settings) if word != "--set") == settings
    constants = one(settings).constants
    assert constants.model.hidden_dims == (8, 8) and constants.sac.init_temperature == 1e-4


def test_a_setting_beats_what_a_protocol_says_of_a_task_and_changes_the_key() -> None:
    plain = one({})
    assert plain.constants.sac.init_temperature == 0.02, "the quick protocol's, of toys"
    assert one({"sac.init_temperature": 0.5}).constants.sac.init_temperature == 0.5
    assert one({"sac.init_temperature": 0.5}).key != plain.key == one({"sac.init_temperature": 0.02}).key
    assert one({"model.updates": 7}, kind="fit").constants.model.updates == 7


@pytest.mark.parametrize(
    ("given", "method", "words"),
    [
        (["sac.discunt=0.9"], "mbpo", "no such constant; did you mean 'sac.discount'"),
        (["sac.discount"], "mbpo", "write constant=value"),
        (["utd=1", "utd=2"], "mbpo", "given twice"),
        (["target.predict=delta"], "mbpo", "give another --method"),
        (["utd=5"], "sac", "'sac' is what it is by its own utd = 1"),
        (["model.updates=5"], "sac-same-utd", "no 'train' run of sac-same-utd reads it"),
        (["sac.discount=2"], "mbpo", "sac.discount"),
        (["sac.obs_norm=runing"], "mbpo", "sac.obs_norm"),
    ],
)
def test_what_cannot_be_set_is_refused(given: list[str], method: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        one(parse(given), method)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--device", "cupu"], "not a device"),
        (["--drop", "9:12"], "ranges of its 4 observations"),
        (["--set", "sac.discount=2"], "sac.discount = 2"),
    ],
)
def test_what_is_impossible_is_refused_before_it_is_announced(
    wrong: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--results", str(tmp_path / "r"), "--cache", str(tmp_path / "c")]
    assert cli.main(["run", "--task", LQR, "--method", "mbpo", "--protocol", "smoke", *wrong, *folders]) == 2
    err = capsys.readouterr().err
    assert words in err and "to train" not in err and not list(tmp_path.iterdir())
