"""Sizes, names and places that a reader can rely on."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = PROJECT / "src" / "medtrain"
SOURCES = sorted(PACKAGE.rglob("*.py"))
JOBS = sorted([*(PROJECT / "jobs").glob("*.py"), *(PROJECT / "tune").glob("*.py")])
CODE = [*SOURCES, *JOBS, *sorted((PROJECT / "cluster").glob("*.py")), *sorted((PROJECT / "benchmarks").rglob("*.py"))]
TESTS = sorted((PROJECT / "tests").rglob("*.py"))
MODULE_LINES, FUNCTION_LINES, PARAMETERS, PARAMETERS_HARD, JOB_LINES, README_LINES = 400, 80, 6, 8, 80, 80

TESTED_BY = {
    "errors.py": "test_job.py",
    "pages.py": "evaluate/test_scoring.py",
    "demo/general.py": "demo/test_corpus.py",
    "demo/grammar.py": "demo/test_corpus.py",
    "demo/lexicon.py": "demo/test_corpus.py",
    "demo/model.py": "demo/test_base.py",
    "demo/pretrain.py": "demo/test_base.py",
    "demo/rawtext.py": "demo/test_base.py",
    "evaluate/cases.py": "evaluate/test_scoring.py",
    "evaluate/report.py": "evaluate/test_scoring.py",
    "evaluate/rows.py": "evaluate/test_answering.py",
    "evaluate/sets.py": "evaluate/metrics/test_set_metrics.py",
    "evaluate/systems.py": "evaluate/test_answering.py",
    "evaluate/table.py": "evaluate/test_scoring.py",
    "router/card.py": "router/test_fit.py",
    "router/held.py": "search/trials/test_fit.py",
    "router/inputs.py": "router/test_fit.py",
    "router/minimise.py": "router/methods/test_cmaes.py",
    "router/settings.py": "router/test_fit.py",
    "router/states.py": "router/test_fit.py",
    "router/worker.py": "router/test_launch.py",
    "search/beginning.py": "search/test_study.py",
    "search/judging.py": "search/trials/test_fit.py",
    "search/searcher.py": "contracts/test_search_searchers.py",
    "search/told.py": "search/test_study.py",
    "search/worker.py": "search/tuning/test_launch.py",
    "tokens/config.py": "tokens/test_recipe.py",
    "tokens/convert.py": "tokens/test_pipeline.py",
    "tokens/dialogue.py": "tokens/test_render.py",
    "tokens/template.py": "tokens/test_render.py",
    "tokens/words.py": "tokens/test_render.py",
    "train/footprint.py": "train/test_estimate.py",
    "train/model.py": "train/test_merge.py",
    "train/state.py": "train/test_equality.py",
}
"""Modules that are tested through what they are part of -> the test file that runs them."""

FORBIDDEN = {
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "unfinished work",
    r"pickle\.loads?\(|torch\.load\((?!.*weights_only=True)": "a pickle read from disk runs what it holds",
    r"ray\s+stop": "ends other people's clusters too",
    r"/(?:root|home/\w+|work)/": "a path of one machine",
    r"https?://(?!127\.0\.0\.1|localhost)[\w.-]*(?:pypi|pythonhosted|mirror|index)": "a package registry's host",
}


def name(path: Path) -> str:
    """A path as a test's id."""
    return str(path.relative_to(PROJECT))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", CODE, ids=name)
def test_sizes(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= (JOB_LINES if path in JOBS else MODULE_LINES)
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= FUNCTION_LINES, f"{function.name}: {length} lines"
        given = function.args
        count = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
        own = bool(given.args) and given.args[0].arg in ("self", "cls")
        assert count - own <= PARAMETERS_HARD, f"{function.name}: {count - own} parameters"


def test_few_functions_have_many_parameters() -> None:
    """Six is the limit; what passes it up to the hard limit stays rare."""
    many = []
    for path in CODE:
        for function in functions(path):
            given = [a.arg for a in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)]
            if len([a for a in given if a not in ("self", "cls")]) > PARAMETERS:
                many.append(f"{name(path)}:{function.name}")
    assert len(many) <= 3, many


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_every_module_and_public_part_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not tree.body:
        return
    assert ast.get_docstring(tree), "the module has none"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has none"


