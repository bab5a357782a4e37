"""A plan on a real Ray: runs side by side, one that fails stops no other, and only what is missing is trained."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from medtrain.artifacts import Policy, locate
from medtrain.config import parse
from medtrain.errors import ConfigError, TrainingError
from medtrain.experts import launch
from medtrain.experts.folder import WEIGHTS
from medtrain.experts.plan import Plan, run_config
from medtrain.experts.work import Work
from medtrain.runtime import RuntimeConfig
from medtrain.storage import Store
from medtrain.train.command import EstimateConfig

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
