"""SIGTERM and a machine's notice are word to leave, in processes of their own."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

from torch.distributed import TCPStore

from medtrain.storage import Store
from medtrain.train.notice import Notice

PROJECT = Path(__file__).resolve().parents[2]

LISTENER = """
import os, signal
from medtrain.train import notice
questions = []
asked = notice.Notice(lambda: questions.append(0))
assert asked.given(0, 0.1) == ""
notice.listen()
os.kill(os.getpid(), signal.SIGTERM)
print(*[asked.given(step, 0.1) for step in (4, 5, 6, 7, 8)], len(questions))
"""


def test_sigterm_is_word_and_no_longer_the_end() -> None:
    """It is told at the very next step, and a rank that has it asks the cluster as often as the others: that question,
    unlike a look at the own process, is a barrier that costs time, and comes at every fourth step only."""
    there = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    done = subprocess.run([sys.executable, "-c", LISTENER], capture_output=True, text=True, check=False, env=there)
    assert (done.returncode, done.stdout.strip()) == (0, "SIGTERM SIGTERM SIGTERM SIGTERM SIGTERM 3"), done.stderr


def test_the_clusters_word_is_taken() -> None:
    assert Notice(lambda: None).given(0, 0.1) == "" == Notice().given(0, 0.1)
    soon = Notice(lambda: object())
    told = {step for step in range(9) if soon.given(step, 0.1) == "a node is about to go"}
    assert told == {0, 4, 8}


def test_the_question_comes_at_each_step_that_is_long_or_of_unknown_length() -> None:
    soon = Notice(lambda: object())
    for step_s in (1.1, math.inf):
        assert all(soon.given(step, step_s) for step in range(1, 4))
    assert not soon.given(3, 0.9)


RANK = """
import os, sys
import torch
from medtrain.storage import Store
from medtrain.train import worker
from medtrain.train.notice import Notice
from medtrain.train.payload import Payload
from medtrain.train.timing import Clock
rank, port, told, *laps = sys.argv[1:]
os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
store = torch.distributed.TCPStore("127.0.0.1", int(port), 2, is_master=False)
torch.distributed.init_process_group("gloo", store=store, rank=int(rank), world_size=2)
left, asked, job = iter(laps), [], Payload.model_validate_json(told)
Clock.lap = lambda clock: float(next(left))
run, _ = worker._open(job, Store(job.root).sub(job.run), torch.device("cpu"))
run.notice = Notice(lambda: asked.append(run.progress.step))
worker.train(run)
print("asked", *asked)
"""
"""A process that is one of two workers; what its own clock says of each step is given."""


def test_all_ranks_ask_equally_often_whatever_their_own_clocks_say(made: Store) -> None:
    """The question is a barrier: one rank that thought a step long by itself would wait in it for ever."""
    train = {"name": "x", "tokens": "tiny", "epochs": 2, "adapter": {"kind": "lora", "rank": 4}}
    train |= {"model": {"precision": "fp32"}, "batch": {"size": 16, "micro_tokens": 128}}
    told = {"root": made.root, "run": "stage1/x", "submission": "s", "base": "artifact:bases/tiny", "cpus": 1}
    told |= {"base_path": str(made.local("bases/tiny")), "adapter_path": None, "collective_timeout_s": 60}
    told |= {"train": {**train, "checkpoint": {"memory_every_steps": 0}}}
    meeting = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    laps = {"0": ["inf", *["0.1"] * 7], "1": ["inf", *["0.1"] * 3, "3", *["0.1"] * 3]}
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, rank, str(meeting.port), json.dumps(told), *own],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, own in laps.items()
    ]
    try:
        said = [worker.communicate(timeout=300)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    for text in said:
        assert "asked 0 1 4 5" in text.splitlines(), text[-3000:]
