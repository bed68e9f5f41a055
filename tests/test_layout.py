"""Imports run one way: `tests` -> `benchmark` -> `mbpo`, and inside both packages from the top floor down.

Read from the syntax tree: imports inside functions and under TYPE_CHECKING, and `import_module("...")`, included.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# The lowest first. What is named is a file or a folder with all that is in it, but for what is named apart.
# It imports from its own floor or a lower one, never in a circle.
LAYERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "benchmark": (
        ("words", "toys", "adjusted"),
        ("records", "drawing"),
        ("suite",),
        ("options",),
        ("running",),
        ("judging", "diagnosis"),
        ("viewing",),
        ("speed",),
        ("studies.factors", "studies.telling"),
        (
            "studies.advice",
            "studies.calibration",
            "studies.grid",
            "studies.laboratory",
            "studies.parity",
            "studies.probe",
            "studies.taxonomy",
        ),
        ("studies",),
        ("cluster",),
        ("report",),
        ("kit",),
        ("records.commands", "running.commands", "judging.commands", "diagnosis.commands"),
        ("viewing.commands",),
        ("speed.commands", "studies.commands", "report.commands"),
        ("cluster.commands",),
        ("cli",),
        ("__init__", "__main__", "conftest", "test_claims", "test_smoke"),
    ),
    "mbpo": (
        (
            "_versions",
            "fields",
            "rollout_config",
            "sac_config",
            "config",
            "methods",
            "streams",
            "moments",
            "memory",
            "kept",
            "tensorfile",
        ),
        ("envs", "fast"),
        ("inits", "nn", "buffer", "targets"),
        ("fast.sac_kernels",),  # of networks and packed rows; the rest of the drawer knows neither
        ("dynamics", "fitting", "learner", "sac"),
        ("rollouts", "simulator_model", "uncertainty", "episodes", "diagnostics", "checkpoint", "rowlog"),
        ("state", "vitals", "look", "saving", "guards", "export"),
        ("policies", "models"),
        ("loop", "views"),
        ("loggers",),
        ("api",),
        ("__init__",),  # the facade: what a user sees, not a way round the layers
    ),
}

# The core knows nothing of experiments, files of results, tables or plots.
NOT_IN_CORE = {
    *("benchmark", "tests", "pytest", "yaml", "jinja2", "matplotlib", "seaborn", "pandas", "rliable", "arch"),
    *("typer", "rich", "filelock"),
}
NO_TORCH = ("records", "suite")  # read and planned with on machines and in processes that never train


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that the file at `path` imports."""
    folder = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and node.args
            and ast.unparse(node.func).endswith(("import_module", "__import__"))
        ):
            name = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value.rstrip(".")


