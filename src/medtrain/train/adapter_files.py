"""A trained adapter on disk in PEFT's own layout, so that unmodified PEFT opens it."""

import tempfile
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors.torch import load, save

from medtrain.errors import TrainingError
from medtrain.storage import Store

PREFIX = "model."
"""What the loss module adds before the PEFT model's own parameter names."""


def write(store: Store, folder: str, model: peft.PeftModel, weights: dict[str, torch.Tensor]) -> None:
    """Save trained weights (by the loss module's names) as an adapter folder, read back and checked.

    Raises:
        TrainingError: the file does not hold the weights, or every one that began as zero still is
            (huggingface/peft#1402).
    """
    named = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    tensors: dict[str, torch.Tensor] = peft.get_peft_model_state_dict(model, state_dict=named)
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()})
    store.write(f"{folder}/adapter_model.safetensors", content)
    with tempfile.TemporaryDirectory() as scratch:
        config: Any = model.peft_config["default"]
        config.inference_mode = True
        config.save_pretrained(scratch)
        store.write(f"{folder}/adapter_config.json", (Path(scratch) / "adapter_config.json").read_bytes())
    back = load(store.read(f"{folder}/adapter_model.safetensors"))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    if (
        set(named) != trained
        or len(back) != len(trained)
        or any(not torch.equal(back[name], tensor) for name, tensor in tensors.items())
    ):
        raise TrainingError(
            f"adapter {folder}: {len(back)} tensors of {len(trained)} were saved; the adapter is not whole"
        )
    zero_first = "lora_E" if any("lora_E" in name for name in back) else "lora_B"
    grown = [tensor for name, tensor in back.items() if zero_first in name]
    if grown and not any(tensor.any() for tensor in grown):
        raise TrainingError(f"adapter {folder}: every {zero_first} is zero, nothing was learned or nothing was saved")


def read_into(model: peft.PeftModel, folder: Path) -> None:
    """Put an adapter folder's weights into a model that has an adapter of the same shape.

    Raises:
        TrainingError: the adapter has other tensors than the model.
    """
    wanted = peft.get_peft_model_state_dict(model)
    given = load((folder / "adapter_model.safetensors").read_bytes())
    if {n: t.shape for n, t in wanted.items()} != {n: t.shape for n, t in given.items()}:
        raise TrainingError(
            f"init_from {folder}: its {len(given)} tensors do not fit this adapter's {len(wanted)}; "
            f"give `adapter` the rank and modules that it was trained with"
        )
    peft.set_peft_model_state_dict(model, given)
