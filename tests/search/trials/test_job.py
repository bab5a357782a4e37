"""medtrain.search.trials.job: a job's command line as a trial."""

import contextlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import ray

from medtrain import artifacts
from medtrain.artifacts import Policy
from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.search import trial, trials
from medtrain.search.settings import StudyConfig
from medtrain.search.study import Study
from medtrain.search.trials import Stopped, job
from medtrain.search.tuning import launch
from medtrain.storage import Store

PROJECT = Path(__file__).resolve().parents[3]
RATE = "train.optimizer.learning_rate"
TRAIN = {
    "name": "x",
    "stage": 2,
    "tokens": "tiny",
    "epochs": 2,
    "adapter": {"kind": "lora", "rank": 4},
    "batch": {"size": 16, "micro_tokens": 128},
    "optimizer": {"learning_rate": 1e-2},
    "validation": {"every_steps": 2},
    "checkpoint": {"every_steps": 1, "memory_every_steps": 0},
    "model": {"compute_dtype": "float32"},
}


@pytest.fixture
def given(tmp_path: Path) -> job.Config:
    """Job trials of a tiny stage 2."""
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps({"runtime": {"workers": 1, "use_gpu": False}, "train": TRAIN}))
    return job.Config(job="stage2", config=str(file), overrides=("train.epochs=3",))


def test_the_base_is_the_resolved_config(given: job.Config, store: Store) -> None:
    base = job.base(given, store)
    assert base["train"]["optimizer"]["learning_rate"] == 1e-2 and base["train"]["epochs"] == 3
    assert base["train"]["optimizer"]["kind"] == "adamw", "defaults, too"


def test_what_a_trial_is_made_from(given: job.Config, made: Store) -> None:
    one, same = (job.identity(given, made, [f"{RATE}=0.5", more]) for more in ("train.name=a", "runtime.workers=1"))
    assert one == same and one.inputs.keys() == {"tokens/tiny", "base"}
    assert job.identity(given, made, [f"{RATE}=0.25"]) != one
    with pytest.raises(ConfigError, match="learning_rat: unknown field"):
        job.identity(given, made, ["train.optimizer.learning_rat=0.5"])


def test_the_winner_is_a_command_line(given: job.Config, store: Store) -> None:
    own = [f"{RATE}=0.5", *job.named(given, store, "study", "abc")]
    words = shlex.split(job.command(given, own))
    assert words[:4] == ["jobs/stage2.py", "--config", given.config, "train.epochs=3"]
    assert words[4:] == [f"{RATE}=0.5", "train.name=study-abc", f"storage.root={store.root}"]
    assert (PROJECT / words[0]).is_file()


def test_how_often_it_saves_is_no_part_of_what_it_is(given: job.Config, made: Store) -> None:
    (often,) = job.paced(given, 12, [f"{RATE}=0.5"])
    assert often == "train.checkpoint.every_steps=12"
    assert job.identity(given, made, [often]) == job.identity(given, made, [])
    for said in ("train.checkpoint.every_steps=3", "train.checkpoint={every_steps: 3}"):
        assert job.paced(given.model_copy(update={"overrides": (said,)}), 12, []) == [], "the study says so"
        assert job.paced(given, 12, [said]) == [], "its space does"
    assert job.paced(given, 12, ["train.checkpoint.memory_every_steps=3"]) == [often]


def test_it_takes_what_its_workers_take(given: job.Config, store: Store) -> None:
    four = given.model_copy(update={"overrides": ("runtime.workers=4", "runtime.cpus_per_worker=2")})
    assert job.takes(four, store, gpu=False) == {"CPU": 8.0}
    assert job.takes(four, store, gpu=True) == {"CPU": 8.0}, "use_gpu is false in its YAML"
    gpu = four.model_copy(update={"overrides": (*four.overrides, "runtime.use_gpu=null")})
    assert job.takes(gpu, store, gpu=True) == {"CPU": 8.0, "GPU": 4.0}


