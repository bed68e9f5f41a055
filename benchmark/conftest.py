"""The options of the claims as checked values, progress while they train, and one table of verdicts at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

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
            store.check()  # smoke runs have folders of their own: nothing may be created
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


class Options(NamedTuple):
    """How claims are tested; `train`: whether missing runs may be trained."""

    train: bool  # not --no-train
    strict: bool  # pytest's own --strict: inconclusive and incomplete fail
    accept_contradicted: bool  # a contradicted claim leaves the session successful


@pytest.fixture(scope="session")
def options(pytestconfig: pytest.Config) -> Options:
    """The other options of the claims."""
    chosen = pytestconfig.getoption
    return Options(not chosen("--no-train"), bool(pytestconfig.getini("strict")), chosen("--accept-contradicted"))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Show what trains, in this process or a worker, every few seconds."""
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
    rows: dict[tuple[str, str], Mapping[str, Any]] = {}
    for report in chain.from_iterable(reporter.stats.values()):
        for name, value in getattr(report, "user_properties", ()):
            if name == "verdict":
                data = json.loads(value) if isinstance(value, str) else value
                rows |= {(row["claim"], row["task"]): row for row in (data if isinstance(data, list) else [data])}
    order = [(claim.id, task) for claim in load_ledger().claims for task in claim.rows]
    return [rows[row] for row in order if row in rows]
