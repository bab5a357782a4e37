"""A tiny base and trained adapters of several kinds on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

from medtrain.storage import Store
from medtrain.train import adapter_files, adapters
from medtrain.train.loss import LossModule
from medtrain.train.state import trainable, weights

STEPS = 20

Make = Callable[..., str]


@pytest.fixture(scope="session")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen2 on disk."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 99, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    folder = tmp_path_factory.mktemp("base")
    Qwen2ForCausalLM(Qwen2Config(**sizes, num_attention_heads=4, num_key_value_heads=2)).save_pretrained(folder)
    return folder


@pytest.fixture
def expert(base_path: Path, store: Store) -> Make:
    """Writes an adapter that has moved, as training leaves it, and gives its folder in `store`."""

    def make(folder: str, seed: int = 1, **settings: Any) -> str:
        base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
        given = settings if settings.get("kind") == "adalora" else {"kind": "lora", "rank": 4, **settings}
        model = adapters.attach(base, given, seed=seed)
        parameters = trainable(LossModule(model))
        draw = torch.Generator().manual_seed(seed)
        for parameter in parameters.values():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)
        rule = adapters.rule(given, model, STEPS)
        if rule is not None:
            # One matrix never gets a gradient, so that nothing of it is kept; the others get their own sizes.
            found = {
                name: torch.randn(p.shape, generator=draw) * (0 if "layers.1.self_attn.k_proj" in name else 1 + n % 7)
                for n, (name, p) in enumerate(parameters.items())
            }
            for step in (1, STEPS // 2):
                for name, value in rule.after_step(step, parameters, found, clipped=1.0).items():
                    parameters[name].data.copy_(value)
            rule.finish()
        adapter_files.write(store, folder, model, weights(LossModule(model)))
        return folder

    return make
