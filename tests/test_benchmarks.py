"""Every benchmark runs in its quick form and ends with its claims as JSON; whether they hold is for `make bench`."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

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
    assert set(found) >= FIELDS | {"mfu", "peak_gib", "estimated_gib", "step_s", "hours_on_four_rtx3090"}
    assert all(seconds > 0 for seconds in found["step_s"].values())
    assert found["unsloth"] and (isinstance(found["llamafactory"], str) or found["llamafactory"]["tokens_per_s"] > 0)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_gpu_benchmark_of_experts_runs_on_a_cpu() -> None:
    found = claims([str(PROJECT / "benchmarks" / "gpu" / "experts.py"), "--quick", "--device", "cpu"])
    assert len(found) == 3 and all(set(claim) >= FIELDS | {"peak_gib"} for claim in found)


def run_without(packages: tuple[str, ...], *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
    """`gpu/train.py` where these packages cannot be imported; `path` goes before the environment's own."""
    script = str(PROJECT / "benchmarks" / "gpu" / "train.py")
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({packages!r})); "
        f"sys.argv = {[script, *arguments]!r}; runpy.run_path({script!r}, run_name='__main__')"
    )
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=False)


def test_the_gpu_benchmark_needs_no_ray() -> None:
    done = run_without(("ray",), "--help")
    assert done.returncode == 0 and "--llamafactory" in done.stdout, done.stderr[-3000:]


def test_the_gpu_benchmark_names_what_is_missing_and_what_is_too_old(tmp_path: Path) -> None:
    done = run_without(("peft", "safetensors"), "--help")
    assert done.returncode == 1 and done.stdout == ""
    assert "missing packages: peft, safetensors; too old: none" in done.stderr
    old = tmp_path / "torch-2.10.1.dist-info"
    old.mkdir()
    (old / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.10.1+cu128\n")
    done = run_without((), "--help", path=str(tmp_path))
    assert done.returncode == 1 and done.stdout == ""
    assert "missing packages: none; too old: torch 2.10.1+cu128 (2.11 is needed)" in done.stderr


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROJECT / "benchmarks"))
    return importlib.import_module("gpu.card")


def test_a_trial_that_runs_out_of_memory_does_not_fit(card: Any) -> None:
    def exhausted() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def broken() -> None:
        raise RuntimeError("something else")

    assert card.fits(lambda: None) and not card.fits(exhausted)
    with pytest.raises(RuntimeError, match="something else"):
        card.fits(broken)


@pytest.mark.parametrize(("total_gib", "held_gib"), [(80, 24), (16, 16)])
def test_a_device_gives_what_the_smaller_card_has_and_then_all_again(
    card: Any, monkeypatch: pytest.MonkeyPatch, total_gib: int, held_gib: int
) -> None:
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**30, total_gib * 2**30))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.append(share))
    with pytest.raises(RuntimeError, match="a trial failed"), card.capped(torch.device("cuda", 0)) as gib:
        assert gib == held_gib and shares == [held_gib / total_gib]
        raise RuntimeError("a trial failed")
    assert shares == [held_gib / total_gib, 1.0]


@pytest.mark.parametrize(("found", "holds"), [((True, False), True), ((True, True), False), ((False, False), False)])
def test_the_estimator_s_word_on_a_card_is_a_claim_that_can_fail(
    card: Any, found: tuple[bool, bool], holds: bool
) -> None:
    settings = [{"said": said, "found": true} for said, true in zip((True, False), found, strict=True)]
    claim = card.claim("a 0.5B model", settings, {"device": "CPU", "versions": {}})
    assert set(claim) >= FIELDS and claim["settings"] == settings
    assert claim["holds"] is holds and (claim["ratio"] == claim["bar"]) is holds


def test_bioqwen_s_hours_go_by_the_ratio_of_peaks(card: Any) -> None:
    """87 million tokens 3 + 5 times: at 1,000 tokens/s of each of four cards 174,000 s."""
    assert card.bioqwen_hours(1000.0, card.DEVICES["rtx3090"]) == pytest.approx(174_000 / 3600)
    assert card.bioqwen_hours(1000.0, 2 * card.DEVICES["rtx3090"]) == pytest.approx(2 * 174_000 / 3600)


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
