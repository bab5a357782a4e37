"""Adapters on disk: unmodified PEFT opens them with equal logits; what is not whole or learned nothing is refused."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from medtrain.errors import TrainingError
from medtrain.storage import Store
from medtrain.train import adapter_files, adapters
from medtrain.train.loss import LossModule
from medtrain.train.state import trainable, weights

IDS = torch.arange(10, 30)[None]
LORA = {"kind": "lora", "rank": 4, "dropout": 0.0}


def base(store: Store) -> Any:
    """The tiny base in float32."""
    return AutoModelForCausalLM.from_pretrained(store.local("bases/tiny"), dtype=torch.float32)


def trained(store: Store, **settings: Any) -> peft.PeftModel:
    """The tiny base with an adapter that has moved."""
    model = adapters.attach(base(store), {**LORA, **settings}, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable(model).values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    """(1, 20, V) logits of fixed ids."""
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


def save(store: Store, model: peft.PeftModel) -> Path:
    """Write the adapter as the worker does."""
    adapter_files.write(store, "adapter", model, weights(LossModule(model)))
    return store.local("adapter")


@pytest.mark.parametrize("settings", [{}, {"rslora": True}, {"dora": True}, {"target_modules": ["q_proj", "up_proj"]}])
def test_plain_peft_opens_it_with_equal_logits(made: Store, settings: dict[str, Any]) -> None:
    model = trained(made, **settings)
    wanted = logits(model)
    opened = peft.PeftModel.from_pretrained(base(made), str(save(made, model))).eval()
    assert torch.equal(logits(opened), wanted)
    assert not torch.allclose(logits(base(made)), wanted, atol=1e-3)


def test_its_files_are_pefts_two(made: Store) -> None:
    folder = save(made, trained(made))
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert peft.LoraConfig.from_pretrained(folder).inference_mode


def test_it_is_read_into_a_fresh_adapter(made: Store) -> None:
    model = trained(made)
    folder = save(made, model)
    fresh = adapters.attach(base(made), LORA, seed=9)
    adapter_files.read_into(fresh, folder)
    assert torch.equal(logits(fresh.eval()), logits(model))
    assert trainable(fresh).keys() == trainable(model).keys()


def test_an_adapter_of_another_shape_is_refused(made: Store) -> None:
    folder = save(made, trained(made))
    other = adapters.attach(base(made), {**LORA, "rank": 8}, seed=0)
    with pytest.raises(TrainingError, match=r"init_from .*: its 28 tensors do not fit this adapter's 28"):
        adapter_files.read_into(other, folder)


def test_an_adapter_that_learned_nothing_is_refused(made: Store) -> None:
    fresh = adapters.attach(base(made), LORA, seed=0)
    with pytest.raises(TrainingError, match="every lora_B is zero"):
        save(made, fresh)


def test_an_adapter_with_a_tensor_missing_is_refused(made: Store) -> None:
    model = trained(made)
    held = weights(LossModule(model))
    held.pop(next(iter(held)))
    with pytest.raises(TrainingError, match="27 tensors of 28 were saved"):
        adapter_files.write(made, "adapter", model, held)


def test_tensors_that_peft_does_not_know_are_refused(made: Store) -> None:
    model = trained(made)
    held = {**weights(LossModule(model)), "model.base_model.model.model.norm.weight": torch.ones(64)}
    with pytest.raises(TrainingError, match="tensors of 28 were saved"):
        adapter_files.write(made, "adapter", model, held)
