"""Merging an adapter into its base, in float32 and never into 4-bit weights."""

from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM

from medtrain.errors import ConfigError


def merged(base_path: str, adapter_path: str, dtype: torch.dtype, *, trust_remote_code: bool = False) -> Any:
    """The base with the adapter's update added to its full-precision weights.

    Args:
        base_path: a model folder or hub id; it is loaded unquantised.
        adapter_path: a folder in PEFT's layout.
        dtype: type of the merged weights; the sum is made in float32 and rounded once.
        trust_remote_code: run Python code that comes with the base.

    Raises:
        ConfigError: the base's own weights are quantised: rounding the sum to few bits would lose most of the update.
    """
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32, trust_remote_code=trust_remote_code)
    if getattr(base, "is_quantized", False):
        raise ConfigError(
            f"base {base_path}: its saved weights are quantised; merge into the weights that it was quantised from, "
            "and quantise the result"
        )
    model = peft.PeftModel.from_pretrained(base, adapter_path)
    whole = model.merge_and_unload(safe_merge=True)
    for parameter in whole.parameters():  # weights only: rotary frequencies in bfloat16 would turn far tokens wrongly
        parameter.data = parameter.data.to(dtype)
    return whole