@pytest.mark.parametrize(
    "room", sorted(p for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"), ids=lambda p: p.name
)
def test_every_room_has_a_readme_of_a_page(room: Path) -> None:
    readme = room / "README.md"
    assert readme.is_file()
    assert 5 <= readme.read_text(encoding="utf-8").count("\n") <= README_LINES


@pytest.mark.parametrize("path", [p for p in SOURCES if p.name != "__init__.py"], ids=name)
def test_tests_mirror_sources(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    own = PROJECT / "tests" / relative.parent / f"test_{path.name}"
    through = TESTED_BY.get(relative.as_posix())
    if through is not None:
        assert not own.exists(), "has a test file of its own: take it off the list"
        assert (PROJECT / "tests" / through).is_file()
    if own.is_file() or through is not None:
        return
    # A plug-in without a test of its own is run by the contract test of its folder.
    contract = PROJECT / "tests" / "contracts" / f"test_{'_'.join(relative.parts[:-1])}.py"
    assert len(relative.parts) == 3 and contract.is_file(), f"neither {name(own)} nor {name(contract)}"


def test_the_list_of_modules_without_a_test_file_is_true() -> None:
    assert [module for module in TESTED_BY if not (PACKAGE / module).is_file()] == []


def test_every_test_file_says_what_it_tests() -> None:
    for path in TESTS:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{name(path)} says nothing of itself"
    assert not list((PROJECT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("job", JOBS, ids=name)
def test_jobs_run_as_they_stand(job: Path) -> None:
    assert job.read_text(encoding="utf-8").startswith("#!/usr/bin/env python\n")
    assert job.stat().st_mode & 0o111 == 0o111, "not executable"
    tracked = subprocess.run(
        ["git", "ls-files", "-s", "--", str(job)], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout
    assert not tracked or tracked.startswith("100755"), "not executable in git"


@pytest.mark.parametrize("job", JOBS, ids=name)
def test_no_job_bears_a_module_s_name(job: Path) -> None:
    """`python jobs/x.py` puts jobs/ first on sys.path: the job would be imported in the module's place."""
    taken = {
        *sys.stdlib_module_names,
        "medtrain",
        "ray",
        "optuna",
        "datasets",
        "evaluate",
        "torch",
        "peft",
        "transformers",
    }
    assert job.stem not in taken


def _texts() -> list[Path]:
    """Every text file of the project that somebody reads, but this one, which names what it forbids."""
    patterns = ("*.py", "*.md", "*.sh", "*.yaml", "*.toml", "*.txt", "*.jinja", "Makefile", "run")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    ).stdout.splitlines()  # fmt: skip
    paths = [PROJECT / line for line in listed] or [*CODE, *TESTS]
    return [p for p in paths if any(p.match(pattern) for pattern in patterns) and p.is_file() and p != Path(__file__)]


@pytest.mark.parametrize("pattern", FORBIDDEN, ids=FORBIDDEN.values())
def test_nowhere(pattern: str) -> None:
    found = []
    for path in _texts():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line) and "noqa: S301" not in line:
                found.append(f"{name(path)}:{number}: {line.strip()[:80]}")
    assert found == []


HEAVY = {"ray", "deepspeed", "bitsandbytes", "peft", "transformers"}
LISTENED_TO = {
    "deepspeed.accelerator.get_accelerator.synchronize": "train/test_engine.py counts its calls; a CPU's does nothing",
    "ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy": "experts/test_launch.py notes the node, calls it",
    "transformers.masking_utils.find_packed_sequence_indices": "train/test_attention.py sees whether it is called",
    "deepspeed.utils.safe_set_full_fp32_param": "train/test_equality.py plants a bug",
}
"""Parts of heavy engines that a test listens to, or breaks on purpose, and which one; there are no others."""


def _imported(tree: ast.AST) -> dict[str, str]:
    """What the names that a file imports, at any depth, are called where they come from."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.asname: a.name for a in node.names if a.asname}
            found |= {(top := a.name.split(".")[0]): top for a in node.names if not a.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def _dotted(node: ast.expr, imported: dict[str, str]) -> str:
    """An expression's full name, `package.module.name` or so; empty where it begins with no import."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return imported.get(name, "")
        case ast.Attribute(value=of, attr=attribute):
            return f"{owner}.{attribute}" if (owner := _dotted(of, imported)) else ""
        case ast.Subscript(value=of, slice=ast.Constant(value=str(key))):
            return f"{owner}.{key}" if (owner := _dotted(of, imported)) else ""
        case ast.Call(func=of):
            return _dotted(of, imported)
    return ""


def _origin(full: str) -> str:
    """Where a name comes from that one of our modules imports: to replace it there is to replace that."""
    full = full.removeprefix("sys.modules.")
    parts = full.split(".")
    for end in range(len(parts) - 1, 0, -1):
        path = PACKAGE.parent.joinpath(*parts[:end])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file() and (known := _imported(ast.parse(file.read_text(encoding="utf-8"))).get(parts[end])):
                return ".".join([known, *parts[end + 1 :]])
    return full


def _replaced(source: str) -> set[str]:
    """The full names of what a file puts something in the place of, by `setattr`, an assignment or a mock."""
    tree = ast.parse(source)
    imported = _imported(tree)
    found = {full for full in imported.values() if re.match(r"(unittest\.mock|mock|pytest_mock)\b", full)}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[of, *rest]) if re.fullmatch(
                "(set|del)(attr|item)", called
            ):
                key = _dotted(rest[0], {}) if rest else ""
                found.add(f"{owner}.{key}".rstrip(".") if (owner := _dotted(of, imported)) else "")
            case ast.Assign(targets=targets):
                found |= {_dotted(target, imported) for target in targets if not isinstance(target, ast.Name)}
    return {_origin(full) for full in found if full}


def test_heavy_engines_are_never_mocked() -> None:
    replaced = set().union(*(_replaced(path.read_text(encoding="utf-8")) for path in TESTS))
    banned = HEAVY | {"unittest", "mock", "pytest_mock"}
    assert {full for full in replaced if full.split(".")[0] in banned} == set(LISTENED_TO)


@pytest.mark.parametrize(
    ("source", "full"),
    [
        ("from unittest.mock import patch", "unittest.mock.patch"),
        ("import ray.train as rt\nrt.report = print", "ray.train.report"),
        ("from ray import data\nmonkeypatch.setattr(data, 'range', list)", "ray.data.range"),
        ("monkeypatch.setattr('peft.LoraModel', object)", "peft.LoraModel"),
        ("import sys\nmonkeypatch.setitem(sys.modules, 'bitsandbytes', None)", "bitsandbytes"),
        ("import sys\nsys.modules['deepspeed'] = None", "deepspeed"),
        (
            "from medtrain.train import launch\nmonkeypatch.setattr(launch, 'RunConfig', x)",
            "ray.train.RunConfig",
        ),
        ("from medtrain.train import worker as ours\nours.ray.get = list", "ray.get"),
    ],
)
def test_a_mock_is_seen_under_any_name(source: str, full: str) -> None:
    assert _replaced(source) == {full}
