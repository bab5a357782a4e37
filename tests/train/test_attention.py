"""Block-exact attention against an explicit block-diagonal causal mask."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from medtrain.train import attention

CPU = torch.device("cpu")


def heads(count: int, tokens: int, seed: int) -> torch.Tensor:
    """(1, count, tokens, 8) random numbers that want a gradient."""
    return torch.randn(1, count, tokens, 8, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def masked(lengths: list[int], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention over the whole row under a block-diagonal causal mask."""
    allowed = torch.block_diag(*[torch.ones(n, n) for n in lengths]).tril().bool()
    grouped = query.shape[1] != key.shape[1]
    found = scaled_dot_product_attention(query, key, value, attn_mask=allowed, enable_gqa=grouped)
    return found.transpose(1, 2)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), kv_heads=st.sampled_from([1, 2, 4]))
def test_blocks_equal_the_mask_in_output_and_gradients(lengths: list[int], kv_heads: int) -> None:
    tokens = sum(lengths)
    parts = heads(4, tokens, 0), heads(kv_heads, tokens, 1), heads(kv_heads, tokens, 2)
    ours, none = attention.blocks_attention(torch.nn.Module(), *parts, None, sample_lengths=tuple(lengths))
    theirs = masked(lengths, *parts)
    assert none is None and ours.shape == (1, tokens, 4, 8) and ours.is_contiguous()
    torch.testing.assert_close(ours, theirs)
    weights = torch.randn_like(theirs)
    for mine, reference in zip(
        torch.autograd.grad((ours * weights).sum(), parts),
        torch.autograd.grad((theirs * weights).sum(), parts),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference)


def test_the_scale_is_the_models() -> None:
    parts = heads(2, 5, 0), heads(2, 5, 1), heads(2, 5, 2)
    ours, _ = attention.blocks_attention(torch.nn.Module(), *parts, None, scaling=0.1, sample_lengths=(5,))
    theirs = scaled_dot_product_attention(*parts, is_causal=True, scale=0.1).transpose(1, 2)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("layout", "name"), [("packed", attention.BLOCKS), ("padded", "sdpa")])
def test_without_flash_attention_the_layout_decides(layout: str, name: str) -> None:
    assert attention.choose(layout, CPU, torch.float32) == name


def test_a_gpu_uses_flash_attention_where_both_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    for there, capability, dtype, wanted in (
        (True, (8, 0), torch.bfloat16, "flash_attention_2"),
        (True, (8, 0), torch.float32, "sdpa"),
        (True, (7, 5), torch.bfloat16, "sdpa"),
        (False, (9, 0), torch.bfloat16, "sdpa"),
    ):
        spec = SimpleNamespace() if there else None
        monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name, spec=spec: spec)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert attention.choose("padded", cuda, dtype) == wanted


def test_each_implementation_is_told_the_sample_lengths_in_its_own_words() -> None:
    assert attention.arguments(attention.BLOCKS, (3, 4), True, CPU) == {"sample_lengths": (3, 4)}
    told = attention.arguments("flash_attention_2", (3, 4, 2), True, CPU)
    assert told["cu_seq_lens_q"].tolist() == told["cu_seq_lens_k"].tolist() == [0, 3, 7, 9]
    assert told["cu_seq_lens_q"].dtype == torch.int32
    assert told["max_length_q"] == told["max_length_k"] == 4
    assert attention.arguments("sdpa", (3, 4), False, CPU) == {}
