"""Imports run one way: `tests` -> `benchmark` -> `mbpo`, and inside `mbpo` from the loop down to the config.

Read from the syntax tree, imports inside functions and under TYPE_CHECKING included.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module imports from its own layer or a lower one, never in a circle.
LAYERS = (
    {"building", "config", "fields", "inits", "kernels", "nn", "peak", "streams", "suites", "tasks"},
    {"targets", "buffer", "envs", "flat", "simulators", "soft", "terminations"},
    {"dynamics", "fitting", "sac"},
    {"rollouts", "evaluation", "diagnostics", "checkpoint"},
    {"state", "measure"},
    {"loop"},
    {"__init__"},  # the facade: what a user sees, not a way round the layers
)
ANYWHERE = {"accelerate", "fusion", "_versions"}  # every layer may use them
BENEATH = {"config", "fusion", "kernels"}  # all that they themselves use

# The core knows nothing of experiments, files of results, tables or plots.
NOT_IN_CORE = {
    *("benchmark", "tests", "pytest", "yaml", "jinja2", "matplotlib", "seaborn", "pandas", "rliable", "arch"),
    *("typer", "rich", "filelock"),
}
NO_TORCH = ("store", "spec")  # read and planned with on machines and in processes that never train


def imports(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that the file at `path`, a direct child of `package`, imports."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module if node.level == 0 else ".".join(filter(None, [package, node.module]))
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def inside(name: str, modules: Mapping[str, object]) -> str | None:
    """The module of mbpo that the dotted `name` is in; '__init__' for a name of the facade, None if it is elsewhere."""
    top, _, rest = name.partition(".")
    if top != "mbpo":
        return None
    return rest.split(".")[0] if rest.split(".")[0] in modules else "__init__"


def check_core(root: Path) -> list[str]:
    """Every breach of the layers by the files of `root`/mbpo, each with its place."""
    files = {path.stem: path for path in sorted((root / "mbpo").glob("*.py"))}
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer} | dict.fromkeys(ANYWHERE, -1)
    breaches = [f"mbpo/{name}.py: place me in a layer" for name in files if name not in level]
    breaches += [f"{path.relative_to(root)}: mbpo is flat" for path in sorted((root / "mbpo").glob("*/**/*.py"))]
    uses: dict[str, set[str]] = {}
    for name in files.keys() & level.keys():
        uses[name] = set()
        for line, target in imports(files[name], "mbpo"):
            place = f"mbpo/{name}.py:{line}"
            module = inside(target, files)
            if target.split(".")[0] in NOT_IN_CORE:
                breaches.append(f"{place}: the core does not import {target.split('.')[0]}")
            if module is None or module not in level:
                continue
            if name in ANYWHERE and module not in BENEATH:
                breaches.append(f"{place}: {name} imports only {' and '.join(sorted(BENEATH))}, not {module}")
            elif name not in ANYWHERE and level[module] > level[name]:
                breaches.append(f"{place}: {name} is below {module}")
            else:
                uses[name].add(module)
    return breaches + [f"mbpo: a circle of imports, {' -> '.join(c)}" for c in circles(uses)]


def circles(uses: Mapping[str, set[str]]) -> list[list[str]]:
    """The first circle of imports met from each module, if any."""

    def walk(path: list[str]) -> list[str] | None:
        for target in sorted(uses.get(path[-1], ())):
            if target == path[0]:
                return [*path, target]
            if target not in path and (found := walk([*path, target])):
                return found
        return None

    return [found for name in sorted(uses) if (found := walk([name])) and name == min(found)]


def check_no_torch(root: Path) -> list[str]:
    """Imports of torch by those modules of `root`/benchmark that must start without it."""
    return [
        f"benchmark/{name}.py:{line}: imports torch"
        for name in NO_TORCH
        for line, target in imports(root / "benchmark" / f"{name}.py", "benchmark")
        if target.split(".")[0] == "torch"
    ]


def test_core_imports_run_one_way() -> None:
    assert check_core(ROOT) == []


def test_store_and_spec_name_no_torch() -> None:
    assert check_no_torch(ROOT) == []


@pytest.mark.parametrize("modules", ["mbpo.config", "benchmark.store, benchmark.spec"])
def test_reading_and_planning_loads_no_torch(modules: str) -> None:
    code = f"import {modules}, sys; sys.exit('torch was imported' if 'torch' in sys.modules else 0)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# The rule bites: a small sound tree, and one line planted in it at a time


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    sound = {
        "mbpo/__init__.py": "from mbpo._versions import check\nfrom mbpo.config import Method\n",
        "mbpo/_versions.py": "import re\n",
        "mbpo/accelerate.py": "from mbpo.config import Method\n",
        "mbpo/config.py": "import pydantic\n",
        "mbpo/terminations.py": "import torch\n",
        "mbpo/envs.py": "from mbpo import terminations\nfrom mbpo.config import Method\n",
        "mbpo/sac.py": "from mbpo import accelerate, nn\n",
        "mbpo/nn.py": "import torch\n",
        "mbpo/loop.py": "import mbpo.sac\nfrom . import envs\n",
        "benchmark/store.py": "from pathlib import Path\n",
        "benchmark/spec.py": "from mbpo.config import Method\n",
    }
    for name, text in sound.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_sound_tree_passes(tree: Path) -> None:
    assert check_core(tree) == []
    assert check_no_torch(tree) == []


@pytest.mark.parametrize(
    ("file", "line", "breach"),
    [
        ("sac.py", "from mbpo.loop import train", "mbpo/sac.py:2: sac is below loop"),
        ("sac.py", "import mbpo.loop as l", "mbpo/sac.py:2: sac is below loop"),
        ("sac.py", "from .loop import train", "mbpo/sac.py:2: sac is below loop"),
        ("sac.py", "from . import loop", "mbpo/sac.py:2: sac is below loop"),
        ("sac.py", "def f():\n    from mbpo import loop", "mbpo/sac.py:3: sac is below loop"),
        ("sac.py", "from mbpo import train", "mbpo/sac.py:2: sac is below __init__"),
        ("sac.py", "import mbpo", "mbpo/sac.py:2: sac is below __init__"),
        ("config.py", "from mbpo.envs import make_env", "mbpo/config.py:2: config is below envs"),
        (
            "accelerate.py",
            "from mbpo.nn import MLP",
            "mbpo/accelerate.py:2: accelerate imports only config and fusion and kernels, not nn",
        ),
        ("nn.py", "import yaml", "mbpo/nn.py:2: the core does not import yaml"),
        ("loop.py", "import matplotlib.pyplot as plt", "mbpo/loop.py:3: the core does not import matplotlib"),
        ("loop.py", "from benchmark import store", "mbpo/loop.py:3: the core does not import benchmark"),
        ("terminations.py", "from mbpo.envs import x", "mbpo: a circle of imports, envs -> terminations -> envs"),
        ("novelty.py", "", "mbpo/novelty.py: place me in a layer"),
    ],
)
def test_a_planted_breach_is_found(tree: Path, file: str, line: str, breach: str) -> None:
    with (tree / "mbpo" / file).open("a") as stream:
        stream.write(line + "\n")
    assert check_core(tree) == [breach]


def test_a_package_inside_the_core_is_found(tree: Path) -> None:
    (tree / "mbpo" / "agents").mkdir()
    (tree / "mbpo" / "agents" / "base.py").write_text("")
    assert check_core(tree) == ["mbpo/agents/base.py: mbpo is flat"]


@pytest.mark.parametrize("line", ["import torch", "from torch.nn import Linear", "def f():\n    import torch"])
def test_planted_torch_is_found(tree: Path, line: str) -> None:
    (tree / "benchmark" / "store.py").write_text(line)
    assert check_no_torch(tree) == [f"benchmark/store.py:{1 + line.count(chr(10))}: imports torch"]
