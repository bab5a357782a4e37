"""`make env`: what is missing is said before anything is installed, and the stamp is written last.

The script runs in a copy of the tree with an interpreter that is a shell script around this one: it makes no
environment and installs nothing, but notes that it was asked to.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = """#!/usr/bin/env bash
case "$*" in
*"import venv, ensurepip"*) [ -z "$WITHOUT_VENV" ] ;;
*"-m venv --clear "*) mkdir -p "${@: -1}/bin"; cp "$0" "${@: -1}/bin/python"; echo venv >>"$NOTES" ;;
*"-m pip install"*) echo "pip $*" >>"$NOTES"; [ -z "$PIP_FAILS" ] ;;
*get_paths*) if [ -n "$WITHOUT_HEADERS" ]; then echo /nowhere; else exec "$REAL" "$@"; fi ;;
*) exec "$REAL" "$@" ;;
esac
"""


class Tree:
    """A copy of what the script reads."""

    def __init__(self, folder: Path):
        self.folder, self.notes = folder, folder / "notes"
        (folder / "cluster").mkdir()
        for name in ("cluster/make_env.sh", "pyproject.toml", "constraints.txt"):
            shutil.copy(PROJECT / name, folder / name)
        self.python = folder / "python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)

    @property
    def stamp(self) -> Path:
        return self.folder / ".venv" / ".medtrain-stamp"

    def run(self, **variables: str) -> "subprocess.CompletedProcess[str]":
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MEDTRAIN_") and k not in ("CXX", "EXTRAS")}
        own = {"PYTHON": str(self.python), "REAL": sys.executable, "NOTES": str(self.notes)}
        return subprocess.run(
            ["bash", "cluster/make_env.sh"],
            cwd=self.folder,
            env={**kept, **own, **variables},
            text=True,
            capture_output=True,
        )

    def bare(self) -> str:
        """A PATH without any Python."""
        folder = self.folder / "bare"
        folder.mkdir()
        for tool in ("bash", "dirname", "cat", "sed"):
            (folder / tool).symlink_to(shutil.which(tool) or tool)
        return str(folder)

    def noted(self) -> list[str]:
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        self.notes.unlink(missing_ok=True)
        return lines


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WITHOUT_VENV": "1"}, "has no venv module"),
        ({"CXX": "no-such-compiler"}, r"no C++ compiler (no-such-compiler)"),
        ({"CXX": "false"}, "cannot compile with Python.h"),
        ({"WITHOUT_HEADERS": "1"}, "cannot compile with Python.h"),
        ({"PYTHON": "/nowhere/python"}, "PYTHON=/nowhere/python is no Python 3.11 or 3.12"),
        ({"PYTHON": "", "PATH": "/nowhere"}, "found no Python 3.11 or 3.12"),
    ],
)
def test_what_is_missing_is_said_before_installing(tree: Tree, variables: dict[str, str], said: str) -> None:
    done = tree.run(**{**variables, **({"PATH": tree.bare()} if variables.get("PATH") else {})})
    assert done.returncode != 0
    assert said in done.stderr
    assert tree.noted() == [] and not tree.stamp.exists()


def test_it_is_made_once_and_again_when_its_inputs_change(tree: Tree) -> None:
    assert tree.run().returncode == 0
    first = tree.noted()
    assert first[0] == "venv" and "-c constraints.txt -e .[dev]" in first[1] and len(first) == 2
    assert tree.run().returncode == 0
    assert tree.noted() == []
    for name in ("constraints.txt", "pyproject.toml"):
        with (tree.folder / name).open("a") as file:
            file.write("# changed\n")
        assert tree.run().returncode == 0
        assert len(tree.noted()) == 2


def test_extras_and_interpreter_are_kept_by_calls_that_do_not_say_them(tree: Tree) -> None:
    assert tree.run(EXTRAS="dev,gpu").returncode == 0
    first = tree.noted()
    assert len(first) == 3 and first[1].endswith("-e . setuptools>=77 wheel"), "PyTorch comes before flash-attn"
    assert first[2].endswith("--no-build-isolation -e .[dev,gpu]")
    assert tree.run().returncode == 0 and tree.noted() == []
    assert tree.run(PYTHON="", PATH=tree.bare()).returncode == 0 and tree.noted() == []


def test_a_failed_installation_leaves_no_stamp(tree: Tree) -> None:
    assert tree.run().returncode == 0
    (tree.folder / "constraints.txt").write_text("")
    assert tree.run(PIP_FAILS="1").returncode != 0
    assert not tree.stamp.exists()
    tree.noted()
    assert tree.run().returncode == 0
    assert len(tree.noted()) == 2


def test_an_environment_of_the_user_s_own_is_never_touched(tree: Tree) -> None:
    assert tree.run(MEDTRAIN_VENV=sys.prefix).returncode == 0
    assert tree.noted() == []
    done = tree.run(MEDTRAIN_VENV="/nowhere")
    assert done.returncode != 0 and "MEDTRAIN_VENV=/nowhere is no environment" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_env_sh_without_an_environment_says_what_to_do(tree: Tree, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    shutil.copy(PROJECT / "cluster" / "env.sh", tree.folder / "cluster" / "env.sh")
    script = f"cd / && source {tree.folder}/cluster/env.sh && echo activated"
    done = subprocess.run([shell, "-c", script], env={"PATH": os.environ["PATH"]}, text=True, capture_output=True)
    assert done.returncode != 0 and "activated" not in done.stdout
    assert f"run: make -C {tree.folder} env" in done.stderr
