"""Attention for packed rows: each sample attends to itself only, and no off-diagonal block is ever computed."""

import importlib.util
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

BLOCKS = "medtrain_blocks"


def blocks_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention sample by sample over one packed row.

    Args:
        module: the attention layer (unused; the interface's first argument).
        query: (1, heads, T, head size).
        key: (1, KV heads, T, head size).
        value: as key.
        attention_mask: unused, the sample lengths say it all.
        scaling: factor of the logits, default 1/sqrt(head size).
        dropout: dropout rate of the attention weights.
        kwargs: `sample_lengths`, tokens of each sample, summing to T.

    Returns:
        (1, T, heads, head size) and None for the weights.
    """
    grouped = query.shape[1] != key.shape[1]
    outputs, start = [], 0
    for length in kwargs["sample_lengths"]:
        part = slice(start, start + length)
        outputs.append(
            scaled_dot_product_attention(
                query[:, :, part],
                key[:, :, part],
                value[:, :, part],
                dropout_p=dropout,
                is_causal=True,
                scale=scaling,
                enable_gqa=grouped,
            )
        )
        start += length
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """Packed rows need no mask: the lengths are the mask."""


AttentionInterface.register(BLOCKS, blocks_attention)
AttentionMaskInterface.register(BLOCKS, _no_mask)


def choose(layout: str, device: torch.device, dtype: torch.dtype) -> str:
    """The attention implementation of a run: flash-attn where it imports and the GPU and the type can, else SDPA."""
    if (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and importlib.util.find_spec("flash_attn")
        and torch.cuda.get_device_capability(device) >= (8, 0)
    ):
        return "flash_attention_2"
    return BLOCKS if layout == "packed" else "sdpa"


def arguments(implementation: str, lengths: tuple[int, ...], packed: bool, device: torch.device) -> dict[str, Any]:
    """What a forward pass must be told about a packed row, in the words of the implementation."""
    if not packed:
        return {}
    if implementation == BLOCKS:
        return {"sample_lengths": lengths}
    ends = torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)
    longest = max(lengths)
    return {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends, "max_length_q": longest, "max_length_k": longest}
