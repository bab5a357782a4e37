"""Merging an adapter into its base, in float32 and never into 4-bit weights."""

from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM


def merged(base_path: str, adapter_path: str, dtype: torch.dtype) -> Any:
    """The base with the adapter's update added to its full-precision weights.

    Args:
        base_path: a model folder or hub id; it is loaded unquantised.
        adapter_path: a folder in PEFT's layout.
        dtype: type of the merged weights; the sum is made in float32 and rounded once.
    """
    base = AutoModelForCausalLM.from_pretrained(base_path, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, adapter_path)
    whole = model.merge_and_unload(safe_merge=True)
    for parameter in whole.parameters():  # weights only: rotary frequencies in bfloat16 would turn far tokens wrongly
        parameter.data = parameter.data.to(dtype)
    return whole
