"""The documentation holds: links lead somewhere, commands and options exist, code compiles and names what there is."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

import mbpo
from benchmark import cli
from benchmark.suite import ledger, load, studies

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(ROOT.glob("docs/*.md"))
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
TARGETS = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M))


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page that are marked with `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def commands(text: str) -> Iterator[list[str]]:
    """Every command line of unmarked blocks and of code within sentences, in words."""
    lines = [line for block in blocks(text, "") for line in block.splitlines()]
    for line in [*lines, *re.findall(r"`([^`\n]+)`", text)]:
        words = shlex.split(line, comments=True) if line.count("'") % 2 == 0 else []
        if words and words[0].startswith(("python", ".venv", "mbpo-bench", "pytest", "make")):
            yield words


def anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        name, _, part = target.partition("#")
        other = page.parent / name if name else page
        assert other.exists(), f"{page.name}: {target}"
        if page.parent.name == "docs":
            assert other.resolve().is_relative_to(ROOT / "docs"), f"{page.name}: {target} would break the site"
        if part:
            titles = re.findall(r"^#+ (.+)$", other.read_text(), re.M)
            assert part in {anchor(title) for title in titles}, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_exists(page: Path) -> None:
    for words in commands(page.read_text()):
        line = " ".join(words)
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        if words[0] == "make":
            assert {word for word in words[1:] if word.isalpha() and word.islower()} <= TARGETS, line
        elif words[0] == "pytest":
            known = (ROOT / "conftest.py").read_text() + (ROOT / "benchmark" / "conftest.py").read_text()
            assert all(f'"{option}"' in known for option in options - {"--strict"}), line
        elif words[1:3] == ["-m", "benchmark"] or words[0] == "mbpo-bench":
            rest = words[3 if words[1:2] == ["-m"] else 1 :]
            if not rest or rest[0] in ("COMMAND", "--version"):
                continue
            assert rest[0] in COMMANDS, line
            has = {name for parameter in COMMANDS[rest[0]].params for name in parameter.opts}
            assert options <= has | {"--help"}, f"{line}: {sorted(options - has)}"


def test_the_table_of_commands_is_whole() -> None:
    text = (ROOT / "docs" / "commands.md").read_text()
    named = [name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`([a-z]+)`", row)]
    assert sorted(named) == sorted(COMMANDS)
    assert set(re.findall(r"`([a-z]+)`", text[text.index("`make` has") :])) == TARGETS - {"help"} | {"make"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_compiles_and_names_what_there_is(page: Path) -> None:
    for block in blocks(page.read_text(), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "mbpo":
                assert all(hasattr(mbpo, alias.name) for alias in node.names), block


def test_every_public_name_is_on_the_page_of_the_interface() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in mbpo.__all__ if f"`{name}" not in text] == []


def test_the_site_has_every_page() -> None:
    def files(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            yield from files(inner)

    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(files(nav)) == sorted(path.name for path in ROOT.glob("docs/*.md"))


def test_the_entries_that_the_page_on_extending_shows_are_taken(tmp_path: Path) -> None:
    for path in load.SUITE.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    under = {"groups": "groups:\n", "claims": "claims:\n", "methods": "methods:\n"}
    for block in blocks((ROOT / "docs" / "extend.md").read_text(), "yaml"):
        head, _, entry = block.partition("\n")
        name, _, key = head.removeprefix("# ").partition(", under ")
        page = tmp_path / name
        text = page.read_text()
        page.write_text(text.replace(f"\n{under[key]}", f"\n{under[key]}{entry}", 1) if key else f"{text}\n{entry}")
    suite = load.load_suite(tmp_path)
    task = "gym:examples.thermostat:Thermostat-v0"
    assert suite.task(task).obs_dim == 3
    assert suite.method("ftfl-one-member", task, "quick").model.ensemble_size == 1  # type: ignore[union-attr]
    claim = ledger.load_ledger(tmp_path).claim("thermostat-reward")
    assert (claim.tasks, claim.arm, claim.against) == ((task,), "ftfl", "mbpo")
    assert len(studies.specs_of(studies.load_studies(tmp_path)["thermostat"])) == 30
