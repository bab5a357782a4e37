"""The main job's first minute: a head started by hand, its token, and what `ray job submit` runs on the workers."""

import shutil
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LOOK = """#!/usr/bin/env python
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import ray
from medtrain import plugins, runtime
from medtrain.storage import Store, StorageConfig

runtime.connect()
runtime.check_cluster(Store(StorageConfig().root))
probe = plugins.load("data", "sources", "probe").probe
print("by reference:", ray.get(ray.remote(probe).remote()))
"""


@pytest.mark.parametrize("path", ["/api/version", "/api/jobs/", "/api/cluster_status"])
def test_a_request_needs_the_token(head: Any, path: str) -> None:
    assert head.get(path, None) == 401
    assert head.get(path, "0" * len(head.token)) in (401, 403)
    assert head.get(path, head.token) == 200


def test_the_token_is_private_to_its_user(head: Any) -> None:
    file = Path(head.environment["HOME"]) / ".ray" / "auth_token"
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("script", ["jobs/stage2.py", pytest.param("tune/run_study.py", marks=pytest.mark.long)])
def test_the_literal_command_runs(head: Any, script: str) -> None:
    """With nothing made yet it says which job comes first; that it trains is for `make demo` to show."""
    done = head.submit(script)
    assert done.returncode != 0
    assert "Running entrypoint for job" in done.stdout
    assert "makes it: run that first" in done.stdout and "Traceback" not in done.stdout


@pytest.mark.long
def test_a_job_takes_options_after_two_dashes(head: Any) -> None:
    done = head.submit("-- jobs/prepare_data.py --dry-run data.holdout.seed=7")
    assert done.returncode == 0, done.stdout
    assert "seed: 7" in done.stdout and "data/demo <-" in done.stdout


@pytest.mark.long
def test_a_relative_storage_root_is_refused(head: Any) -> None:
    done = head.submit("jobs/stage2.py storage.root=runs")
    assert done.returncode != 0
    assert "a relative root" in done.stdout and "Traceback" not in done.stdout


def test_workers_run_the_submitted_tree(head: Any, tmp_path: Path) -> None:
    """A copy with another version and a plug-in: the workers report both, though an installed medtrain is there too."""
    tree = tmp_path / "copy"
    for part in ("src", "cluster"):
        shutil.copytree(PROJECT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (tree / "src/medtrain/__init__.py").write_text('__version__ = "9.8.7"\n')
    probe = tree / "plugins/data/sources/probe.py"
    probe.parent.mkdir(parents=True)
    probe.write_text("def probe():\n    return 'seen'\n")
    (tree / "src/medtrain/data/sources").mkdir(parents=True, exist_ok=True)
    (tree / "src/medtrain/data/sources/inner.py").write_text("")
    job = tree / "jobs/look.py"
    job.parent.mkdir()
    job.write_text(LOOK)
    job.chmod(0o755)
    variables = """--runtime-env-json '{"env_vars": {"MEDTRAIN_PLUGINS": "plugins"}}'"""
    done = head.submit(f"--working-dir . {variables} -- jobs/look.py", tree)
    assert done.returncode == 0, done.stdout
    assert "run medtrain 9.8.7, plug-ins: data/sources/probe;" in done.stdout
    assert "data/sources/inner" in done.stdout
    assert "by reference: seen" in done.stdout
