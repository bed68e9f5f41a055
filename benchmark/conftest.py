"""The options of the claims as checked values, progress while they train, and one table of verdicts at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

from benchmark.judging import lines
from benchmark.records.store import Store
from benchmark.running.progress import Watch
from benchmark.suite.entries import Protocol
from benchmark.suite.ledger import load_ledger
from benchmark.suite.load import load_suite
from mbpo.config import InputError

PROTOCOL = pytest.StashKey[Protocol]()
STORE = pytest.StashKey[Store]()
PROGRESS_SECONDS = 15.0


def pytest_configure(config: pytest.Config) -> None:
    """Refuse bad option values in one sentence, before anything trains."""
    try:
        config.stash[PROTOCOL] = load_suite().protocol(config.getoption("--protocol"))
        config.stash[STORE] = store = Store(_folder(config, "results"), _folder(config, "cache", ".cache"))
        if not config.getoption("--no-train") and not config.option.collectonly:
            store.check()  # smoke runs have folders of their own: nothing may be created here
    except InputError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def protocol(pytestconfig: pytest.Config) -> Protocol:
    """The protocol of `--protocol`."""
    return pytestconfig.stash[PROTOCOL]


@pytest.fixture(scope="session")
def store(pytestconfig: pytest.Config) -> Store:
    """The records of `--results`, with the cache of `--cache`."""
    return pytestconfig.stash[STORE]


@pytest.fixture(scope="session")
def training(pytestconfig: pytest.Config) -> bool:
    """Whether missing runs may be trained: false under `--no-train`."""
    return not pytestconfig.getoption("--no-train")


@pytest.fixture(scope="session")
def strict(pytestconfig: pytest.Config) -> bool:
    """Whether inconclusive and incomplete fail: pytest's own `--strict`."""
    return bool(pytestconfig.getini("strict"))


@pytest.fixture(scope="session")
def accepting(pytestconfig: pytest.Config) -> bool:
    """Whether a contradicted claim leaves the session successful: true under `--accept-contradicted`."""
    return bool(pytestconfig.getoption("--accept-contradicted"))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Show what trains, here or in any worker, every few seconds."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or config.option.collectonly or reporter is None:
        return (yield)

    def tell(line: str) -> None:
        reporter.ensure_newline()
        reporter.write_line(line)

    with Watch(config.stash[STORE].cache, tell, PROGRESS_SECONDS):
        return (yield)


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """One line per verdict, in the order of the ledger, from whichever worker judged it."""
    rows = _verdicts(terminalreporter)
    if not rows:
        return
    terminalreporter.section(f"verdicts, {config.stash[PROTOCOL].name} protocol")
    for line, colour in lines.table(rows, terminalreporter._tw.fullwidth):
        terminalreporter.write_line(line, **{colour: True})
    counts = Counter(row["verdict"] for row in rows)
    terminalreporter.write_line(", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))


def _folder(config: pytest.Config, option: str, default: str | None = None) -> Path:
    """A folder that was given counts from where pytest was called, the default from the root of the project."""
    given = config.getoption(f"--{option}")
    return config.invocation_params.dir / given if given else config.rootpath / (default or option)


def _verdicts(reporter: TerminalReporter) -> list[Mapping[str, Any]]:
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for report in _reports(reporter):
        for name, value in getattr(report, "user_properties", ()):
            if name == "verdict":
                data = json.loads(value) if isinstance(value, str) else value
                for row in data if isinstance(data, list) else [data]:
                    found[row["claim"], row["task"]] = row
    order = [(claim.id, task) for claim in load_ledger().claims for task in claim.rows]
    return [found[place] for place in order if place in found]


def _reports(reporter: TerminalReporter) -> Iterator[Any]:
    for reports in reporter.stats.values():
        yield from reports
