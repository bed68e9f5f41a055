"""The container's definitions: their steps are the Makefile's and CI's own, and their versions are the project's."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKER, APPTAINER = (ROOT / "container" / name for name in ("Dockerfile", "apptainer.def"))
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))


def sections(text: str) -> dict[str, list[str]]:
    """The commands of an Apptainer definition by section."""
    parts = re.split(r"^%(\w+)\n", text, flags=re.M)
    return {name: body.split("\n") for name, body in zip(parts[1::2], (p.strip() for p in parts[2::2]), strict=True)}


def steps(path: Path) -> list[str]:
    """Every command of a definition that sets up, runs or tests, in one form."""
    text = path.read_text()
    if path == DOCKER:
        joined = text.replace("\\\n", " ")
        runs = [command.strip() for line in re.findall(r"^RUN (.*)$", joined, re.M) for command in line.split("&&")]
        entry = re.search(r"^ENTRYPOINT \[(.*)\]$", text, re.M)
        assert entry is not None
        return [" ".join(" ".join(run.split()) for run in [run]) for run in runs] + [
            " ".join(word.strip(' "') for word in entry[1].split(","))
        ]
    found = sections(text)
    commands = [line.strip() for name in ("post", "runscript") for line in found[name]]
    return [line.removeprefix("exec ").removesuffix(' "$@"') for line in commands if not line.startswith("cd ")]


def test_both_definitions_have_the_same_steps_which_are_the_makefile_s() -> None:
    assert steps(DOCKER) == steps(APPTAINER)
    made = [step.split()[1] for step in steps(DOCKER) if step.startswith("make ")]
    assert made == ["setup", "claims"] and set(made) <= TARGETS


def test_the_container_is_tested_by_the_script_that_ci_runs() -> None:
    (command,) = (line.strip() for line in sections(APPTAINER.read_text())["test"])
    script = ROOT / command.removeprefix("/opt/free-lunch-forensics/")
    assert script == ROOT / ".ci" / "run" and script.stat().st_mode & 0o100
    assert script.read_text().rstrip().splitlines()[-1] == "make test"


@pytest.mark.parametrize("path", [DOCKER, APPTAINER], ids=lambda path: path.name)
def test_versions_are_the_project_s(path: Path) -> None:
    """The base is one exact release of the Python that `make setup` takes; packages come from the lock alone."""
    text = path.read_text()
    (base,) = re.findall(r"^(?:FROM|From:) (\S+)$", text, re.M)
    (version,) = re.findall(r"^python:(\d+\.\d+)\.\d+-slim-bookworm$", base)
    assert f"python{version}" in (ROOT / "Makefile").read_text()
    assert f">={version}," in (ROOT / "pyproject.toml").read_text()
    assert "pip" not in text and "latest" not in text
    assert len(text.splitlines()) < 40
