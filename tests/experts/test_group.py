"""Runs side by side end as each alone: also when one ends early, one fails, or all are broken off and gone on with."""

import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from medtrain.artifacts import Identity, Policy, begin
from medtrain.config import parse
from medtrain.errors import TrainingError
from medtrain.experts.group import Group
from medtrain.experts.work import check_shared
from medtrain.storage import Store
from medtrain.train import checkpoint, notice
from medtrain.train.lanes.engine import LaneEngine
from medtrain.train.lanes.lane import LaneStep
from medtrain.train.notice import Leaving
from medtrain.train.payload import Payload
from medtrain.train.settings import TrainConfig

TRAIN: dict[str, Any] = {
    "tokens": "tiny",
    "epochs": 2,
    "model": {"precision": "fp32"},
    "adapter": {"kind": "adalora", "init_rank": 4, "target_rank": 2, "schedule": "scaled"},
    "batch": {"size": 8, "layout": "packed", "micro_tokens": 128},
    "optimizer": {"learning_rate": 1e-2},
    "validation": {"max_rows": 4, "keep": "last"},
    "checkpoint": {"every_steps": 3},
}


def job(root: Store, name: str, seed: int = 1, **settings: Any) -> Payload:
    """A run of the made tokens, begun."""
    config = parse(TrainConfig, {**TRAIN, "name": name, "seed": seed, **settings})
    begin(root, "expert", name, Identity({"name": name}, {}, ""), Policy())
    paths = {"base": "artifact:bases/tiny", "base_path": str(root.local("bases/tiny")), "adapter_path": None}
    told = {"root": root.root, "run": f"expert/{name}", "submission": "1", "cpus": 1, "collective_timeout_s": 60}
    return Payload.model_validate({**told, **paths, "train": config})


def trained(jobs: list[Payload], at_once: int) -> dict[str, str]:
    """Train jobs in their order; run -> what went wrong."""
    waiting, ended = list(jobs), dict[str, str]()

    def tell(job: Payload, error: str) -> None:
        ended[job.run] = error

    Group(torch.device("cpu"), lambda: waiting.pop(0) if waiting else None, tell, at_once).train()
    return ended


def adapter(root: Store, name: str) -> dict[str, torch.Tensor]:
    return load(root.read(f"expert/{name}/adapter/adapter_model.safetensors"))


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def alone(made: Store) -> dict[str, dict[str, torch.Tensor]]:
    """The adapters of three runs, each trained alone; one is shorter."""
    jobs = [job(made, "alone1", 1), job(made, "alone2", 2, max_steps=6), job(made, "alone3", 3)]
    assert trained(jobs, 1) == dict.fromkeys(("expert/alone1", "expert/alone2", "expert/alone3"), "")
    return {str(n): adapter(made, f"alone{n}") for n in (1, 2, 3)}


def test_runs_side_by_side_end_as_each_alone(made: Store, alone: dict[str, dict[str, torch.Tensor]]) -> None:
    jobs = [job(made, "x1", 1), job(made, "x2", 2, max_steps=6), job(made, "x3", 3)]
    assert set(trained(jobs, 2).values()) == {""}
    assert all(same(adapter(made, f"x{n}"), wanted) for n, wanted in alone.items())
    assert not same(adapter(made, "x1"), adapter(made, "x3"))


def test_a_group_that_is_broken_off_goes_on_exactly(
    made: Store,
    alone: dict[str, dict[str, torch.Tensor]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = [job(made, "y1", 1), job(made, "y3", 3)]
    polls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(notice.Notice, "given", lambda self, step, step_s: "SIGTERM" if next(polls) >= 14 else "")
        with pytest.raises(Leaving, match="SIGTERM: step 8 is saved"):
            trained(jobs, 2)
    assert not Path(made.local("expert/y1/adapter")).exists()
    assert set(trained(jobs, 2).values()) == {""}
    assert same(adapter(made, "y1"), alone["1"]) and same(adapter(made, "y3"), alone["3"])
    assert capsys.readouterr().out.count("-attempt-000001 (weights, first moments, second moments") == 2


def test_word_that_comes_between_two_runs_turns_saves_both(made: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first has asked for its fifth step when the word comes, the second asks for its own behind it."""
    told, turns, plain = threading.Event(), itertools.count(1), notice.Notice.given

    def given(self: notice.Notice, *where: Any) -> str:
        if next(turns) == 2 * 5:
            told.set()
        return plain(self, *where)

    monkeypatch.setattr(notice, "_TERMINATED", told)
    monkeypatch.setattr(notice.Notice, "given", given)
    seldom: dict[str, Any] = {"checkpoint": {"every_steps": 100}, "validation": {"every_steps": 100, "keep": "last"}}
    jobs = [job(made, name, **seldom) for name in ("t1", "t2")]
    with pytest.raises(Leaving, match="step 5 is saved"):
        trained(jobs, 2)
    kept = {one.run: checkpoint.latest(made.sub(one.run)) for one in jobs}
    assert {run: state and state.progress.step for run, state in kept.items()} == {"expert/t1": 5, "expert/t2": 5}


def test_a_run_that_fails_stops_no_other(made: Store, alone: dict[str, dict[str, torch.Tensor]]) -> None:
    jobs = [
        job(made, "z1", 1),
        job(made, "lost", tokens="nowhere"),
        job(made, "wild", optimizer={"learning_rate": 1e30}),
    ]
    ended = trained(jobs, 3)
    assert ended["expert/z1"] == "" and "tokens/nowhere does not exist" in ended["expert/lost"]
    assert (
        "the loss is nan" in ended["expert/wild"] or "is inf" in ended["expert/wild"] or "nan" in ended["expert/wild"]
    )
    assert same(adapter(made, "z1"), alone["1"])


def test_a_run_whose_memory_runs_out_in_a_shared_step_is_found_and_stops_no_other(
    made: Store, alone: dict[str, dict[str, torch.Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = LaneEngine.step

    def scarce(self: LaneEngine, steps: Mapping[str, LaneStep]) -> dict[str, dict[str, float]]:
        """The fifth step of one run fails after the others' have been made."""
        others = {name: step for name, step in steps.items() if name != "expert/large" or step.done != 4}
        found = plain(self, others) if others else {}
        if len(others) < len(steps):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")
        return found

    monkeypatch.setattr(LaneEngine, "step", scarce)
    ended = trained([job(made, "w1", 1), job(made, "large", 2), job(made, "w3", 3)], 2)
    assert ended.keys() == {"expert/w1", "expert/large", "expert/w3"}
    why = ended["expert/large"]
    assert "out of memory on cpu (9.0 GiB refused): " in why and "lower batch.micro_tokens=128" in why
    assert same(adapter(made, "w1"), alone["1"]) and same(adapter(made, "w3"), alone["3"])


def test_a_gpu_that_can_no_longer_be_used_ends_the_process_and_no_run(
    made: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: LaneEngine, steps: Mapping[str, LaneStep]) -> dict[str, dict[str, float]]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(LaneEngine, "step", broken)
    with pytest.raises(torch.AcceleratorError):
        trained([job(made, "u1"), job(made, "u2")], 2)


def test_runs_that_cannot_share_a_base_are_refused(made: Store) -> None:
    other = job(made, "b", model={"precision": "nf4"})
    with pytest.raises(TrainingError, match=r"expert/b: model is not that of expert/a.*set lanes: null"):
        check_shared([job(made, "a"), other])
    check_shared([])
