"""`cluster/local.sh`: it gives back the job's exit code and leaves no process behind, however it ends."""

import re
import signal
import subprocess
import time
import uuid
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[2]
JOB = """#!/usr/bin/env python
import sys, time
import ray
ray.init(log_to_driver=False)
print("found", ray.get(ray.remote(lambda: 21).remote()), flush=True)
print("socket", ray.nodes()[0]["ObjectStoreSocketName"], flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(int(sys.argv[2]))
"""


def _left(mark: str) -> list[str]:
    """Living processes that inherited the mark, or whose command line names a folder of a process that did."""
    left = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("MEDTRAIN_TEST_MARK") == mark:
                left.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return left


def _start(user: dict[str, str], folder: Path, arguments: list[str], mark: str) -> "subprocess.Popen[str]":
    job = folder / "job.py"
    job.write_text(JOB)
    job.chmod(0o755)
    return subprocess.Popen(
        ["cluster/local.sh", str(job), *arguments],
        cwd=PROJECT,
        env={**user, "MEDTRAIN_TEST_MARK": mark},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_the_job_s_exit_code_comes_back(user: dict[str, str], tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    running = _start(user, tmp_path, ["0", "3"], mark)
    output, _ = running.communicate(timeout=280)
    assert running.returncode == 3, output
    assert "found 21" in output
    assert _left(mark) == []
    folder = re.search(r"^socket (/tmp/medtrain-\w+)/", output, re.MULTILINE)
    assert folder and not Path(folder[1]).exists()


@pytest.mark.long
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_when_it_is_ended(user: dict[str, str], tmp_path: Path, ending: signal.Signals) -> None:
    mark = uuid.uuid4().hex
    running = _start(user, tmp_path, ["600", "0"], mark)
    assert running.stdout is not None
    for line in running.stdout:
        if "found 21" in line:
            break
    assert _left(mark), "the mark finds nothing, so this test could not fail"
    running.send_signal(ending)
    running.wait(120)
    deadline = time.monotonic() + 120
    while _left(mark) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert _left(mark) == []
    assert running.returncode == (-9 if ending == signal.SIGKILL else 128 + ending)
