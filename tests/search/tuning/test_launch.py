"""medtrain.search.tuning: real studies on Ray Tune, killed, troubled and stopped early."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray
import several

from medtrain.artifacts import Policy
from medtrain.search import trial
from medtrain.search.journal import Journal, Recorded
from medtrain.search.settings import StudyConfig
from medtrain.search.study import Study
from medtrain.storage import Store

PROJECT = Path(__file__).resolve().parents[3]
LIMIT_S = 240.0
"""For a driver on a machine that has other things to do."""


class Drivers:
    """Processes of `tune/run_study.py`, one after another, on the tests' cluster or the one that `cluster` names."""

    def __init__(self, config: StudyConfig, folder: Path, cluster: dict[str, str] | None = None):
        self.cluster = cluster
        self.log, self.printed = folder / "trials.log", folder / "printed"
        self.config = config.model_copy(
            update={"study": config.study.model_copy(update={"trial": {**config.study.trial, "log": str(self.log)}})}
        )
        (folder / "study.yaml").write_text(self.config.model_dump_json())
        self._command = [sys.executable, str(PROJECT / "tune/run_study.py"), "--config", str(folder / "study.yaml")]

    def start(self) -> "subprocess.Popen[bytes]":
        cluster = self.cluster or {"RAY_ADDRESS": ray.get_runtime_context().gcs_address}
        with self.printed.open("ab") as output:
            return subprocess.Popen(self._command, env={**os.environ, **cluster}, stdout=output, stderr=output)

    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []

    def kill(self, draw: random.Random) -> bool:
        """Start one and kill it a moment after a trial of it began; whether that was before it had ended."""
        known, driver, until = len(self.lines()), self.start(), time.monotonic() + LIMIT_S
        while driver.poll() is None and len(self.lines()) == known and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.8))
        driver.send_signal(signal.SIGKILL)
        return driver.wait() < 0

    def running(self) -> bool:
        """Whether a trial has begun and not ended."""
        begins = [line.startswith("begin ") for line in self.lines()]
        return 2 * sum(begins) > len(begins)

    def until_finished(self, driver: "subprocess.Popen[bytes]", count: int) -> None:
        """Wait until so many trials have ended and another one runs, while a driver lives."""
        until = time.monotonic() + LIMIT_S
        while len(finished(self.config)) < count or not self.running():
            assert driver.poll() is None and time.monotonic() < until, self.printed.read_text(encoding="utf-8")
            time.sleep(0.05)

    def finish(self, driver: "subprocess.Popen[bytes] | None" = None) -> str:
        """Run one to its end, or wait for one that runs; what all of them printed."""
        driver = driver or self.start()
        try:
            code = driver.wait(LIMIT_S)
        finally:
            driver.kill()
        text = self.printed.read_text(encoding="utf-8")
        assert code == 0, text
        return text


def finished(config: StudyConfig) -> set[str]:
    """The numbers of trials with a manifest."""
    study = Store(config.storage.root).sub("studies/s")
    return {number for number in study.folders("trials") if trial.facts(study, number) is not None}


def begun(drivers: Drivers) -> Counter[str]:
    """How often each setting began."""
    return Counter(line.removeprefix("begin ") for line in drivers.lines() if line.startswith("begin "))


def settings(config: StudyConfig, numbers: set[str]) -> set[str]:
    study = Store(config.storage.root).sub("studies/s")
    orders = [trial.about(study, number) for number in numbers]
    return {f"{order.values['x']!r} {order.values['y']!r}" for order in orders if order is not None}


def killed_and_gone_on(drivers: Drivers, kills: int) -> Study:
    """The study after so many kills and one undisturbed end; no finished trial was begun again and none is lost."""
    draw, config, known, out = random.Random(7), drivers.config, dict[str, int](), 0
    store = Store(config.storage.root).sub("studies/s")
    for _ in range(kills):
        assert drivers.kill(draw), f"it had ended before: {drivers.printed.read_text()}"
        events = Counter(event["event"] for event in Journal(store.sub("journal")).read())
        out += events["ask"] - events["tell"]
        whole = settings(config, finished(config))
        known |= {setting: times for setting, times in begun(drivers).items() if setting in whole - known.keys()}
    assert out, "no trial was out at any kill: they came at no bad moment"
    drivers.finish()
    after = begun(drivers)
    assert {setting: after[setting] for setting in known} == known, "a finished trial ran again"
    study = Study(Store(config.storage.root), config, Policy())
    assert {told.number for told in study.told} == finished(config)
    assert [told.outcome for told in study.told] == ["done"] * (config.study.budget.trials or 0)
    return study


def following(recorded: Recorded) -> list[Any]:
    """What the search would suggest next: it says what its distribution is."""
    return [made.values for made in (recorded.ask(), recorded.ask(), recorded.ask()) if made is not None]


def as_undisturbed(study: Study) -> None:
    """By generations: the same trials, and the same distribution at the end, as without a cluster or a kill."""
    calm = Recorded(study.settings.searcher, study.settings.space, {"x": 0.5, "y": 0.5})
    seen: list[Any] = []
    while len(seen) < len(study.told):
        made = calm.ask()
        assert made is not None
        seen.append((made.values, (made.values["x"] - 0.3) ** 2 + (made.values["y"] - 0.7) ** 2))
        calm.tell(made.id, "done", seen[-1][1])
    assert sorted(seen, key=str) == sorted([(told.values, told.value) for told in study.told], key=str)
    assert following(calm) == following(study.recorded)


