"""`python -m benchmark run | status | report | ...`: settles threads, then hands over to the command line."""

import os
import sys
from importlib import import_module

from benchmark.running.workers import worker_device


def start() -> int:
    """The exit code of the command line. A package that is missing or known to break is one sentence."""
    os.environ.update(worker_device(os.environ))  # torch reads threads and how they wait once, when it is imported
    os.environ.setdefault("MBPO_ENV_PROCESSES", "own")  # a user's environment that hangs or crashes ends its own run
    try:
        cli = import_module("benchmark.cli")
    except (ImportError, ValueError) as error:  # or a page of the suite that cannot be read
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before anything began
        print("error: interrupted", file=sys.stderr)
        return 130
    return int(cli.main())


if __name__ == "__main__":
    sys.exit(start())
