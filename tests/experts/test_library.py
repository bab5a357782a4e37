"""A library is made of whole experts, folded; other experts make another library."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load

from medtrain.artifacts import Artifact, Build, Identity, Policy, begin
from medtrain.config import parse
from medtrain.errors import ConfigError
from medtrain.experts import fold, folder, library
from medtrain.experts.plan import Plan
from medtrain.storage import Store
from medtrain.train import adapter_files, adapters
from medtrain.train.loss import LossModule
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.state import trainable, weights


def plan(*names: str) -> Plan:
    local = {"source": "alpaca", "path": "a.json", "local_split": {}}
    experts = {name: {"category": "knowledge graph", "sources": [local], "non_commercial": True} for name in names}
    return parse(Plan, {"name": "p", "experts": experts})


def artifact(root: Store, kind: str, name: str, facts: dict[str, Any]) -> Artifact:
    """A finished artifact that holds nothing but facts, and an adapter if it is an expert."""
    build = begin(root, kind, name, Identity({"name": name}, {}, ""), Policy())
    assert isinstance(build, Build)
    if kind == "expert":
        base = load_base(str(root.local("bases/tiny")), ModelConfig(precision="fp32"), torch.device("cpu"))
        model = adapters.attach(base, {"kind": "adalora", "init_rank": 3, "target_rank": 2}, seed=len(name))
        for key, parameter in trainable(model).items():
            if "lora_E" in key:
                parameter.data = torch.tensor([[1.0], [0.0], [2.0 * ("q_proj" in key)]])
        adapter_files.write(build.store, "adapter", model, weights(LossModule(model)))
    return build.finish(facts)


@pytest.fixture
def experts(made: Store) -> dict[str, Artifact]:
    """Two experts with their data."""
    found = {}
    for name in ("a", "bb"):
        counts = {"x": {"train": 8, "test": 1}, "y": {"train": 2}}
        artifact(made, "data", f"p-{name}", {"by_source": counts, "splits": {"x": "local", "y": "corpus"}})
        found[name] = artifact(
            made, "expert", f"p-{name}", {"base": "artifact:bases/tiny", "step": 9, "last_loss": 0.5}
        )
    return found


def test_a_library_holds_folded_adapters_and_what_is_known_of_them(made: Store, experts: dict[str, Artifact]) -> None:
    found = library.assemble(made, plan("a", "bb"), experts, Policy())
    facts = found.facts["experts"]["bb"]
    ranks = facts.pop("ranks")
    assert facts == {
        "category": "knowledge graph",
        "run": "expert/p-bb",
        "rows": {"train": 10, "test": 1},
        "split": "local",
        "non_commercial": True,
        "step": 9,
        "last_loss": 0.5,
    }
    assert {module.rpartition(".")[2]: rank for module, rank in ranks.items()}.items() >= {
        "q_proj": 2,
        "k_proj": 1,
    }.items()
    tensors = load(found.store.read(f"bb/{folder.WEIGHTS}"))
    assert {len(t) for n, t in tensors.items() if "q_proj.lora_A" in n} == {2} and not any(
        "lora_E" in n for n in tensors
    )
    assert found.facts["base"] == "artifact:bases/tiny"


def test_it_is_read_back_while_its_experts_are_the_same(made: Store, experts: dict[str, Artifact]) -> None:
    one = library.assemble(made, plan("a"), {"a": experts["a"]}, Policy())
    assert library.assemble(made, plan("a"), {"a": experts["a"]}, Policy()).manifest == one.manifest
    both = library.assemble(made, plan("a", "bb"), experts, Policy())
    assert both.store.folders() == ["a", "bb"] and both.fingerprint != one.fingerprint


def test_a_licence_that_was_corrected_is_taken_up(made: Store, experts: dict[str, Artifact]) -> None:
    given = plan("a")
    free = given.experts["a"].model_copy(update={"non_commercial": False})
    libraries = [
        library.assemble(made, one, {"a": experts["a"]}, Policy())
        for one in (given.model_copy(update={"experts": {"a": free}}), given)
    ]
    assert [one.facts["experts"]["a"]["non_commercial"] for one in libraries] == [False, True]
    assert libraries[0].fingerprint != libraries[1].fingerprint


def test_experts_over_several_bases_make_no_library(made: Store, experts: dict[str, Artifact]) -> None:
    other = artifact(made, "expert", "p-ccc", {"base": "artifact:bases/other"})
    with pytest.raises(
        ConfigError, match="a over artifact:bases/tiny, ccc over artifact:bases/other; a library is over"
    ):
        library.assemble(made, plan("a", "ccc"), {"a": experts["a"], "ccc": other}, Policy())
    assert not made.exists("library")


def test_adapters_name_the_base_where_it_lies_now(made: Store, experts: dict[str, Artifact]) -> None:
    store, path = experts["a"].store, f"adapter/{folder.SETTINGS}"
    store.write(path, json.dumps({**json.loads(store.read(path)), "base_model_name_or_path": "/before/tiny"}).encode())
    found = library.assemble(made, plan("a", "bb"), experts, Policy())
    assert [fold.read(found.store, name).base for name in ("a", "bb")] == [str(made.local("bases/tiny"))] * 2
