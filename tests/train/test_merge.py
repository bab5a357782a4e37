"""Merging: the merged model answers as base and adapter did, is saved whole, and is quantised again on loading."""

import json
from pathlib import Path
from typing import Any

import bitsandbytes
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from medtrain.errors import ConfigError
from medtrain.storage import Store
from medtrain.train import adapter_files, adapters
from medtrain.train.loss import LossModule
from medtrain.train.merge import merged
from medtrain.train.model import ModelConfig, load_base
from medtrain.train.state import trainable, weights

IDS = torch.arange(10, 40)[None]


def adapter_of(store: Store, **settings: Any) -> Path:
    """A saved adapter that has moved, on the tiny base."""
    base = AutoModelForCausalLM.from_pretrained(store.local("bases/tiny"), dtype=torch.float32)
    model = adapters.attach(base, {"kind": "lora", "rank": 4, **settings}, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable(model).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    adapter_files.write(store, "adapter", model, weights(LossModule(model)))
    return store.local("adapter")


def logits(model: Any) -> torch.Tensor:
    """(1, 30, V) float32 logits of fixed ids."""
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits.float()
    return found


@pytest.mark.parametrize("settings", [{}, {"rslora": True, "alpha": 8}, {"dora": True}])
def test_logits_equal_base_and_adapter(made: Store, settings: dict[str, Any]) -> None:
    path, adapter = str(made.local("bases/tiny")), str(adapter_of(made, **settings))
    base = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    plain = logits(base)
    wanted = logits(peft.PeftModel.from_pretrained(base, adapter))
    found = logits(merged(path, adapter, torch.float32))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert float((found - plain).abs().max()) > 1e-2


def test_merged_weights_load_as_a_base_in_nf4(made: Store) -> None:
    model = merged(str(made.local("bases/tiny")), str(adapter_of(made)), torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    folder = made.local("merged")
    model.save_pretrained(folder)
    assert not list(folder.glob("adapter*"))
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert torch.equal(logits(again), logits(model))
    quantised = load_base(str(folder), ModelConfig(), torch.device("cpu"))
    linears = [m for m in quantised.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(linears) == 14
    assert not any(module.support_avx512bf16_for_cpu for module in linears)
    assert not any(p.requires_grad for p in quantised.parameters())
    off = (logits(quantised) - logits(model)).norm() / logits(model).norm()
    assert 0 < float(off) < 0.35  # 4 bits of random normal weights: about 0.1 a layer


def test_nothing_is_merged_into_a_base_that_was_saved_in_four_bits(made: Store) -> None:
    adapter = str(adapter_of(made))
    load_base(str(made.local("bases/tiny")), ModelConfig(), torch.device("cpu")).save_pretrained(made.local("four"))
    with pytest.raises(ConfigError, match="its saved weights are quantised"):
        merged(str(made.local("four")), adapter, torch.float32)
