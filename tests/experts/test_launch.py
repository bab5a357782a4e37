"""A plan on a real Ray: runs side by side, one that fails stops no other, and only what is missing is trained."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import peft
import pytest
import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from medtrain.artifacts import Identity, Policy, begin, locate
from medtrain.config import parse
from medtrain.data import pipeline as data
from medtrain.errors import ConfigError, TrainingError
from medtrain.experts import launch
from medtrain.experts.folder import WEIGHTS
from medtrain.experts.plan import Plan, data_config, run_config, tokens_config
from medtrain.experts.work import Work
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.tokens import pipeline as tokens
from medtrain.train.command import EstimateConfig
from medtrain.train.payload import RESULT, Payload
from medtrain.train.settings import TrainConfig

TRAIN: dict[str, Any] = {
    "epochs": 1,
    "model": {"precision": "fp32"},
    "adapter": {"schedule": "scaled", "init_rank": 4, "target_rank": 2},
    "batch": {"size": 4, "micro_tokens": 512},
    "optimizer": {"learning_rate": 1e-2},
    "validation": {"max_rows": 4},
    "checkpoint": {"memory_every_steps": 0},
}
INPUTS = launch.Inputs(lambda root, settings: settings.base.path, lanes=1)


@pytest.fixture
def raw(made: Store, tmp_path: Path) -> Path:
    """Two corpora of made questions."""
    for name in ("a", "b"):
        rows = [{"instruction": f"{name} {n} +{n % 7}?", "output": f"{n % 7} {name}"} for n in range(48)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    return tmp_path


def plan(root: Store, raw: Path, paths: dict[str, str], **settings: Any) -> Plan:
    """Experts by name and the file that they learn from."""
    experts = {
        name: {
            "category": "question answering",
            "sources": [{"source": "alpaca", "path": path, "task": "qa", "language": "en"}],
            "adaptation_rows": 8,
        }
        for name, path in paths.items()
    }
    base = {"path": str(root.local("bases/tiny"))}
    content = {"name": "p", "root": str(raw), "base": base, "context_tokens": 128, "train": TRAIN, "experts": experts}
    return parse(Plan, content | settings)


@pytest.mark.usefixtures("ray_cluster")
def test_a_library_is_trained_piece_by_piece(made: Store, raw: Path) -> None:
    broken = plan(made, raw, {"a": "a.json", "b": "nowhere.json"})
    with pytest.raises(TrainingError, match=r"(?s)1 of 2 experts failed.*trains only what is missing:\n  b: .*nowhere"):
        launch.train(made, broken, RuntimeConfig(), Policy(), INPUTS)
    first = locate(made, "expert", "p-a")
    mended = plan(made, raw, {"a": "a.json", "b": "b.json"})
    library = launch.train(made, mended, RuntimeConfig(), Policy(), INPUTS)
    assert locate(made, "expert", "p-a").manifest == first.manifest
    assert library.store.folders() == ["a", "b"]
    facts = library.facts["experts"]["b"]
    assert (facts["run"], facts["rows"], facts["split"]) == ("expert/p-b", {"train": 40, "validation": 8}, "corpus")
    assert sum(facts["ranks"].values()) == 2 * 12 and len(set(facts["ranks"].values())) > 1
    base = AutoModelForCausalLM.from_pretrained(made.local("bases/tiny"), dtype=torch.float32)
    opened = peft.PeftModel.from_pretrained(base, str(library.store.local("b")))
    adalora = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(made.local("bases/tiny"), dtype=torch.float32),
        str(locate(made, "expert", "p-b").store.local("adapter")),
    )
    ids = torch.arange(10, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(opened(input_ids=ids).logits, adalora(input_ids=ids).logits)
        with opened.disable_adapter():
            assert not torch.allclose(opened(input_ids=ids).logits, adalora(input_ids=ids).logits)
    assert launch.train(made, mended, RuntimeConfig(), Policy(), INPUTS).manifest == library.manifest


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_alone_beside_another_and_with_an_engine_of_its_own_an_expert_is_the_same(made: Store, raw: Path) -> None:
    libraries = [
        launch.train(
            made,
            plan(made, raw, {"a": "a.json", "b": "b.json"}, name=f"p{lanes}"),
            RuntimeConfig(),
            Policy(),
            launch.Inputs(INPUTS.reference, lanes=lanes),
        )
        for lanes in (1, 2, None)
    ]
    for name in ("a", "b"):
        alone, *others = (load_file(library.store.local(name) / WEIGHTS) for library in libraries)
        for other in others:
            assert alone.keys() == other.keys()
            assert all(torch.allclose(alone[key], other[key], rtol=1e-3, atol=1e-5) for key in alone)


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_too_short_for_its_schedule_is_refused_before_anything_is_trained(made: Store, raw: Path) -> None:
    literal = plan(made, raw, {"a": "a.json"}, train={**TRAIN, "adapter": {"schedule": "literal"}})
    with pytest.raises(ConfigError, match=r"10 optimizer steps - 1000 with a frozen pattern leaves -990"):
        launch.train(made, literal, RuntimeConfig(), Policy(), INPUTS)
    assert not made.exists("expert")


def test_lanes_on_several_workers_are_refused(made: Store, raw: Path) -> None:
    with pytest.raises(ConfigError, match=r"lanes=2 with runtime.workers=2: .* set runtime.workers: 1"):
        launch.train(
            made,
            plan(made, raw, {"a": "a.json"}),
            RuntimeConfig(workers=2),
            Policy(),
            launch.Inputs(INPUTS.reference, lanes=2),
        )


def test_runs_share_a_device_as_far_as_its_memory_goes(made: Store, raw: Path) -> None:
    config = run_config(plan(made, raw, {"a": "a.json"}), "a").model_copy(update={"tokens": "tiny"})
    item = Work("a", config, 64, 16, 1000)
    together = [launch.runs_together(made, item, EstimateConfig(memory_gib=size)) for size in (1.0, 24.0, None)]
    assert together[0] == together[2] == 1 and together[1] > 4


@pytest.mark.usefixtures("ray_cluster")
def test_another_base_with_the_same_tokenizer_is_refused_and_not_taken_for_the_first(made: Store, raw: Path) -> None:
    first, other = plan(made, raw, {"a": "a.json"}), str(raw / "other")
    data.build(made, data_config(first, "a"), Policy())
    tokens.build(made, tokens_config(first, "a"), first.base.path, Policy())
    shutil.copytree(made.local("bases/tiny"), other)
    words = rf"base={other}: tokens/p-a are there, made over {first.base.path}, .* another name \(experts: their plan\)"
    with pytest.raises(TrainingError, match=words):
        launch.train(made, plan(made, raw, {"a": "a.json"}, base={"path": other}), RuntimeConfig(), Policy(), INPUTS)
    assert not made.exists("expert")


class Quick:
    """A device that says of each run that it has ended, and leaves an empty result."""

    def __init__(self, number: int, cpus: float, gpu: bool):
        self._number = number

    def train(self, queue: Any, at_once: int) -> None:
        while (job := ray.get(queue.take.remote(self._number))) is not None:
            Store(job["root"]).sub(job["run"]).write(RESULT, b"{}")
            ray.get(queue.tell.remote(self._number, job["run"], ""))


class Late(Quick):
    """Of two devices the second, once there is room for it, takes for ever to see that nothing is left to do."""

    def train(self, queue: Any, at_once: int) -> None:
        if self._number == 1:
            time.sleep(3600)
        super().train(queue, at_once)


class Dying(Quick):
    """Of two devices the first dies with a run, and the other one ends with nothing to do."""

    def train(self, queue: Any, at_once: int) -> None:
        if self._number == 0:
            ray.get(queue.take.remote(0))
            os._exit(1)
        time.sleep(5)


def payloads(root: Store, *names: str) -> list[Payload]:
    """What workers are told of some runs."""
    told = {"root": root.root, "submission": "1", "base": "", "base_path": "", "adapter_path": None}
    told |= {"cpus": 1, "collective_timeout_s": 60}
    trains = [parse(TrainConfig, {"name": name, "tokens": "tiny", "epochs": 1}) for name in names]
    return [Payload.model_validate({**told, "run": f"expert/{train.name}", "train": train}) for train in trains]


def ended(root: Store, *names: str, **runtime: Any) -> dict[str, str]:
    """What becomes of runs with equally much to do, one at a time on each device."""
    cluster = RuntimeConfig.model_validate({"use_gpu": False, **runtime})
    return dict(launch.Devices(cluster, payloads(root, *names), [1] * len(names), 1).ended())


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_cluster")
def test_a_device_that_there_is_no_room_for_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "Device", Late)
    somebody_else = ray.remote(num_cpus=3)(Quick).remote(0, 3, False)
    try:
        ray.get(somebody_else.__ray_ready__.remote())
        assert ended(store, "a", "b") == {"expert/a": "", "expert/b": ""}
    finally:
        ray.kill(somebody_else)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("ray_cluster")
def test_runs_that_no_device_is_left_for_fail_with_what_the_last_one_died_of(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "Device", Dying)
    found = ended(store, "a", "b", max_failures=0)
    assert found.keys() == {"expert/a", "expert/b"}
    for why in found.values():
        assert "runtime.max_failures=0: devices were lost 1 times" in why and "The actor" in why


@pytest.mark.usefixtures("ray_cluster")
def test_the_queue_lies_on_the_drivers_node(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def placed(node: str, soft: bool) -> NodeAffinitySchedulingStrategy:
        asked.append((node, soft))
        return NodeAffinitySchedulingStrategy(node, soft=soft)

    monkeypatch.setattr(launch, "NodeAffinitySchedulingStrategy", placed)
    assert ended(store) == {} and asked == [(ray.get_runtime_context().get_node_id(), False)]


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_an_expert_that_was_made_from_something_else_stops_no_other(
    made: Store, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "Device", Quick)
    begin(made, "expert", "p-a", Identity({"epochs": 99}, {}, ""), Policy())
    both = plan(made, raw, {"a": "a.json", "b": "b.json"})
    with pytest.raises(
        TrainingError, match=r"(?s)1 of 2 experts failed.*\n  a: .*expert/p-a .* made from something else"
    ):
        launch.train(made, both, RuntimeConfig(use_gpu=False), Policy(), INPUTS)
    assert locate(made, "expert", "p-b").facts["tokens"] == "p-b"
