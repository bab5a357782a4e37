"""The rule of the house: imports only point left, Ray stays at the edges, and root files know no room."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "src" / "medtrain"
ORDER = ("data", "tokens", "train", "experts", "router", "evaluate", "export")
"""A room may import itself and the rooms before it."""
ABOVE = ("search", "demo")
"""These may import any room, and no room imports them."""
RAY_FILES = ("pipeline.py", "worker.py", "launch.py", "runtime.py", "reservation.py")
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """Every module that a source text imports, anywhere in it, as absolute names; `package` is where it stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            names |= {stem, *(f"{stem}.{alias.name}" for alias in node.names)}
    return names


def faults(path: Path, source: str) -> list[str]:
    """What a file of the package (its path relative to it) imports and must not."""
    names = imported(source, ("medtrain", *path.parts[:-1]))
    room = path.parts[0] if len(path.parts) > 1 else None
    found = [name for name in names if name.split(".")[0] in ("jobs", "tune", "tests")]
    if path.name not in RAY_FILES:
        found += [name for name in names if name.split(".")[0] == "ray"]
    for name in names:
        if not name.startswith("medtrain.") or (target := name.split(".")[1]) == room:
            continue
        if room in ABOVE:
            continue
        if target in ABOVE or (target in ORDER and (room is None or ORDER.index(target) > ORDER.index(room))):
            found.append(name)
    return sorted(found)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    assert faults(path.relative_to(PACKAGE), path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("data/a.py", "import medtrain.tokens.shards"),
        ("data/a.py", "def f():\n    from medtrain import demo"),
        ("train/a.py", "from medtrain.evaluate import harness"),
        ("train/a.py", "from ..evaluate import harness"),
        ("train/loop.py", "import ray.train"),
        ("tokens/a.py", "from ray import data"),
        ("config.py", "from medtrain.data import source"),
        ("evaluate/a.py", "import jobs.stage1"),
    ],
)
def test_a_wrong_import_is_seen(path: str, source: str) -> None:
    assert faults(Path(path), source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tokens/a.py", "from medtrain.data.source import Unit"),
        ("train/worker.py", "import ray.train"),
        ("evaluate/a.py", "from . import harness\nfrom ..train import model\nfrom medtrain import config"),
        ("demo/base.py", "from medtrain.train import model"),
    ],
)
def test_a_right_import_is_let_pass(path: str, source: str) -> None:
    assert faults(Path(path), source) == []


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms <= {*ORDER, *ABOVE}