def as_logged(study: Study) -> None:
    """Asynchronous: the same trials and distribution as a search of which the calls come in the logged order."""
    calm = Recorded(study.settings.searcher, study.settings.space, {"x": 0.5, "y": 0.5})
    for event in list(study.recorded.events):
        if event["event"] == "ask":
            made = calm.ask()
            assert made is not None and (made.id, made.values) == (event["id"], event["values"])
        elif event["event"] == "tell":
            calm.tell(event["id"], event["outcome"], event["value"])
    assert following(calm) == following(study.recorded)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("timing", "kills", "trials"),
    [
        ("generational", 2, 12),
        pytest.param("generational", 20, 120, marks=pytest.mark.long),
        pytest.param("asynchronous", 20, 120, marks=[pytest.mark.long]),
    ],
)
@pytest.mark.timeout(3600)
def test_a_killed_study_goes_on(configured: Any, tmp_path: Path, timing: str, kills: int, trials: int) -> None:
    config = configured(
        runtime={"cpus_per_worker": 0.5, "use_gpu": False},
        trial={"kind": "quick", "seconds": 0.2, "spread": 0.1},
        searcher={"kind": "cmaes", "timing": timing, "population": 6, "seed": 3},
        slots=3,
        budget={"trials": trials},
    )
    study = killed_and_gone_on(Drivers(config, tmp_path), kills)
    (as_undisturbed if timing == "generational" else as_logged)(study)
    assert not study.store.exists("ray")


@pytest.mark.long
@pytest.mark.parametrize("lost", ["every worker node", "the head"])
def test_a_study_outlives_its_machines(configured: Any, tmp_path: Path, lost: str) -> None:
    """Storage lies outside of the cluster, as an object store does."""
    config = configured(
        runtime={"use_gpu": False}, trial={"kind": "quick", "seconds": 1.0}, slots=2, budget={"trials": 14}
    )
    with several.cluster(2) as cluster:
        drivers = Drivers(config, tmp_path, cluster.environment)
        driver = drivers.start()
        drivers.until_finished(driver, 4)
        for node in list(cluster.nodes):
            cluster.lose(node)
        if lost == "the head":
            cluster.head.lose()
            driver.kill()
        known = settings(config, finished(config))
        before = begun(drivers)
        if lost == "every worker node":
            time.sleep(3)
            cluster.add()
            printed = drivers.finish(driver)
            assert "lost with its process" in printed
    if lost == "the head":
        driver.wait()
        with several.cluster(1) as another:
            drivers.cluster = another.environment
            drivers.finish()
    after, study = begun(drivers), Study(Store(config.storage.root), drivers.config, Policy())
    assert {setting: after[setting] for setting in known} == {setting: before[setting] for setting in known}
    assert [told.outcome for told in study.told] == ["done"] * 14
    assert any(told.attempts > 1 for told in study.told), "none was running: nothing was lost"


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_it_converges_though_a_third_of_the_trials_go_wrong(configured: Any, tmp_path: Path) -> None:
    config = configured(
        runtime={"cpus_per_worker": 0.5, "use_gpu": False},
        trial={"kind": "quick", "trouble": 0.3},
        slots=4,
        timeout_s=1.0,
        budget={"trials": 100},
    )
    drivers = Drivers(config, tmp_path)
    printed = drivers.finish()
    study = Study(Store(config.storage.root), drivers.config, Policy())
    outcomes = Counter(told.outcome for told in study.told)
    errors = {one.error.split(":")[0] for known in study.past.attempts.values() for one in known if one.how == "failed"}
    assert outcomes["failed"] >= 10 and outcomes["done"] >= 50, outcomes
    assert "RuntimeError" in errors and any("timeout_s" in error for error in errors), errors
    lost = Counter(one.how for known in study.past.attempts.values() for one in known)["lost"]
    assert lost == sum(event.get("outcome") == "lost" for event in study.recorded.events) >= 1
    assert sum(map(len, study.past.attempts.values())) == len(study.told) + lost, "one attempt each, and one for a loss"
    assert study.best is not None and study.best.value < 1e-3
    assert f"quick x={study.best.values['x']!r}" in printed and "lost with its process" in printed
    assert printed.count("best loss=") >= 100


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("kind", ["asha", "median"])
def test_what_is_worse_is_stopped_early(configured: Any, tmp_path: Path, kind: str) -> None:
    config = configured(
        runtime={"cpus_per_worker": 1, "use_gpu": False},
        trial={"kind": "quick", "seconds": 0.3, "steps": 9},
        scheduler={"kind": kind, "grace": 1, "reduction": 3},
        searcher={"kind": "random"},
        slots=2,
        budget={"trials": 12},
    )
    drivers = Drivers(config, tmp_path)
    drivers.finish()
    study = Study(Store(config.storage.root), drivers.config, Policy())
    outcomes = Counter(told.outcome for told in study.told)
    assert outcomes["pruned"] >= 3 and outcomes["done"] >= 1 and sum(outcomes.values()) == 12
    for told in study.told:
        assert trial.attempts(study.store, told.number)[-1].how == told.outcome
        assert told.value is not None and (told.outcome == "done") == (told.number in finished(config))


@pytest.mark.usefixtures("ray_cluster")
def test_a_study_that_cannot_go_on_says_what_went_wrong_and_what_it_has(configured: Any, tmp_path: Path) -> None:
    config = configured(
        runtime={"cpus_per_worker": 1, "use_gpu": False},
        trial={"kind": "quick", "trouble": 1.0, "troubles": ["error"]},
        slots=2,
    )
    drivers = Drivers(config, tmp_path)
    assert drivers.start().wait(LIMIT_S) == 2
    printed, study = drivers.printed.read_text(), Store(config.storage.root).sub("studies/s")
    assert f"RuntimeError: no room; see {study.root}/trials/" in printed
    assert "study s: no trial gave loss" in printed and f"report: {study.root}/report.html" in printed
    assert "RuntimeError: no room" in study.read("report.html").decode()
