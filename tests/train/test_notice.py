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
print(asked.given(4), len(questions))
"""


def test_sigterm_is_word_and_no_longer_the_end() -> None:
    """And a rank that has it asks the cluster as often as the others: that question is a barrier."""
    there = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", LISTENER], capture_output=True, text=True, check=False, env=there)
    assert (done.returncode, done.stdout.strip()) == (0, "SIGTERM 2"), done.stderr


def test_the_clusters_word_is_taken() -> None:
    assert Notice(lambda: None).given(0) == "" == Notice().given(0)
    soon = Notice(lambda: object())
    assert [soon.given(step) for step in (0, 1, 4)] == ["a node is about to go", "", "a node is about to go"]
