"""Settles GPU and threads of this process before torch is imported, and adds the options of the claims.

`pytest` alone is the fast suite in tests/; `pytest benchmark/ -m claims` trains what is missing and judges.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmark.running.workers import worker_device

TORCH_CAME_FIRST = "torch" in sys.modules
BENCHMARK = Path(__file__).parent / "benchmark"

os.environ.update(worker_device(os.environ))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("claims", "the paper's claims (pytest benchmark/ -m claims)")
    group.addoption("--protocol", default="quick", help="how much evidence: smoke, quick (default), reduced, paper")
    group.addoption("--no-train", action="store_true", help="judge from the records there are; train nothing")
    group.addoption(
        "--accept-contradicted", action="store_true", help="a contradicted claim is an answer, not a failed session"
    )
    group.addoption("--results", default=None, metavar="DIR", help="folder of records (default: results)")
    group.addoption("--cache", default=None, metavar="DIR", help="folder of leases and checkpoints (default: .cache)")


def pytest_configure(config: pytest.Config) -> None:
    if TORCH_CAME_FIRST:
        raise pytest.UsageError(
            "torch was imported before conftest.py could choose its GPU and threads; "
            "find the plugin that did (pytest --trace-config) and disable it with -p no:NAME"
        )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Claims and smoke runs are collected only where the command line names them: they train for minutes."""
    if collection_path != BENCHMARK:
        return None
    named = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    return None if any(path.is_relative_to(BENCHMARK) for path in named) else True
