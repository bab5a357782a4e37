"""SIGTERM and a machine's notice are word to leave, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

from medtrain.train.notice import Notice

PROJECT = Path(__file__).resolve().parents[2]

LISTENER = """
import os, signal
from medtrain.train import notice
questions = []
asked = notice.Notice(lambda: questions.append(0))
assert asked.given(0) == ""
notice.listen()
os.kill(os.getpid(), signal.SIGTERM)
print(*[asked.given(step) for step in (4, 5, 6, 7, 8)], len(questions))
"""


def test_sigterm_is_word_and_no_longer_the_end() -> None:
    """It is told at the very next step, and a rank that has it asks the cluster as often as the others: that question,
    unlike a look at the own process, is a barrier that costs time, and comes at every fourth step only."""
    there = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", LISTENER], capture_output=True, text=True, check=False, env=there)
    assert (done.returncode, done.stdout.strip()) == (0, "SIGTERM SIGTERM SIGTERM SIGTERM SIGTERM 3"), done.stderr


def test_the_clusters_word_is_taken() -> None:
    assert Notice(lambda: None).given(0) == "" == Notice().given(0)
    soon = Notice(lambda: object())
    told = {step for step in range(9) if soon.given(step) == "a node is about to go"}
    assert told == {0, 4, 8}