class Script:
    """A job of which the tests decide what it does; its log is where a stage's is."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: job.Config, text: str):
        tree = tmp_path / "tree"
        (tree / "jobs").mkdir(parents=True)
        (tree / "jobs" / "stage2.py").write_text(text)
        monkeypatch.setenv("MEDTRAIN_TREE", str(tree))
        monkeypatch.setattr(job, "LOOK_S", 0.05)
        self.run_folder = store.sub("stage2/s-1")
        self.log = self.run_folder.local("log/metrics.jsonl")
        self.log.parent.mkdir(parents=True)
        self.overrides = ["train.name=s-1", f"storage.root={store.root}"]
        self.trials, self.folder = job.Trials(given, store, 0, False), store.sub("files")

    def line(self, step: int, loss: float | None = None) -> str:
        return json.dumps({"step": step, "loss": 1.0} if loss is None else {"step": step, "validation/all": loss})


def test_validation_losses_are_reported_as_they_come(
    given: job.Config, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = Script(store, monkeypatch, tmp_path, given, "import time; time.sleep(1.5); raise SystemExit('no room')")
    seen: list[tuple[int, dict[str, float]]] = []

    def write() -> None:
        with script.log.open("w") as log:
            for line in (script.line(1), script.line(2, 3.0), script.line(4, 2.0), script.line(6, 2.5)):
                log.write(line[:9])
                log.flush()
                time.sleep(0.1)
                log.write(f"{line[9:]}\n")
                log.flush()

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(Exception, match="no room"):
        script.trials.run(script.folder, script.overrides, lambda step, numbers: seen.append((step, numbers)))
    writer.join()
    losses = [(step, numbers) for step, numbers in seen if numbers]
    assert [(step, n["validation_loss"], n["best_loss"]) for step, n in losses] == [(2, 3, 3), (4, 2, 2), (6, 2.5, 2)]
    assert len(seen) > len(losses), "it asks whether to go on while there are none"
    assert b"no room" in script.folder.read("printed.txt")
    with script.log.open("a") as log:
        log.write('{"step": 6, "seconds/checkpoint": 0.25}\n{"step": 7, "tokens": 90.0, "tokens_per_s": 180.0}\n')
    told = {"validation_loss": 2.5, "checkpoint_s": 0.25, "step_s": 0.5}
    assert job._told(script.log) == told, "the last loss, not the best"


def test_a_stopped_trial_s_job_ends_before_the_trial_does(
    given: job.Config, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stubborn = (
        "import signal, time; print('begun', flush=True); signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    )
    monkeypatch.setattr(job, "GRACE_S", 0.3)
    script = Script(store, monkeypatch, tmp_path, given, stubborn)
    began = time.monotonic()

    def report(step: int, numbers: dict[str, float]) -> None:
        if time.monotonic() - began > 2:
            raise Stopped("pruned")

    with pytest.raises(Stopped):
        script.trials.run(script.folder, script.overrides, report)
    assert script.folder.read("printed.txt") == b"begun\n", "what was stopped has printed something, too"
    assert not [child for child in psutil.Process().children() if "stage2.py" in " ".join(child.cmdline())]


PARENT = """
import sys
from medtrain.search.trials import job
from medtrain.storage import Store
given = job.Config(job="stage2", config=sys.argv[1])
job.Trials(given, Store(sys.argv[2]), 0, False).run(Store(sys.argv[2]), ["train.name=s-1"], lambda step, numbers: None)
"""


class Ended:
    """A process that has ended, or not yet."""

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


def test_a_log_that_is_cut_and_grows_again_at_once_is_read_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that is gone on with forgets its last steps, and may log as much and more before anybody looks."""
    log, process = tmp_path / "metrics.jsonl", Ended()

    def lines(first: int, last: int, more: str = "") -> str:
        return "".join(
            json.dumps({"step": step, "validation/all": 9.0 - step, "note": more}) + "\n" for step in range(first, last)
        )

    def next_second(seconds: float) -> None:
        log.write_text(lines(1, 3) + lines(3, 9, "after a pause"))
        process.code = 0

    monkeypatch.setattr(job.time, "sleep", next_second)
    log.write_text(lines(1, 6))
    found = [step for step, numbers in job._followed(log, process) if numbers]  # type: ignore[arg-type]
    assert found == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part of it is Linux's")
