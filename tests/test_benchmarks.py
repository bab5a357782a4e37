"""Every benchmark runs in its quick form and ends with its claims as JSON; whether they hold is for `make bench`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted((PROJECT / "benchmarks").glob("*.py"))
FIELDS = {"claim", "ours", "peer", "ratio", "bar", "holds", "device", "versions"}


def claims(command: list[str]) -> list[dict[str, object]]:
    """The last line that a benchmark prints."""
    given = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command], env=given, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, object]] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_benchmark_ends_with_its_claims(script: Path) -> None:
    if script.name == "train_vs_peers.py" and not (PROJECT / ".bench-env").is_dir():
        pytest.skip("its peers are not installed; make bench-env")
    found = claims([str(script), "--quick"])
    assert found and all(set(claim) >= FIELDS for claim in found)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_gpu_benchmark_runs_on_a_cpu() -> None:
    (found,) = claims([str(PROJECT / "benchmarks" / "gpu" / "train.py"), "--quick", "--device", "cpu"])
    assert set(found) >= FIELDS | {"mfu", "peak_gib", "estimated_gib", "card_of_24_gib", "hours_on_four_rtx3090"}


def test_every_claim_is_in_the_list() -> None:
    listed = (PROJECT / "benchmarks" / "README.md").read_text()
    assert [script.name for script in SCRIPTS if f"`{script.name}`" not in listed] == []
