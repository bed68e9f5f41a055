"""`python -m benchmark run | status | report`."""

import sys
from importlib import import_module


def start() -> int:
    """The exit code of the command line. A package that is missing or known to break is one sentence."""
    try:
        cli = import_module("benchmark.cli")
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(cli.main())


if __name__ == "__main__":
    sys.exit(start())
