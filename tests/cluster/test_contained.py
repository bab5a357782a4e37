"""`cluster/contained.py` and `cluster/node.py`: orphans are ended with their family, strangers are left alone."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

PROJECT = Path(__file__).resolve().parents[2]
FAMILY = """
setsid sleep 987 & echo $! > {folder}/a.part; mv {folder}/a.part {folder}/a
(trap '' TERM; sleep 987; sleep 987) & echo $! > {folder}/b.part; mv {folder}/b.part {folder}/b
"""


def wait_for(done: Callable[[], bool], limit_s: float = 30) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def living(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.mark.parametrize("ending", [None, signal.SIGTERM, signal.SIGINT])
def test_the_family_ends_and_nobody_else(tmp_path: Path, ending: signal.Signals | None) -> None:
    """One child moved to its own session, one ignores SIGTERM, and their parent is gone or still there."""
    stranger = subprocess.Popen(["sleep", "987"])
    script = FAMILY.format(folder=tmp_path) + ("exit 5" if ending is None else "wait")
    keeper = subprocess.Popen([sys.executable, "cluster/contained.py", "bash", "-c", script], cwd=PROJECT)
    wait_for(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists())
    numbers = [int((tmp_path / name).read_text()) for name in ("a", "b")]
    if ending is not None:
        assert all(living(number) for number in numbers)
        keeper.send_signal(ending)
    assert keeper.wait(30) == (5 if ending is None else 128 + ending)
    assert not any(psutil.pid_exists(number) for number in numbers), "ended and buried"
    assert living(stranger.pid)
    stranger.kill()
    stranger.wait()


def test_a_node_replaces_only_its_own_earlier_one(tmp_path: Path) -> None:
    def node(*command: str) -> int:
        done = subprocess.run(
            [sys.executable, "cluster/node.py", *command],
            cwd=PROJECT,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )
        return done.returncode

    def keeper() -> int:
        return int((tmp_path / ".medtrain-node" / "keeper").read_text().split()[0])

    assert node("sleep", "987") == 0
    first = keeper()
    assert living(first)
    assert node("sleep", "986") == 0
    assert not living(first) and living(keeper())
    assert node() == 0
    assert not living(keeper())
    assert node("false") == 1, "a node that dies at once is a failure"
