"""AdaLoRA folded into LoRA: unmodified PEFT opens it, and its logits are those of the AdaLoRA adapter."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM

from medtrain.errors import ConfigError
from medtrain.experts.fold import fold, read
from medtrain.experts.folder import Adapter, Factors, write
from medtrain.storage import Store

ADALORA: dict[str, Any] = {"kind": "adalora", "init_rank": 5, "target_rank": 2, "schedule": "scaled"}
IDS = torch.arange(5, 25)[None]
EMPTY = "model.layers.1.self_attn.k_proj"


def logits(base: Path, adapter: Path | None, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """(1, 20, V) of fixed ids, by plain PEFT, whose adapters are float32 over any base."""
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    if adapter is not None:
        model = peft.PeftModel.from_pretrained(model, str(adapter))
        saved = load_file(adapter / "adapter_model.safetensors")
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                assert parameter.dtype == torch.float32
                # PEFT has rounded a pruned AdaLoRA adapter to the base's type on its way here.
                parameter.data.copy_(saved[name.replace(".default", "")])
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits.float()
    return found


def test_plain_peft_opens_the_folded_adapter_with_the_same_logits(base_path: Path, store: Store, expert: Any) -> None:
    fold(store, expert("adalora", **ADALORA), "lora")
    before, after = store.local("adalora"), store.local("lora")
    assert peft.PeftConfig.from_pretrained(after).peft_type == "LORA"
    wanted = logits(base_path, before)
    torch.testing.assert_close(logits(base_path, after), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    assert float((logits(base_path, None) - wanted).norm() / wanted.norm()) > 0.1
    wanted = logits(base_path, before, torch.bfloat16)
    off = (logits(base_path, after, torch.bfloat16) - wanted).norm() / wanted.norm()
    assert float(off) < 1e-4


def test_ranks_are_those_of_the_pattern_and_an_empty_module_has_no_layer(
    base_path: Path, store: Store, expert: Any
) -> None:
    fold(store, expert("adalora", **ADALORA), "lora")
    pattern = json.loads(store.read("adalora/adapter_config.json"))["rank_pattern"]
    ranks = {name.removesuffix(".lora_E"): sum(kept) for name, kept in pattern.items()}
    assert ranks[EMPTY] == 0 and len(set(ranks.values())) > 2
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    model: Any = peft.PeftModel.from_pretrained(base, str(store.local("lora")))
    layers = {name: m for name, m in model.base_model.model.named_modules() if hasattr(m, "lora_A")}
    assert {name: len(layer.lora_A["default"].weight) for name, layer in layers.items()} == {
        name: rank for name, rank in ranks.items() if rank
    }
    assert {layer.scaling["default"] for layer in layers.values()} == {1.0}
    assert sorted(path.name for path in store.local("lora").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_the_factors_are_a_naive_loop(store: Store, expert: Any) -> None:
    folder = expert("adalora", **ADALORA)
    tensors = load_file(store.local(folder) / "adapter_model.safetensors")
    module = max(read(store, folder).modules.items(), key=lambda item: item[1].rank)[0]
    A, B, E = (tensors[f"base_model.model.{module}.lora_{part}"].double() for part in "ABE")
    wanted = torch.zeros(len(B), A.shape[1], dtype=torch.float64)
    for i, value in enumerate(E[:, 0]):
        wanted += 32 / (5 + 1e-5) * value * torch.outer(B[:, i], A[i])
    found = read(store, folder).modules[module]
    torch.testing.assert_close(found.B.double() @ found.A.double(), wanted, rtol=1e-6, atol=1e-7)


def test_a_divisor_of_what_is_left_would_be_seen(base_path: Path, store: Store, expert: Any) -> None:
    adapter = read(store, expert("adalora", **ADALORA))
    wrong = {n: Factors(f.A, f.B * (5 + 1e-5) / (f.rank + 1e-5)) for n, f in adapter.modules.items()}
    write(store, "wrong", Adapter(adapter.base, wrong))
    wanted = logits(base_path, store.local("adalora"))
    assert float((logits(base_path, store.local("wrong")) - wanted).norm() / wanted.norm()) > 0.1


def test_what_cannot_be_folded_is_refused(store: Store, expert: Any) -> None:
    with pytest.raises(ConfigError, match="peft_type=LORA, there is nothing to fold"):
        fold(store, expert("plain"), "lora")
    fold(store, expert("adalora", **ADALORA), "lora")
    content = load_file(store.local("adalora") / "adapter_model.safetensors")
    zeros = {name: t * 0 if "lora_E" in name else t for name, t in content.items()}
    store.write("adalora/adapter_model.safetensors", save(zeros))
    with pytest.raises(ConfigError, match="no module has a rank above 0; every triplet was pruned"):
        fold(store, "adalora", "nothing")
    assert not store.exists("nothing")
