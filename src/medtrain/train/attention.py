"""Attention in training: each packed sample attends to itself only, and no off-diagonal block is ever computed.

No implementation is registered with a mask, so that Transformers makes none: its look at the padding and its search for
packed samples would wait for the device in every forward pass.
"""

import functools
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from medtrain.errors import TrainingError

BLOCKS, VARLEN, PADDED = "medtrain_blocks", "medtrain_varlen", "medtrain_padded"


@functools.cache
def flash_attention() -> Callable[..., torch.Tensor] | None:
    """flash-attn's kernel for rows of several lengths; None where there is none that this PyTorch can load."""
    try:
        from flash_attn import flash_attn_varlen_func
    except ModuleNotFoundError:
        return None
    except (ImportError, OSError) as error:
        print(f"flash-attn is there and cannot be loaded, so PyTorch's attention is used: {error}", flush=True)
        return None
    kernel: Callable[..., torch.Tensor] = flash_attn_varlen_func
    return kernel


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
    grouped, lengths = query.shape[1] != key.shape[1], kwargs["sample_lengths"]
    _sees_all(max(lengths), **kwargs)
    samples = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    outputs = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in samples
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The same in one call of flash-attn's kernel (Dao 2023), in half precision on a GPU.

    Args and returns as `blocks_attention`, but for `sample_ends`, (S + 1,) int32 from 0, and `longest_sample`, tokens.
    """
    kernel = flash_attention()
    assert kernel is not None, "chosen only where it is"
    ends, longest = kwargs["sample_ends"], kwargs["longest_sample"]
    _sees_all(longest, **kwargs)
    found = kernel(
        *(tensor[0].transpose(0, 1) for tensor in (query, key, value)),  # (T, heads, head size)
        cu_seqlens_q=ends,
        cu_seqlens_k=ends,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        dropout_p=dropout,
        softmax_scale=scaling,
        causal=True,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return found[None], None


def padded_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention row by row: padding behind a sample needs no mask, since nothing real sees it.

    Args and returns as `blocks_attention`, for (B, heads, T, head size), but for `attention_mask`, (B, 1, T, T) bool,
    true where a query sees a key; None for all that stands before it.
    """
    _sees_all(query.shape[2], **kwargs)
    found: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return found


def _sees_all(longest: int, sliding_window: int | None = None, softcap: float | None = None, **_: Any) -> None:
    """Refuse a layer that caps its weights' logits, and a sample that a layer would not see whole."""
    if softcap is not None:
        raise TrainingError(f"model.base: its attention has softcap={softcap}, which is not trained; take another base")
    if sliding_window is not None and longest > sliding_window:
        raise TrainingError(
            f"model.base: a layer sees sliding_window={sliding_window} tokens and a sample has {longest}; sliding "
            f"windows are not trained: build tokens with context_tokens={sliding_window}, or take another base"
        )


AttentionInterface.register(BLOCKS, blocks_attention)
AttentionInterface.register(VARLEN, varlen_attention)
AttentionInterface.register(PADDED, padded_attention)


def choose(layout: str | None, device: torch.device, dtype: torch.dtype) -> str:
    """The attention implementation of a run: for packed rows flash-attn where the GPU and the type can, else blocks.

    Padded rows have SDPA: flash-attn would look for their ends, and so wait for the device, in every layer.
    """
    if layout != "packed":
        return "sdpa" if layout is None else PADDED
    can = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    if can and torch.cuda.get_device_capability(device) >= (8, 0) and flash_attention() is not None:
        return VARLEN
    return BLOCKS


def arguments(implementation: str, lengths: tuple[int, ...], device: torch.device) -> dict[str, Any]:
    """What a forward pass must be told about the samples, in the words of the implementation."""
    if implementation == BLOCKS:
        return {"sample_lengths": lengths}
    if implementation == VARLEN:
        ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        there = ends.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else ends
        return {"sample_ends": there, "longest_sample": max(lengths)}
    return {}


def behind_padding(real: torch.Tensor) -> torch.Tensor:
    """What each token may see where padding stands before it: (B, 1, T, T) bool, rows are queries.

    Padding sees itself, so that its rows, which nobody reads, are numbers.

    Args:
        real: (B, T) bool, true on real tokens.
    """
    square = torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=real.device)
    seen = real[:, None, None, :] & square.tril()
    return seen | torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
