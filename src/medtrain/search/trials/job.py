"""A training job as a trial: its own command line, run as a process beside the study on the same cluster.

A trial's artifact is named after the study and the trial, data and tokens are those that the job names and belong to
all trials. The winner's command line is this one, so that it reads its result back where it lies.
"""

import contextlib
import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Literal

from pydantic import Field

from medtrain import artifacts, config
from medtrain.artifacts import Identity
from medtrain.errors import TrainingError
from medtrain.search.trials import PRINTED, Report, TrialConfig, tree
from medtrain.storage import Store
from medtrain.train import stage
from medtrain.train.command import Job, plan

LOOK_S, GRACE_S, TAIL = 1.0, 10.0, 15
PR_SET_PDEATHSIG = 1
EVERY = "train.checkpoint.every_steps"
SHARED = True
OF_A_WORKER = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RAY_JOB_ID", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_RAYLET_PID")
"""What Ray gives a worker's process and must not reach the job that it starts."""
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Config(TrialConfig):
    """Settings of job trials."""

    kind: Literal["job"] = "job"
    """This kind's name."""
    seed: str | None = "train.seed"
    """The dotted name of the seed, to which a setting that is tried again adds the number of its earlier tries."""
    job: Literal["stage1", "stage2"]
    """Which job."""
    config: str = "demo"
    """Its YAML: a name in jobs/configs/<job>, or a file."""
    overrides: tuple[str, ...] = Field(())
    """section.field=value for every trial; the space's win."""


def base(given: Config, root: Store) -> dict[str, Any]:
    """The job's resolved config."""
    return _job(given, []).model_dump(mode="json")


def identity(given: Config, root: Store, overrides: list[str]) -> Identity:
    """What the job's artifact is made from, but for its name."""
    train = _job(given, overrides).train.model_copy(update={"name": "trial"})
    return stage.identity_of(root, train, artifacts.locate(root, "tokens", train.tokens))


def named(given: Config, root: Store, study: str, number: str) -> list[str]:
    """The artifact's own name, and where it lies."""
    return [f"train.name={study}-{number}", f"storage.root={root.root}"]


def paced(given: Config, steps: int, overrides: list[str]) -> list[str]:
    """How often it writes a checkpoint, unless the study's overrides or its space say so, in whole or in part."""
    named = {override.partition("=")[0] for override in (*given.overrides, *overrides)}
    return [] if any(name == EVERY or EVERY.startswith(f"{name}.") for name in named) else [f"{EVERY}={steps}"]


def command(given: Config, overrides: list[str]) -> str:
    """The job's command line."""
    return shlex.join([f"jobs/{given.job}.py", "--config", given.config, *given.overrides, *overrides])


def takes(given: Config, root: Store, gpu: bool) -> dict[str, float]:
    """The job's workers."""
    cluster = _job(given, []).runtime
    wants = gpu if cluster.use_gpu is None else cluster.use_gpu
    found = {"CPU": cluster.workers * cluster.cpus_per_worker}
    return {**found, "GPU": cluster.workers * cluster.gpus_per_worker} if wants else found


def estimate(given: Config, root: Store) -> str:
    """One trial's rows, steps, memory and time, of the base config."""
    return plan(root, _job(given, []))


def prune(given: Config, root: Store, overrides: list[str]) -> None:
    """Delete the job's artifact; its numbers are in the trial's manifest."""
    train = _job(given, overrides).train
    root.delete(f"{train.kind}/{train.name}")


class Trials:
    """Job after job; a job holds its own processes, this one only waits."""

    def __init__(self, given: Config, root: Store, cpus: float, gpu: bool):
        self._given, self._root = given, root

    def run(self, folder: Store, overrides: list[str], report: Report) -> dict[str, Any]:
        """Run the job, or go on with it from its last checkpoint; the numbers of its manifest.

        Raises:
            Stopped: as `report` did, once the job has ended and given back what it held.
            TrainingError: the job has failed; with the end of what it printed.
        """
        train = _job(self._given, overrides).train
        run = self._root.sub(f"{train.kind}/{train.name}")
        if not run.exists(artifacts.MANIFEST):
            with tempfile.TemporaryFile() as printed:
                line, text = command(self._given, overrides), b""
                try:
                    with _process(line, printed) as process:
                        for step, numbers in _followed(run.local("log/metrics.jsonl"), process):
                            report(step, numbers)
                finally:  # of one that was stopped, too: it may have taken too long
                    printed.seek(0)
                    folder.write(PRINTED, text := printed.read())
            if process.returncode:
                last = "\n".join(text.decode("utf-8", "replace").splitlines()[-TAIL:])
                raise TrainingError(f"{line} ended with {process.returncode}:\n{last}")
        made = artifacts.locate(self._root, train.kind, train.name)
        numbers = {name: value for name, value in made.facts.items() if isinstance(value, int | float)}
        return {**numbers, **_told(run.local("log/metrics.jsonl")), "groups": len(run.files("attempts"))}


def _job(given: Config, overrides: list[str]) -> Job:
    named = tree() / "jobs" / "configs" / given.job / f"{given.config}.yaml"
    return config.load(Job, named if named.is_file() else Path(given.config), [*given.overrides, *overrides])


@contextlib.contextmanager
def _process(line: str, printed: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """The job's process, which ends with us: asked first, so that the cluster gets back what it held."""
    process = subprocess.Popen(
        [sys.executable, *shlex.split(line)],
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=subprocess.STDOUT,
        cwd=tree(),
        env={name: value for name, value in os.environ.items() if name not in OF_A_WORKER},
        preexec_fn=_end_with_parent,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_parent() -> None:
    """After a `kill -9` of our process the kernel ends the job, which else would train on beside its next attempt."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _told(log: Path) -> dict[str, float]:
    """What a whole job has logged: its last validation loss, which need not be its best, and its median times."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    losses = [line["validation/all"] for line in lines if line.get("validation/all") is not None]
    checkpoints = [line["seconds/checkpoint"] for line in lines if "seconds/checkpoint" in line]
    steps = [line["tokens"] / line["tokens_per_s"] for line in lines if line.get("tokens_per_s")]
    found = {"validation_loss": losses[-1:], "checkpoint_s": checkpoints, "step_s": steps}
    return {name: median(values) for name, values in found.items() if values}


def _followed(log: Path, process: "subprocess.Popen[bytes]") -> Iterator[tuple[int, dict[str, float]]]:
    """Steps with their numbers as a job logs them, and each second a step without any, until it has ended."""
    seen, last, best = b"", -1, float("inf")
    while True:
        ended = process.poll() is not None
        content = log.read_bytes() if log.exists() else b""
        if not content.startswith(seen):
            seen = b""  # a job that goes on forgets what it logged after its last checkpoint
        read = len(seen)
        for line in content[read:].splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            read += len(line)
            found: Mapping[str, Any] = json.loads(line)
            loss, step = found.get("validation/all"), int(found["step"])
            if loss is not None and step > last:
                last, best = step, min(best, loss)
                yield step, {"validation_loss": loss, "best_loss": best}
        seen = content[:read]
        if ended:
            return
        yield last, {}
        time.sleep(LOOK_S)
