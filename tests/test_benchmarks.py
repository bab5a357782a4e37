"""Every benchmark runs in its quick form and ends with its claims as JSON; whether they hold is for `make bench`."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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
    assert found["unsloth"] and (isinstance(found["llamafactory"], str) or found["llamafactory"]["tokens_per_s"] > 0)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_gpu_benchmark_of_experts_runs_on_a_cpu() -> None:
    found = claims([str(PROJECT / "benchmarks" / "gpu" / "experts.py"), "--quick", "--device", "cpu"])
    assert len(found) == 3 and all(set(claim) >= FIELDS | {"peak_gib"} for claim in found)


def test_every_claim_is_in_the_list() -> None:
    listed = (PROJECT / "benchmarks" / "README.md").read_text()
    assert [script.name for script in SCRIPTS if f"`{script.name}`" not in listed] == []


FAKE_FACTORY = """#!{python}
import json, sys
from pathlib import Path
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

given = json.loads(Path(sys.argv[2]).read_text())
out = Path(given["output_dir"])
writer = EventFileWriter(str(out / "runs" / "now"))
for step, when in enumerate((100.0, 200.0, 201.0, 204.0), 1):
    loss = Summary(value=[Summary.Value(tag="train/loss", simple_value=2.0)])
    writer.add_event(Event(wall_time=when, step=step, summary=loss))
writer.close()
(out / "train_results.json").write_text(json.dumps(dict(
    effective_tokens_per_sec={seen} / 104, train_runtime=104, epoch=1.0, train_loss=2.0)))
"""
"""A `llamafactory-cli` whose four steps end at known times."""


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    return importlib.import_module("peers.factory")


@pytest.fixture
def race(factory: Any, tmp_path: Path) -> Any:
    """Four steps of 8 rows of 10 tokens."""
    return factory.Race(str(tmp_path / "base"), 10, micro=4, accumulation=2, steps=3, rate=1e-4, cpu=True)


def environment(folder: Path, command: str) -> Path:
    """A Python environment with this for LLaMA-Factory."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "llamafactory-cli").write_text(command)
    (folder / "bin" / "llamafactory-cli").chmod(0o755)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


def test_the_rows_of_llamafactory_have_the_tokens_that_ours_have(factory: Any, race: Any) -> None:
    rows, tokenizer = factory.made_rows(race), factory.byte_tokenizer()
    assert len(rows) == 4 * 8
    assert {len(tokenizer(row["instruction"] + row["output"])["input_ids"]) for row in rows} == {10}
    assert {len(tokenizer(row["output"])["input_ids"]) for row in rows} == {5}


def test_the_first_step_of_llamafactory_does_not_count(factory: Any, race: Any, tmp_path: Path) -> None:
    fake = FAKE_FACTORY.format(python=sys.executable, seen=4 * 80)
    found = factory.run(race, tmp_path / "scratch", environment(tmp_path / "env", fake))
    assert found["tokens_per_s"] == round(3 * 80 / 104, 1)
    assert (tmp_path / "base" / "tokenizer.json").is_file()


def test_llamafactory_is_not_counted_on_other_rows(factory: Any, race: Any, tmp_path: Path) -> None:
    fake = FAKE_FACTORY.format(python=sys.executable, seen=4 * 72)
    found = factory.run(race, tmp_path / "scratch", environment(tmp_path / "env", fake))
    assert found == "ValueError: 4 steps of 288 tokens in all, and not 4 of 320"


def test_a_llamafactory_that_is_absent_fails_or_hangs_is_named(
    factory: Any, race: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = "#!/bin/sh\necho 'ImportError: transformers<=5.6.0 is required' >&2\necho 'To fix: pip' >&2\nexit 1\n"
    assert factory.run(race, tmp_path / "none", tmp_path / "absent") == "not installed"
    found = factory.run(race, tmp_path / "one", environment(tmp_path / "failing", failing))
    assert found == "ImportError: transformers<=5.6.0 is required"
    silent = environment(tmp_path / "silent", "#!/bin/sh\nexit 0\n")
    assert factory.run(race, tmp_path / "two", silent) == "ValueError: it ended without a record of its steps"
    monkeypatch.setattr(factory, "LIMIT_S", 0.2)
    hanging = environment(tmp_path / "hanging", "#!/bin/sh\nexec sleep 60\n")
    assert factory.run(race, tmp_path / "three", hanging) == "did not end within 0.2 s"
