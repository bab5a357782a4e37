"""The demo base's shape: Qwen2's architecture, before its first step and as a Hugging Face folder."""

import tempfile
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from medtrain.demo.base import DemoBaseConfig
from medtrain.demo.pretrain import PAD, SPECIAL
from medtrain.storage import Store
from medtrain.tokens.template import END_OF_TEXT, IM_END


def fresh(tokenizer: PreTrainedTokenizerFast, config: DemoBaseConfig) -> Qwen2ForCausalLM:
    """The model before its first step, drawn from the budget's seed; its head is tied to the embedding."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    end, pad = ids[END_OF_TEXT], ids[PAD]
    shape = Qwen2Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=config.hidden,
        intermediate_size=config.intermediate,
        num_hidden_layers=config.layers,
        num_attention_heads=config.hidden // 64,
        num_key_value_heads=config.hidden // 64,
        max_position_embeddings=config.positions,
        initializer_range=config.initial_spread,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=pad,
    )
    torch.manual_seed(config.budget.seed)
    model = Qwen2ForCausalLM(shape)
    stops = [ids[IM_END], end]
    model.generation_config = GenerationConfig(eos_token_id=stops, pad_token_id=pad, bos_token_id=end, do_sample=False)
    return model


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, store: Store) -> None:
    """Write a Hugging Face model folder, weights as safetensors, into a store."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for file in sorted(Path(folder).iterdir()):
            store.write(file.name, file.read_bytes())
