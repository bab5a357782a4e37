"""A stage whose workers get SIGKILL and SIGTERM and whose driver is killed ends with an undisturbed run's adapter."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import contained
import local_head
import psutil
import pytest
import yaml

from medtrain.storage import Store

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = {
    "runtime": {"workers": 2},
    "train": {
        "name": "run",
        "stage": 1,
        "tokens": "tiny",
        "epochs": 11,
        "adapter": {"kind": "lora", "rank": 4, "dropout": 0.1},
        "batch": {"size": 16, "micro_tokens": 64},
        "optimizer": {"learning_rate": 1e-3},
        "validation": {"every_steps": 10},
        "checkpoint": {"every_steps": 9, "memory_every_steps": 3},
    },
}


@dataclass(frozen=True)
class Head:
    """A Ray head of this test's own, which it may hurt."""

    address: str
    process: "subprocess.Popen[bytes]"

    def train_workers(self) -> list[psutil.Process]:
        """The processes of this head in which Ray Train trains."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in family if "RayTrainWorker" in " ".join(child.cmdline())]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """A head, ended with its family after the test."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with local_head.short_folder() as folder, (tmp_path / "head.log").open("wb") as output:
        command = local_head.head_command(folder, local_head.free_ports(1)[0])
        port = next(part.partition("=")[2] for part in command if part.startswith("--port="))
        head = subprocess.Popen(
            [sys.executable, str(PROJECT / "cluster" / "contained.py"), *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=contained.end_with_parent,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "PATH": path},
        )
        try:
            yield Head(f"127.0.0.1:{port}", head)
        finally:
            head.terminate()
            head.wait(60)


def _start(address: str, root: str, config: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROJECT / "jobs" / "stage1.py"), "--config", str(config), f"storage.root={root}"]
    log = config.with_suffix(".log").open("ab")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _wait_for_step(run: Path, step: int, driver: "subprocess.Popen[bytes]") -> int:
    """The last step that the run has logged, once it is at least `step` and before the run has ended."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert driver.poll() is None, "the run ended before it could be killed"
        path = run / "log" / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        reached = max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)
        if reached >= step:
            return int(reached)
        time.sleep(0.02)
    pytest.fail(f"step {step} was not reached")


def _youngest(processes: list[psutil.Process]) -> psutil.Process:
    """The one started last: an earlier group's workers may still be ending."""
    return max(processes, key=lambda process: process.create_time())


@pytest.mark.timeout(600)
def test_killed_and_terminated_workers_and_a_killed_driver_change_nothing(
    made: Store, head: Head, tmp_path: Path
) -> None:
    root = made.local()
    config = tmp_path / "killed.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    driver = _start(head.address, str(root), config)
    run = root / "stage1" / "run"
    reached = _wait_for_step(run, 8, driver)
    head.train_workers()[0].send_signal(signal.SIGKILL)
    _wait_for_step(run, 16, driver)
    _youngest(head.train_workers()).terminate()
    _wait_for_step(run, 28, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not (run / "manifest.json").exists()
    assert _start(head.address, str(root), config).wait(180) == 0
    log = config.with_suffix(".log").read_text()
    resumed = [(int(step), where) for step, where in re.findall(r"resumed at step (\d+) from (\w+)", log)]
    assert [where for _, where in dict.fromkeys(resumed)] == ["memory", "checkpoints", "checkpoints"], log[-3000:]
    assert f"SIGTERM: step {resumed[1][0]} is saved" in log, "word to leave costs no step"
    assert reached - resumed[0][0] <= 5, "the memory tier lost more steps than its interval"

    undisturbed = tmp_path / "undisturbed.yaml"
    undisturbed.write_text(yaml.safe_dump({**CONFIG, "train": {**CONFIG["train"], "name": "calm"}}))  # type: ignore[dict-item]
    assert _start(head.address, str(root), undisturbed).wait(180) == 0
    adapters = [
        (root / "stage1" / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("run", "calm")
    ]
    assert adapters[0] == adapters[1]
    steps = [
        json.loads(line)["step"] for line in (run / "log" / "metrics.jsonl").read_text().splitlines() if "loss" in line
    ]
    assert len({*steps}) == 44
