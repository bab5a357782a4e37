"""Block-exact attention against an explicit block-diagonal causal mask."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from transformers import Qwen2Config, Qwen2ForCausalLM, masking_utils

from medtrain.errors import TrainingError
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


def naive_kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **told: Any) -> torch.Tensor:
    """flash-attn's contract by loops: (T, heads, head size) in and out, samples between cumulative ends, causal."""
    assert told["cu_seqlens_q"] is told["cu_seqlens_k"] and told["cu_seqlens_q"].dtype == torch.int32
    assert told["causal"] and told["deterministic"] is False and told["dropout_p"] == 0.0
    ends, rows = told["cu_seqlens_q"].tolist(), []
    assert told["max_seqlen_q"] == told["max_seqlen_k"] == max(b - a for a, b in pairwise(ends))
    for first, end in pairwise(ends):
        for at in range(first, end):
            per_head = []
            for head in range(query.shape[1]):
                of = head * key.shape[1] // query.shape[1]
                scores = key[first : at + 1, of] @ query[at, head] * told["softmax_scale"]
                per_head.append(scores.softmax(0) @ value[first : at + 1, of])
            rows.append(torch.stack(per_head))
    return torch.stack(rows)


def test_the_kernel_for_several_lengths_gets_what_the_blocks_get(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "flash_attention", lambda: naive_kernel)
    lengths, parts = (3, 1, 4), (heads(4, 8, 0), heads(2, 8, 1), heads(2, 8, 2))
    told = attention.arguments(attention.VARLEN, lengths, CPU)
    found, none = attention.varlen_attention(torch.nn.Module(), *parts, None, scaling=0.2, **told)
    wanted, _ = attention.blocks_attention(torch.nn.Module(), *parts, None, scaling=0.2, sample_lengths=lengths)
    assert none is None and found.shape == (1, 8, 4, 8)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("layout", "name"), [("packed", attention.BLOCKS), ("padded", attention.PADDED), (None, "sdpa")]
)
def test_without_flash_attention_the_layout_decides(layout: str | None, name: str) -> None:
    assert attention.choose(layout, CPU, torch.float32) == name


def test_a_gpu_uses_flash_attention_for_packed_rows_where_both_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    for there, capability, dtype, wanted in (
        (True, (8, 0), torch.bfloat16, attention.VARLEN),
        (True, (8, 0), torch.float32, attention.BLOCKS),
        (True, (7, 5), torch.bfloat16, attention.BLOCKS),
        (False, (9, 0), torch.bfloat16, attention.BLOCKS),
    ):
        monkeypatch.setattr(attention, "flash_attention", lambda there=there: naive_kernel if there else None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, c=capability: c)
        assert attention.choose("packed", cuda, dtype) == wanted
        assert attention.choose("padded", cuda, dtype) == attention.PADDED


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def flash_attn_varlen_func(): ...", ""),
        ("raise ImportError('undefined symbol')", "cannot be loaded, so PyTorch's attention is used: undefined symbol"),
        (None, ""),
    ],
)
def test_a_flash_attention_that_cannot_be_loaded_is_said_and_not_used(
    source: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if source is not None:
        (tmp_path / "flash_attn.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    found = attention.flash_attention.__wrapped__()
    assert (found is None) == (said != "" or source is None)
    assert said in capsys.readouterr().out
    sys.modules.pop("flash_attn", None)


def test_each_implementation_is_told_the_sample_lengths_in_its_own_words() -> None:
    assert attention.arguments(attention.BLOCKS, (3, 4), CPU) == {"sample_lengths": (3, 4)}
    told = attention.arguments(attention.VARLEN, (3, 4, 2), CPU)
    assert told["sample_ends"].tolist() == [0, 3, 7, 9] and told["sample_ends"].dtype == torch.int32
    assert told["longest_sample"] == 4
    assert attention.arguments(attention.PADDED, (3, 4), CPU) == {}


SHAPE = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
ROW = {"input_ids": torch.ones(1, 5, dtype=torch.int64), "position_ids": torch.arange(5)[None], "use_cache": False}


def test_transformers_makes_no_mask_and_looks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def searched(position_ids: torch.Tensor) -> None:
        raise AssertionError("looks for packed samples, and so waits for the device")

    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", searched)
    model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_hidden_layers=1, num_key_value_heads=1))
    model.set_attn_implementation(attention.BLOCKS)
    model.model(**ROW, sample_lengths=(5,))
    model.set_attn_implementation(attention.PADDED)
    model.model(**ROW)
    model.set_attn_implementation("sdpa")
    with pytest.raises(AssertionError, match="packed samples"):
        model.model(**ROW)


def test_a_token_behind_padding_sees_what_is_real_before_it_and_padding_itself() -> None:
    real = torch.tensor([[True, True, True], [False, False, True], [False, True, True]])
    seen = attention.behind_padding(real)
    assert seen.shape == (3, 1, 3, 3) and seen.dtype == torch.bool
    assert seen[:, 0].int().tolist() == [
        [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 1, 1]],
    ]


@pytest.mark.parametrize("name", [attention.BLOCKS, attention.VARLEN, attention.PADDED])
def test_a_sample_longer_than_a_layer_sees_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "flash_attention", lambda: naive_kernel)
    for window in (5, 4):
        sliding = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 1}
        model = Qwen2ForCausalLM(Qwen2Config(**SHAPE, num_hidden_layers=2, num_key_value_heads=1, **sliding))
        model.set_attn_implementation(name)
        told = attention.arguments(name, (5,), CPU)
        if window < 5:
            with pytest.raises(TrainingError, match="sliding_window=4 tokens and a sample has 5"):
                model.model(**ROW, **told)
        else:
            assert model.model(**ROW, **told).last_hidden_state.isfinite().all()