def files(root: Path, package: str) -> dict[str, Path]:
    """The files of a package by their dotted names in it; a folder's own file goes by the folder's name."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root / package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def longest(name: str, known: Mapping[str, object]) -> str | None:
    """The longest of `known` that the dotted `name` is or lies in."""
    parts = name.split(".")
    return next((found for n in range(len(parts), 0, -1) if (found := ".".join(parts[:n])) in known), None)


def check(root: Path, package: str) -> list[str]:
    """Every breach of the layers by the files of a package, each with its place."""
    here = files(root, package)
    level = {name: i for i, layer in enumerate(LAYERS[package]) for name in layer}
    breaches: list[str] = []
    rooms: dict[str, set[str]] = {}
    modules: dict[str, set[str]] = {}
    for name, path in here.items():
        room = longest(name, level)
        if room is None:
            breaches.append(f"{path.relative_to(root)}: place me in a layer")
            continue
        for line, target in imports(path, root):
            place = f"{path.relative_to(root)}:{line}"
            top, _, rest = target.partition(".")
            if package == "mbpo" and top in NOT_IN_CORE:
                breaches.append(f"{place}: the core does not import {top}")
            if top != package:
                continue
            module = longest(rest, here) or longest(rest, level) or "__init__"
            other = longest(module, level)
            if other is None:
                continue
            if level[other] > level[room]:
                breaches.append(f"{place}: {room} is below {other}")
                continue
            if other != room:
                rooms.setdefault(room, set()).add(other)
            if module != name:
                modules.setdefault(name, set()).add(module)
    found = {frozenset(circle): circle for uses in (modules, rooms) for circle in circles(uses)}
    return breaches + [f"{package}: a circle of imports, {' -> '.join(circle)}" for circle in found.values()]


def circles(uses: Mapping[str, set[str]]) -> list[list[str]]:
    """The shortest circle of imports through each module, told once, from its first name."""
    found = []
    for start in sorted(uses):
        paths, seen = [[start]], {start}
        for path in paths:  # grows as it is gone through
            for target in sorted(uses.get(path[-1], ())):
                if target == start:
                    found.append([*path, start])
                    break
                if target not in seen:
                    seen.add(target)
                    paths.append([*path, target])
            else:
                continue
            break
    return [circle for circle in found if circle[0] == min(circle)]


def check_no_torch(root: Path) -> list[str]:
    """Imports of torch by those folders of `root`/benchmark that must start without it."""
    return [
        f"{path.relative_to(root)}:{line}: imports torch"
        for room in NO_TORCH
        for path in sorted((root / "benchmark" / room).rglob("*.py"))
        for line, target in imports(path, root)
        if target.split(".")[0] == "torch"
    ]


TEXTS = (".py", ".md", ".yaml", ".j2", ".c", ".h")
LONGEST = 420
"""Lines of a file that a reader can still hold; most have fewer than 250."""


@pytest.mark.parametrize("package", LAYERS)
def test_no_file_is_too_long(package: str) -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in files(ROOT, package).items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_no_text_names_a_place_of_one_machine_or_a_ticket() -> None:
    personal = re.compile(r"(?<![\w.])/(?:home|root|work|Users)/|\bissues? ?#?\d")
    folders = [ROOT / name for name in ("mbpo", "benchmark", "tests")]
    texts = [ROOT / "README.md", *(path for folder in folders for path in folder.rglob("*.*") if path.suffix in TEXTS)]
    assert [str(path) for path in texts if personal.search(path.read_text())] == []


@pytest.mark.parametrize("package", LAYERS)
def test_imports_run_one_way(package: str) -> None:
    assert check(ROOT, package) == []


@pytest.mark.parametrize("package", LAYERS)
def test_all_that_the_table_names_is_there(package: str) -> None:
    here = files(ROOT, package)
    assert [name for layer in LAYERS[package] for name in layer if name not in here] == []


def test_records_and_suite_name_no_torch() -> None:
    assert check_no_torch(ROOT) == []


@pytest.mark.parametrize(
    "modules", ["mbpo.config", "mbpo.envs", "benchmark.records.store, benchmark.records.spec", "benchmark.suite.needs"]
)
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
        "mbpo/config.py": "import pydantic\n",
        "mbpo/envs/__init__.py": "from mbpo.envs.batch import EnvBatch\n",
        "mbpo/envs/batch.py": "from mbpo.envs import flat\n",
        "mbpo/envs/flat.py": "from mbpo.config import Method\n",
        "mbpo/fast/engine.py": "from mbpo.config import Method\n",
        "mbpo/fast/sac_kernels.py": "from mbpo.nn import MLP\n",
        "mbpo/nn.py": "import torch\n",
        "mbpo/sac.py": "from mbpo import nn\nfrom mbpo.fast import sac_kernels\n",
        "mbpo/loop.py": "import mbpo.sac\nfrom . import envs\n",
        "benchmark/words.py": "import math\n",
        "benchmark/records/spec.py": "from mbpo.config import Method\n",
        "benchmark/records/store.py": "from pathlib import Path\n",
        "benchmark/suite/load.py": "from benchmark.records import spec\nfrom ..records.store import Store\n",
        "benchmark/running/ensure.py": "from benchmark.suite import load\n",
        "benchmark/judging/verdicts.py": "from benchmark.suite.load import specs\n",
        "benchmark/diagnosis/page.py": "from benchmark import words\n",
        "benchmark/studies/show.py": "f'{import_module}'\nimport_module(f'benchmark.studies.{name}.study')\n",
        "benchmark/studies/grid/study.py": "from benchmark.studies.grid import figures\n",
        "benchmark/studies/grid/figures.py": "from benchmark.words import minus\n",
        "benchmark/cli.py": "from importlib import import_module\nimport_module('benchmark.judging.verdicts')\n",
    }
    for name, text in sound.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_sound_tree_passes(tree: Path) -> None:
    assert check(tree, "mbpo") == check(tree, "benchmark") == check_no_torch(tree) == []


@pytest.mark.parametrize(
    ("file", "line", "breach"),
    [
        ("mbpo/sac.py", "from mbpo.loop import train", "mbpo/sac.py:3: sac is below loop"),
        ("mbpo/sac.py", "import mbpo.loop as l", "mbpo/sac.py:3: sac is below loop"),
        ("mbpo/sac.py", "from .loop import train", "mbpo/sac.py:3: sac is below loop"),
        ("mbpo/sac.py", "from . import loop", "mbpo/sac.py:3: sac is below loop"),
        ("mbpo/sac.py", "def f():\n    from mbpo import loop", "mbpo/sac.py:4: sac is below loop"),
        ("mbpo/sac.py", "if TYPE_CHECKING:\n    from mbpo.loop import Row", "mbpo/sac.py:4: sac is below loop"),
        ("mbpo/sac.py", "import_module('mbpo.loop').train", "mbpo/sac.py:3: sac is below loop"),
        ("mbpo/sac.py", "importlib.import_module('mbpo.loop')", "mbpo/sac.py:3: sac is below loop"),
        ("mbpo/sac.py", "from mbpo import train", "mbpo/sac.py:3: sac is below __init__"),
        ("mbpo/sac.py", "import mbpo", "mbpo/sac.py:3: sac is below __init__"),
        ("mbpo/config.py", "from mbpo.envs import make_env", "mbpo/config.py:2: config is below envs"),
        ("mbpo/envs/flat.py", "from ..nn import MLP", "mbpo/envs/flat.py:2: envs is below nn"),
        ("mbpo/fast/engine.py", "from mbpo.nn import MLP", "mbpo/fast/engine.py:2: fast is below nn"),
        ("mbpo/fast/engine.py", "from . import sac_kernels", "mbpo/fast/engine.py:2: fast is below fast.sac_kernels"),
        (
            "mbpo/envs/flat.py",
            "from mbpo.envs import batch",
            "mbpo: a circle of imports, envs.batch -> envs.flat -> envs.batch",
        ),
        ("mbpo/nn.py", "import yaml", "mbpo/nn.py:2: the core does not import yaml"),
        ("mbpo/envs/flat.py", "import matplotlib.pyplot", "mbpo/envs/flat.py:2: the core does not import matplotlib"),
        ("mbpo/loop.py", "from benchmark import words", "mbpo/loop.py:3: the core does not import benchmark"),
        ("mbpo/novelty.py", "", "mbpo/novelty.py: place me in a layer"),
        ("mbpo/agents/base.py", "", "mbpo/agents/base.py: place me in a layer"),
        ("benchmark/words.py", "from benchmark.records import spec", "benchmark/words.py:2: words is below records"),
        (
            "benchmark/suite/load.py",
            "from ..running import ensure",
            "benchmark/suite/load.py:3: suite is below running",
        ),
        (
            "benchmark/running/ensure.py",
            "def f():\n    from benchmark.judging.verdicts import judge",
            "benchmark/running/ensure.py:3: running is below judging",
        ),
        (
            "benchmark/running/ensure.py",
            "if TYPE_CHECKING:\n    from benchmark.judging import verdicts",
            "benchmark/running/ensure.py:3: running is below judging",
        ),
        (
            "benchmark/running/ensure.py",
            "ensure = import_module('benchmark.judging.verdicts')",
            "benchmark/running/ensure.py:2: running is below judging",
        ),
        (
            "benchmark/studies/grid/figures.py",
            "from benchmark.studies import show",
            "benchmark/studies/grid/figures.py:2: studies.grid is below studies",
        ),
        (
            "benchmark/studies/grid/figures.py",
            "from benchmark.studies.grid.study import tables",
            "benchmark: a circle of imports, studies.grid.figures -> studies.grid.study -> studies.grid.figures",
        ),
        ("benchmark/room/new.py", "", "benchmark/room/new.py: place me in a layer"),
    ],
)
def test_a_planted_breach_is_found(tree: Path, file: str, line: str, breach: str) -> None:
    (tree / file).parent.mkdir(exist_ok=True)
    with (tree / file).open("a") as stream:
        stream.write(line + "\n")
    assert check(tree, file.partition("/")[0]) == [breach]


def test_rooms_of_one_floor_do_not_use_each_other(tree: Path) -> None:
    (tree / "benchmark/judging/verdicts.py").write_text("from benchmark.diagnosis import page\n")
    (tree / "benchmark/diagnosis/advice.py").write_text("from benchmark.judging import verdicts\n")
    assert check(tree, "benchmark") == ["benchmark: a circle of imports, diagnosis -> judging -> diagnosis"]


@pytest.mark.parametrize("line", ["import torch", "from torch.nn import Linear", "def f():\n    import torch"])
@pytest.mark.parametrize("file", ["records/store.py", "suite/load.py"])
def test_planted_torch_is_found(tree: Path, file: str, line: str) -> None:
    (tree / "benchmark" / file).write_text(line)
    assert check_no_torch(tree) == [f"benchmark/{file}:{1 + line.count(chr(10))}: imports torch"]
