"""The job that prepares data, as a process: dry runs and errors, without a cluster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).resolve().parents[2] / "jobs" / "prepare_data.py"


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MEDTRAIN_HOME": str(tmp_path / "home")}
    command = [sys.executable, str(JOB), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=JOB.parents[1], check=False)


def test_dry_run_lists_the_units_of_the_demo(tmp_path: Path) -> None:
    done = run(tmp_path, "--dry-run", "data.holdout.rows=7", "data.sources.0.max_rows=5")
    assert done.returncode == 0, done.stderr
    assert "rows: 7" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if "unit(s)" in line]
    assert {"bc5cdr", "promptcblue", "taiyi", "coig_cqia", "identity"} < {line[0] for line in lines}
    assert lines[0][-4:] == ["at", "most", "5", "rows"]
    assert not (tmp_path / "home" / "data").exists()


def test_dry_run_lists_the_units_of_published_corpora(tmp_path: Path, shared: Path) -> None:
    done = run(tmp_path, "--config", "real", "--dry-run", f"data.root={shared / 'data'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("unit(s)") == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["data.sources.0.max_rws=5"], "max_rows"),
        (["data.sources.0.source=bc5"], "no plug-in 'bc5'"),
        (["data.root=/nowhere/at/all"], "no folder /nowhere/at/all"),
        (["storage.root=relative"], "storage.root"),
    ],
)
def test_wrong_settings_end_without_a_traceback(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run(tmp_path, "--dry-run", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
