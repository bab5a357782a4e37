"""medtrain.search.runner: trials in a thread, as steps, stopped between two of them."""

import json
import time
from typing import Any

import pytest

from medtrain.search import runner, trial
from medtrain.search.runner import Runner, RunnerConfig
from medtrain.search.settings import StudyConfig
from medtrain.search.trial import Order
from medtrain.storage import Store


def made(config: StudyConfig, **more: Any) -> tuple[Runner, Store]:
    study = Store(config.storage.root).sub("studies/s")
    given = {"root": config.storage.root, "study": study.root, "trial": config.study.trial, "metric": "loss"}
    common = {"stepwise": True, "cpus": 1.0, "gpu": False, "timeout_s": None, "tree": "/nowhere"}
    return Runner(RunnerConfig(**{**given, **common, **more}), "here"), study


def order(x: float) -> Order:
    identity = {"config": {"x": x}, "inputs": {}, "code": ""}
    return Order(number=f"x{x}", identity=identity, values={"x": x}, overrides=(f"x={json.dumps(x)}",))


def test_steps_come_one_by_one_and_then_the_end(configured: Any) -> None:
    run, study = made(configured(trial={"kind": "quick", "steps": 3}))
    run.begin(order(0.5))
    found = [run.step() for _ in range(4)]
    assert [step.get("step") for step in found] == [1, 2, 3, None] and found[-1]["how"] == "done"
    assert found[0]["loss"] == pytest.approx(0.08 + 1)
    run.begin(order(0.25))
    assert run.step()["loss"] == pytest.approx(0.0025 + 0.04 + 1)
    time.sleep(0.3)
    assert run.working, "it does not go on before anybody asks for its next step"
    run.stop("pruned", "others")
    assert trial.attempts(study, "x0.25")[-1].how == "pruned" and trial.facts(study, "x0.25") is None


def test_a_new_trial_stops_the_one_before(configured: Any) -> None:
    run, study = made(configured(trial={"kind": "quick", "steps": 3}))
    run.begin(order(0.5))
    run.step()
    run.begin(order(0.25))
    assert trial.attempts(study, "x0.5")[-1].how == "lost" and run.step()["step"] == 1
    run.stop()


def test_without_a_scheduler_it_says_only_how_it_ended(configured: Any) -> None:
    run, _ = made(configured(trial={"kind": "quick", "steps": 3}), stepwise=False)
    run.begin(order(0.5))
    assert run.step() == {"how": "done", "why": ""}


def test_a_trial_that_takes_too_long_has_failed(configured: Any) -> None:
    hangs = configured(trial={"kind": "quick", "trouble": 1.0, "troubles": ["timeout"]})
    run, study = made(hangs, timeout_s=0.3, stepwise=False)
    run.begin(order(0.5))
    end = run.step()
    assert end["how"] == "failed" and "timeout_s=0.3" in end["why"]
    assert trial.attempts(study, "x0.5")[-1].how == "failed" and not run.working


def test_a_trial_that_waits_gives_up_where_the_study_has_ended_it(
    configured: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "LOOK_S", 0.05)
    run, study = made(configured(trial={"kind": "quick", "steps": 3}))
    run.begin(order(0.5))
    run.step()
    assert trial.end(study, "x0.5", "pruned")
    until = time.monotonic() + 5
    while run.working and time.monotonic() < until:
        time.sleep(0.02)
    assert not run.working, "it holds nothing while it waits for a process that never asks again"


def test_no_such_kind_is_the_trial_s_failure_and_leaves_the_process(configured: Any) -> None:
    run, study = made(configured(), trial={"kind": "quick", "no_such": 1})
    run.begin(order(0.5))
    assert "no_such" in run.step()["why"] and trial.attempts(study, "x0.5")[-1].how == "failed"
