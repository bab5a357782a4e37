"""Adapter folders: what is written is what unmodified PEFT reads, and what is no sum of products is refused."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM

from medtrain.errors import ConfigError, CorruptArtifact
from medtrain.experts.folder import Adapter, Factors, lora_factors, read_parts, write
from medtrain.storage import Store

DOWN, UP = "model.layers.1.mlp.down_proj", "model.layers.0.mlp.up_proj"


def opened(base: Path, folder: Path) -> Any:
    """The base with an adapter folder, by plain PEFT."""
    return peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), str(folder))


def updates(model: Any) -> dict[str, torch.Tensor]:
    """What PEFT adds to each weight, by module."""
    named = model.base_model.model.named_modules()
    return {name: m.get_delta_weight("default").detach() for name, m in named if hasattr(m, "lora_A")}


@pytest.mark.parametrize(
    "settings", [{"alpha": 3}, {"rslora": True}, {"target_modules": ["q_proj", "down_proj"]}], ids=str
)
def test_its_factors_are_pefts(base_path: Path, store: Store, expert: Any, settings: dict[str, Any]) -> None:
    folder = expert("a", **settings)
    found = lora_factors(*read_parts(store, folder))
    wanted = updates(opened(base_path, store.local(folder)))
    assert found.keys() == wanted.keys()
    for name, f in found.items():
        torch.testing.assert_close(f.scale * f.B @ f.A, wanted[name])


def test_unequal_ranks_and_scales_come_back_in_peft(base_path: Path, store: Store) -> None:
    draw = torch.Generator().manual_seed(0)
    modules = {
        DOWN: Factors(torch.randn(3, 128, generator=draw), torch.randn(64, 3, generator=draw), 0.7),
        UP: Factors(torch.randn(5, 64, generator=draw), torch.randn(128, 5, generator=draw)),
    }
    write(store, "a", Adapter(str(base_path), modules))
    found = updates(opened(base_path, store.local("a")))
    assert found.keys() == modules.keys()
    for name, f in modules.items():
        torch.testing.assert_close(found[name], f.scale * f.B @ f.A)
    again = lora_factors(*read_parts(store, "a"))
    assert {name: f.scale for name, f in again.items()} == pytest.approx({DOWN: 0.7, UP: 1.0})


@pytest.mark.parametrize("module", [UP, "model.layers.11.mlp.up_proj", "up_proj"])
def test_a_pattern_matches_as_in_peft(module: str) -> None:
    patterns = {"layers.1.mlp.up_proj": 7, r".*\.0\.mlp\.up_proj": 9, "up_proj": 11}
    config = {"lora_alpha": 1, "alpha_pattern": patterns}
    found = lora_factors(config, {module: {"A": torch.zeros(1, 2), "B": torch.zeros(2, 1)}})
    assert found[module].scale == patterns[get_pattern_key(list(patterns), module)]


def changed(store: Store, folder: str, **settings: Any) -> None:
    """Overwrite settings of an adapter's config."""
    config = json.loads(store.read(f"{folder}/adapter_config.json"))
    store.write(f"{folder}/adapter_config.json", json.dumps({**config, **settings}).encode())


def test_what_is_no_sum_of_products_is_refused(store: Store, expert: Any) -> None:
    with pytest.raises(ConfigError, match="use_dora=True is no sum of products"):
        read_parts(store, expert("dora", dora=True))
    changed(store, "dora", use_dora=False)
    with pytest.raises(ConfigError, match="magnitude_vector is no lora_A"):
        read_parts(store, "dora")
    folder = expert("a")
    changed(store, folder, peft_type="IA3")
    with pytest.raises(ConfigError, match="peft_type='IA3'"):
        read_parts(store, folder)


@pytest.mark.parametrize(
    "settings",
    [
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "lora_ga"},
        {"target_parameters": ["mlp.experts.down_proj"]},
        {"kasa_config": {"beta": 1e-4}},
    ],
    ids=str,
)
def test_what_changes_the_base_or_no_linear_layer_is_refused(
    store: Store, expert: Any, settings: dict[str, Any]
) -> None:
    folder, (name,) = expert("a"), settings
    changed(store, folder, **settings)
    with pytest.raises(ConfigError, match=f"{name}="):
        read_parts(store, folder)


@pytest.mark.parametrize(("beginning", "keeps"), [("olora", False), ("orthogonal", True), (False, True)])
def test_an_adapter_that_begins_by_changing_its_base_is_refused(
    base_path: Path, store: Store, beginning: Any, keeps: bool
) -> None:
    base: Any = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    weight = base.model.layers[0].self_attn.q_proj.weight.detach().clone()
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=beginning)
    model: Any = peft.get_peft_model(base, config)
    model.save_pretrained(store.local("a"))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert torch.equal(layer.base_layer.weight, weight) == keeps
    if keeps:
        assert read_parts(store, "a")[1]
    else:
        with pytest.raises(ConfigError, match=f"init_lora_weights='{beginning}' began by changing the base"):
            read_parts(store, "a")


def test_a_folder_that_is_not_whole_is_refused(store: Store, expert: Any) -> None:
    folder = expert("a")
    file = f"{folder}/adapter_model.safetensors"
    tensors = load_file(store.local(file))
    first = next(iter(tensors))
    store.write(file, save({name: t for name, t in tensors.items() if name != first}))
    with pytest.raises(CorruptArtifact, match="lacks factors of"):
        read_parts(store, folder)
    store.write(file, save({**tensors, first: tensors[first] * float("nan")}))
    with pytest.raises(CorruptArtifact, match="values that are no numbers"):
        read_parts(store, folder)
    store.delete(file)
    with pytest.raises(CorruptArtifact, match=r"no adapter_model\.safetensors"):
        read_parts(store, folder)


class Lossy(Store):
    """Storage that loses the end of every file."""

    def write(self, path: str, *content: bytes | memoryview) -> None:
        super().write(path, bytes(content[0])[:-1])


def test_storage_that_gives_other_bytes_back_is_noticed(store: Store) -> None:
    adapter = Adapter("base", {UP: Factors(torch.zeros(1, 64), torch.zeros(128, 1))})
    with pytest.raises(CorruptArtifact, match="other bytes"):
        write(Lossy(store.root), "a", adapter)
