"""BioQwen's adapter on the three real base shapes: every linear layer but the head, no weight loaded."""

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from medtrain.config import parse
from medtrain.train import adapters
from medtrain.train.stage import StageConfig

SHAPES = {
    "Qwen2-0.5B": (896, 24, 4864, 14, 2, True),
    "Qwen2.5-1.5B": (1536, 28, 8960, 12, 2, True),
    "Qwen1.5-1.8B": (2048, 24, 5504, 16, 16, False),
}
"""Hidden size, layers, intermediate size, heads, KV heads, tied head of the published configs."""


def shape(name: str) -> Qwen2Config:
    """The published shape of a base."""
    hidden, layers, intermediate, heads, kv_heads, tied = SHAPES[name]
    return Qwen2Config(
        vocab_size=151936,
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=intermediate,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        tie_word_embeddings=tied,
    )


@pytest.mark.parametrize(
    ("name", "trainable", "whole"),
    [
        ("Qwen2-0.5B", 35_192_832, None),
        ("Qwen2.5-1.5B", 73_859_072, None),
        # The one whole count that the released notebook shows: base and adapter together.
        ("Qwen1.5-1.8B", 59_965_440, 1_896_794_112),
    ],
)
def test_trainable_parameters_are_the_papers(name: str, trainable: int, whole: int | None) -> None:
    config = parse(StageConfig, {"name": "x", "tokens": "t", "stage": 1, "recipe": "bioqwen"})
    with torch.device("meta"):
        model = adapters.attach(AutoModelForCausalLM.from_config(shape(name)), config.adapter, config.seed)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trainable
    assert not any("lm_head" in name and p.requires_grad for name, p in model.named_parameters())
    if whole is not None:
        assert sum(p.numel() for p in model.parameters()) == whole
