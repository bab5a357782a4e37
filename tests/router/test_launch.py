"""Devices over a real Ray, in 4 bits and not: the same bits from one as from many, when some are lost, after a kill."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import OutOfMemoryError

from medtrain.artifacts import Policy
from medtrain.config import parse
from medtrain.errors import ConfigError, TrainingError
from medtrain.router import fit, launch
from medtrain.router.gate import Array
from medtrain.router.launch import Pool
from medtrain.router.plan import RoutingPlan
from medtrain.router.worker import Device
from medtrain.runtime import RuntimeConfig

JOB = Path(__file__).resolve().parents[2] / "jobs" / "fit_router.py"
FITS: dict[str, dict[str, Any]] = {
    "cmaes": {
        "split": "train",
        "shots": 5,
        "method": {"kind": "cmaes", "generations": 3, "population": 7},
        "model": {"precision": "nf4"},
    },
    "gradient": {"method": {"kind": "gradient", "size": 4, "epochs": 2, "learning_rate": 0.2}},
}
LONG = pytest.mark.long
SMALL = {"passes": {"micro_tokens": 64, "candidates_per_pass": 2}, "model": {"precision": "fp32"}, "seed": 3}
"""A generation is four groups, a step of the descent several micro-batches."""


def cluster(**given: Any) -> RuntimeConfig:
    return RuntimeConfig.model_validate({"use_gpu": False, "cpus_per_worker": 0.5, **given})


@pytest.fixture
def pools(ray_cluster: None) -> Iterator[Callable[..., Pool]]:
    """Makes pools that end with the test."""
    made: list[Pool] = []

    def make(**given: Any) -> Pool:
        made.append(Pool(cluster(**given)))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def fitted(shelf: Any, name: str, open_: Any, kind: str) -> tuple[bytes, dict[str, Any]]:
    """What a fit finds, to the last bit."""
    made = fit.run(shelf.root, shelf.config(name, **FITS[kind], passes=SMALL["passes"]), Policy(), open_)
    return made.store.read("weights.json"), made.facts


@pytest.mark.parametrize(("devices", "lost"), [(2, 1), pytest.param(1, 0, marks=LONG), pytest.param(4, 3, marks=LONG)])
def test_any_number_of_devices_finds_the_same_weights_also_when_some_are_lost(
    shelf: Any, pools: Callable[..., Pool], capsys: pytest.CaptureFixture[str], devices: int, lost: int
) -> None:
    here = {kind: fitted(shelf, f"here-{kind}", shelf.here, kind) for kind in FITS}
    pool, plain, asked = pools(workers=devices, max_failures=lost), Pool.ask, [0]

    def deadly(self: Pool, method: str, questions: Any) -> Any:
        """Kills a device before every third batch of questions, until enough are lost."""
        asked[0] += 1
        if asked[0] % 3 == 0 and asked[0] <= 3 * lost:
            ray.kill(self._idle[-1])
        return plain(self, method, questions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pool, "ask", deadly)
        # A name of its own for each number of devices: a fit that is there already is not made again.
        spread = partial(launch.spread, pool, shelf.root)
        found = {kind: fitted(shelf, f"on-{devices}-{kind}", spread, kind) for kind in FITS}
    assert found == here and asked[0] > 10
    assert f"a device was lost ({lost} so far)" in capsys.readouterr().out or not lost


@pytest.mark.long
def test_too_many_lost_devices_end_it_and_a_users_error_ends_one_fit_alone(
    shelf: Any, pools: Callable[..., Pool]
) -> None:
    pool = pools(workers=2, max_failures=0, cpus_per_worker=3.0)  # there is room for one
    uneven = shelf.config("uneven-lorahub", method={"kind": "lorahub"})
    with pytest.raises(ConfigError, match="merge.kind=lorahub"):
        fit.run(shelf.root, uneven, Policy(), partial(launch.spread, pool, shelf.root))
    made = fit.run(
        shelf.root,
        shelf.config("after", method={"kind": "average"}),
        Policy(),
        partial(launch.spread, pool, shelf.root),
    )
    assert made.facts["losses"]["fit"]["fitted"] > 0
    ray.kill(pool._idle[0])
    with pytest.raises(TrainingError, match=r"runtime.max_failures=0: devices were lost 1 times"):
        fit.run(
            shelf.root,
            shelf.config("lost", method={"kind": "single"}),
            Policy(),
            partial(launch.spread, pool, shelf.root),
        )


class Slow:
    """A device that repeats a number after a while, and refuses negative ones."""

    def __init__(self, cpus: float, gpu: bool):
        pass

    def ready(self) -> None:
        pass

    def say(self, number: int, after_s: float) -> int:
        time.sleep(after_s)
        if number < 0:
            raise ConfigError(f"number={number}: is negative")
        return number


@pytest.mark.long
def test_what_nobody_waits_for_any_more_answers_no_later_question(
    pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "Device", Slow)
    pool = pools(workers=2)
    while len(pool._idle) < 2:
        pool.ask("say", [(0, 0.05)])
    with pytest.raises(ConfigError, match="^number=-1: is negative$"):
        pool.ask("say", [(1, 0.5), (-1, 0.0), (2, 0.5)])
    assert pool.ask("say", [(number, 0.3) for number in range(10, 15)]) == list(range(10, 15))


@pytest.mark.long
def test_a_device_that_the_memory_monitor_killed_is_replaced(
    pools: Callable[..., Pool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, killed = launch._answer, list[int]()

    def answer(reference: Any) -> Any:
        """The first number is lost with its device."""
        found = plain(reference)
        if found is not None and not killed:
            killed.append(found)
            raise OutOfMemoryError("the node ran low on memory")
        return found

    monkeypatch.setattr(launch, "Device", Slow)
    monkeypatch.setattr(launch, "_answer", answer)
    assert pools(max_failures=1).ask("say", [(number, 0.0) for number in (1, 2, 3)]) == [1, 2, 3]
    assert killed and "a device was lost (1 so far): the node ran low" in capsys.readouterr().out


class Scarce(Device):
    """A device with too little memory for some fits, and with a bug in others."""

    def losses(self, task: dict[str, Any], weights: Array) -> list[float]:
        name = task["fit"]["name"]
        if name.endswith("large"):
            raise torch.OutOfMemoryError("Tried to allocate 9 GiB.")
        if name.endswith("odd"):
            raise ValueError("a bug")
        return super().losses(task, weights)


def test_full_memory_and_what_nobody_expected_end_one_fit_alone(
    shelf: Any, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "Device", Scarce)
    variants = {name: {"method": {"kind": "average"}} for name in ("large", "odd", "mean")}
    content = {"name": "scarce", "library": "uneven", "fit": SMALL, "tasks": {"x": {"tokens": "task"}}}
    with pytest.raises(TrainingError) as failed:
        launch.run(shelf.root, parse(RoutingPlan, {**content, "variants": variants}), cluster(), Policy())
    lines = str(failed.value)
    assert "2 of 3 fits failed" in lines and "ValueError: a bug" in lines
    assert "scarce-x-large: out of memory: lower passes.candidates_per_pass" in lines
    assert shelf.root.exists("router/scarce-x-mean/manifest.json")


def arguments(shelf: Any, plan: RoutingPlan, folder: Path) -> list[str]:
    """A command line of the job."""
    content = {
        "storage": {"root": shelf.root.root},
        "runtime": {"workers": 2, "use_gpu": False, "cpus_per_worker": 0.5},
        "plan": plan.model_dump(mode="json"),
    }
    (folder / "plan.yaml").write_text(json.dumps(content))
    return ["--config", str(folder / "plan.yaml")]


@pytest.mark.long
def test_a_job_whose_driver_is_killed_between_generations_goes_on_to_the_same_weights(
    shelf: Any, ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {"split": "train", "shots": 5, "method": {"kind": "cmaes", "generations": 60, "population": 7, "sigma": 0.05}}
    content = {"library": "uneven", "fit": SMALL, "tasks": {"x": {"tokens": "task"}}, "variants": {"few": few}}
    given = arguments(shelf, parse(RoutingPlan, {"name": "killed", **content}), tmp_path)
    log = Path(shelf.root.local("router/killed-x-few/log/metrics.jsonl"))
    address = ray.get_runtime_context().gcs_address
    with (tmp_path / "output").open("w") as output:
        driver = subprocess.Popen(
            [sys.executable, str(JOB), *given], env={**os.environ, "RAY_ADDRESS": address}, stdout=output, stderr=output
        )
        try:
            while driver.poll() is None and not (log.exists() and log.read_text().count("\n") >= 3):
                time.sleep(0.02)
        finally:
            driver.send_signal(signal.SIGKILL)
            driver.wait()
    done = len(log.read_text().splitlines())
    assert 3 <= done < 60, (tmp_path / "output").read_text()
    spec = importlib.util.spec_from_file_location("job_fit_router", JOB)
    assert spec is not None and spec.loader is not None
    job = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(job)
    job.main(given)
    printed = capsys.readouterr().out
    assert "killed-x-few" in printed.splitlines()[-2] and shelf.root.exists("routing/killed/report.html")
    whole = parse(RoutingPlan, {"name": "whole", **content})
    (made,) = launch.run(shelf.root, whole, cluster(workers=1), Policy())
    assert made.store.read("weights.json") == shelf.root.read("router/killed-x-few/weights.json")
    assert made.facts["fit"]["generations"] == 60
    job.main([*given, "--dry-run"])
    assert "router/killed-x-few: 5 rows" in capsys.readouterr().out


@pytest.mark.long
def test_fits_that_fail_stop_no_other(shelf: Any, ray_cluster: None) -> None:
    content = {"name": "some", "library": "uneven", "fit": SMALL, "variants": {"mean": {"method": {"kind": "average"}}}}
    tasks = {"nowhere": {}, "x": {"tokens": "task"}}
    with pytest.raises(TrainingError, match=r"1 of 2 fits failed.*\n  some-nowhere-mean: .*tokens/uneven-nowhere"):
        launch.run(shelf.root, parse(RoutingPlan, {**content, "tasks": tasks}), cluster(), Policy())
    assert shelf.root.exists("router/some-x-mean/manifest.json")
