"""The shipped plan of open corpora by one command, killed twice on the way: a worker, then the driver."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from medtrain import artifacts
from medtrain.storage import Store

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / "jobs/configs/train_experts/open12.yaml"
STEPS, EVERY = 16, 4
ALONE = ("bc5cdr_ner", "hoc", "medqa", "medquad", "meqsum", "ddi2013")
"""Experts of the plan that are trained where each has workers of its own: most of that time is their start."""
NON_COMMERCIAL = {"ddi2013", "hoc"}
LOCAL = {"medqa", "medquad", "meqsum", "genmedgpt", "disease_attributes"}


class Command:
    """`python jobs/train_experts.py --config <config>`, on a Ray of its own that ends with it."""

    def __init__(self, config: str, root: Path, shared: Path, log: Path, lanes: int):
        given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "HOME": str(root.parent)}
        settings = [f"plan.train.max_steps={STEPS}", f"plan.train.checkpoint.every_steps={EVERY}"]
        settings += [
            "plan.train.batch.size=2",
            "plan.train.validation.max_rows=4",
            "plan.train.validation.every_steps=8",
        ]
        settings += [
            f"storage.root={root}",
            f"lanes={lanes or 'null'}",
            f"plan.root={shared / 'data'}",
            f"plan.base.path={shared / 'models/tiny-base'}",
        ]
        job = [sys.executable, "jobs/train_experts.py", "--config", config, *settings]
        with log.open("ab") as output:
            self.shell = subprocess.Popen(
                [sys.executable, "cluster/contained.py", *job], cwd=PROJECT, env=given, stdout=output, stderr=output
            )

    def of(self, name: str) -> list[psutil.Process]:
        """The command's processes whose command line has this in it."""
        found = []
        for process in psutil.Process(self.shell.pid).children(recursive=True):
            try:
                if name in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found


def wait_for(seen: Callable[[], Any], shell: "subprocess.Popen[bytes]", what: str, log: Path) -> Any:
    """What `seen` gives as soon as it gives something."""
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        if found := seen():
            return found
        assert shell.poll() is None, f"ended before {what}: {log.read_text()[-3000:]}"
        time.sleep(0.2)
    pytest.fail(f"no {what}: {log.read_text()[-3000:]}")


def steps(root: Path) -> dict[str, list[int]]:
    """The trained steps of each expert in the order in which they were logged."""
    found: dict[str, list[int]] = {}
    for path in sorted(root.glob("expert/*/log/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        found[path.parts[-3]] = [line["step"] for line in lines if "loss" in line]
    return found


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(("lanes", "worker"), [(0, "ray::RayTrainWorker"), (3, "ray::Device")])
def test_experts_killed_twice_make_a_whole_library(tmp_path: Path, shared: Path, lanes: int, worker: str) -> None:
    root, log, config, plan = tmp_path / "storage", tmp_path / "log", "open12", yaml.safe_load(CONFIG.read_text())
    if not lanes:
        plan["plan"]["experts"] = {name: plan["plan"]["experts"][name] for name in ALONE}
        config = str(tmp_path / "six.yaml")
        Path(config).write_text(yaml.safe_dump(plan, sort_keys=False))
    experts = plan["plan"]["experts"]
    enough = len(experts) // 3
    command = Command(config, root, shared, log, lanes)
    try:
        wait_for(lambda: any(EVERY < s[-1] < STEPS for s in steps(root).values() if s), command.shell, "step", log)
        victim = command.of(worker)[0]
        victim.kill()
        wait_for(lambda: len(list(root.glob("expert/*/manifest.json"))) >= enough, command.shell, "whole experts", log)
        running = lambda: any(EVERY < s[-1] < STEPS for s in steps(root).values() if s)  # noqa: E731
        wait_for(running, command.shell, "another step", log)
        driver = next(p for p in command.of("jobs/train_experts.py") if "contained.py" not in " ".join(p.cmdline()))
        driver.kill()
        command.shell.wait(120)
    finally:
        command.shell.terminate()
        command.shell.wait(120)
    whole = {path: path.read_bytes() for path in root.glob("expert/*/manifest.json")}
    before = steps(root)
    assert enough <= len(whole) < len(experts)

    assert Command(config, root, shared, log, lanes).shell.wait(1500) == 0, log.read_text()[-3000:]
    assert all(path.read_bytes() == content for path, content in whole.items()), "a whole expert was trained again"
    assert len(steps(root)) == len(experts)
    _check_steps(before, steps(root), {path.parent.name for path in whole})
    _check_library(Store(str(root)), experts)


def _check_steps(before: dict[str, list[int]], after: dict[str, list[int]], whole: set[str]) -> None:
    """Each expert has every step, and repeats at most those since its last checkpoint, once for each kill."""
    for name, trained in after.items():
        assert sorted(set(trained)) == list(range(1, STEPS + 1)), name
        assert len(trained) - STEPS <= 2 * EVERY, f"{name}: {trained}"
        if name in whole:
            assert trained == before[name]
    interrupted = [name for name in before if name not in whole and before[name] and before[name][-1] >= EVERY]
    assert interrupted and all(len(after[name]) - STEPS < EVERY + EVERY for name in interrupted)


def _check_library(root: Store, experts: dict[str, Any]) -> None:
    library = artifacts.locate(root, "library", "open12")
    assert list(library.facts["experts"]) == list(experts) and set(library.store.folders()) == set(experts)
    for name, facts in library.facts["experts"].items():
        expert = artifacts.locate(root, "expert", f"open12-{name}")
        assert expert.facts["step"] == STEPS and facts["run"] == f"expert/open12-{name}"
        assert facts["category"] == experts[name]["category"] and facts["non_commercial"] == (name in NON_COMMERCIAL)
        assert facts["split"] == ("local" if name in LOCAL else "corpus")
        assert facts["rows"]["train"] > 0 and facts["rows"]["validation"] > 0
        assert sum(facts["ranks"].values()) == 4 * 6 * _layers(root, expert)


def _layers(root: Store, expert: artifacts.Artifact) -> int:
    """The layers of an expert's base."""
    folder = Path(artifacts.model_path(root, expert.facts["base"]))
    return int(json.loads((folder / "config.json").read_text())["num_hidden_layers"])