def test_a_job_ends_with_a_killed_parent(
    given: job.Config, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Script(store, monkeypatch, tmp_path, given, "import time; time.sleep(60)")
    there = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, given.config, store.root], env=there)
    until = time.monotonic() + 60
    children: list[psutil.Process] = []
    while not children and time.monotonic() < until:
        children = [c for c in psutil.Process(parent.pid).children() if "stage2.py" in " ".join(c.cmdline())]
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert children and not psutil.wait_procs(children, timeout=5)[1]


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("ray_cluster")
def test_a_study_of_real_training_killed_three_times(given: job.Config, made: Store, tmp_path: Path) -> None:
    """No finished trial is repeated or lost, the cluster gets everything back, and the winner's line reads it back."""
    study = {
        "name": "rates",
        "trial": {**given.model_dump(mode="json"), "overrides": ["train.epochs=5"]},
        "space": {RATE: {"low": 1e-4, "high": 1e-1, "log": True}},
        "searcher": {"kind": "cmaes", "timing": "generational", "population": 4},
        "metric": "best_loss",
        "slots": 2,
        "budget": {"trials": 6},
    }
    config = parse(StudyConfig, {"storage": {"root": made.root}, "study": study})
    file, printed = tmp_path / "study.json", tmp_path / "printed"
    file.write_text(config.model_dump_json())
    address, draw = ray.get_runtime_context().gcs_address, random.Random(1)

    def start() -> "subprocess.Popen[bytes]":
        there = {**os.environ, "RAY_ADDRESS": address}
        with printed.open("ab") as output:
            command = [sys.executable, str(PROJECT / "tune/run_study.py"), "--config", str(file)]
            return subprocess.Popen(command, env=there, stdout=output, stderr=output)

    def logs() -> set[Path]:
        return set(Path(made.root).glob("stage2/*/log/metrics.jsonl"))

    store, known = made.sub("studies/rates"), dict[str, list[trial.Attempt]]()
    for _ in range(3):
        seen, driver = logs(), start()
        while driver.poll() is None and logs() <= seen:  # losers' logs go while those of new trials come
            time.sleep(0.1)
        time.sleep(draw.uniform(0, 4))
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() < 0, printed.read_text()
        for number in store.folders("trials"):
            if trial.facts(store, number) is not None:
                known.setdefault(number, trial.attempts(store, number))
    last = start()
    assert last.wait(1800) == 0, printed.read_text()
    after = Study(made, config, Policy())
    assert [told.outcome for told in after.told] == ["done"] * 6
    assert all(trial.attempts(store, number) == attempts for number, attempts in known.items())
    assert any(told.attempts > 1 for told in after.told)
    assert after.best is not None
    (winner,) = [told for told in after.told if told.value == after.best.value]
    assert artifacts.locate(made, "stage2", f"rates-{winner.number}").facts["best_loss"] == winner.value
    assert len(made.folders("stage2")) == 1, "losers' files stay"
    line = next(line for line in printed.read_text().splitlines() if line.startswith("jobs/stage2.py"))
    again = subprocess.run(
        [sys.executable, *shlex.split(line)],
        cwd=PROJECT,
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "is whole already" in again.stdout, again.stdout + again.stderr
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"] and time.monotonic() < until:
        time.sleep(0.5)
    assert ray.available_resources()["CPU"] == ray.cluster_resources()["CPU"]
    assert trials.takes(given, made, False) == {"CPU": 1.0}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("ray_cluster")
def test_jobs_of_several_workers_that_are_stopped_early_give_them_back(
    given: job.Config, made: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDTRAIN_TREE", "")
    overrides = ["runtime.workers=2", "train.epochs=12"]
    study = {
        "name": "early",
        "trial": {**given.model_dump(mode="json"), "overrides": overrides},
        # From worst to best: what comes later would not be stopped, so the order is turned round.
        "space": {RATE: {"choices": [2e-2, 1e-7, 1e-6, 1e-5]}},
        "searcher": {"kind": "grid"},
        "metric": "best_loss",
        "scheduler": {"kind": "asha", "grace": 2, "reduction": 2},
        "slots": 2,
        "budget": {"trials": 4},
    }
    whole = ray.cluster_resources()["CPU"]
    assert trials.takes(given.model_copy(update={"overrides": tuple(overrides)}), made, False) == {"CPU": 2.0}
    config = parse(StudyConfig, {"storage": {"root": made.root}, "study": study})
    found = Study(made, config, Policy())
    launch.run(found)
    outcomes = Counter(told.outcome for told in found.told)
    assert outcomes["pruned"] >= 2 and outcomes["done"] >= 1 and sum(outcomes.values()) == 4, outcomes
    for told in found.told:
        assert trial.attempts(found.store, told.number)[-1].how == told.outcome
    done, pruned = ([told.seconds for told in found.told if told.outcome == outcome] for outcome in ("done", "pruned"))
    assert min(pruned) < min(done), "they ended early"
    until = time.monotonic() + 60
    while ray.available_resources().get("CPU") != whole and time.monotonic() < until:
        time.sleep(0.5)
    assert ray.available_resources()["CPU"] == whole
    assert [p for p in psutil.Process().children(recursive=True) if _is_stage(p)] == []


def _is_stage(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):  # it may end while it is asked; an ended one has no command line
        return "stage2.py" in " ".join(process.cmdline())
    return False
