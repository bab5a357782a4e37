"""A tiny base model of Qwen2's architecture, pretrained on the spot on the train rows of a data artifact.

It stands in for a published base where there is none: it has its own byte-level BPE tokenizer with ChatML's tokens, and
has read the corpus as plain text, so that fine-tuning meets words and facts that it knows in a form that it does not.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from medtrain import artifacts
from medtrain.artifacts import Artifact, Identity, Policy
from medtrain.config import Config, identity, knob
from medtrain.demo import pretrain, rawtext
from medtrain.demo.rawtext import Corpus
from medtrain.errors import DataError, IdentityMismatch
from medtrain.storage import Store
from medtrain.tokens.template import END_OF_TEXT, IM_END


class DemoBaseConfig(Config):
    """The size of the model and of its pretraining: about a minute on two cores."""

    vocabulary: int = Field(default=1536, ge=300)
    """Tokens of the tokenizer; the corpus may give fewer."""
    hidden: int = Field(default=128, multiple_of=64)
    """Width; 4-bit blocks hold 64 weights, and a head is 64 wide."""
    intermediate: int = Field(default=384, multiple_of=64)
    """Width of the feed-forward layers."""
    layers: int = Field(default=3, ge=1)
    """Decoder layers."""
    initial_spread: float = Field(default=0.06, gt=0)
    """Standard deviation of the first weights; at 0.02, right for wide models, 100 steps teach nothing."""
    positions: int = 4096
    """The longest text it can be given, in tokens; it was pretrained on short blocks."""
    budget: pretrain.Budget = pretrain.Budget()
    """How long it is pretrained."""
    threads: int = knob(2, ge=1)
    """PyTorch threads."""


def ensure(root: Store, data: str, config: DemoBaseConfig | None = None) -> str:
    """The model reference `artifact:bases/<data>`, made now unless it is there for this very data.

    A base is a cache: one made from other data or settings is replaced, one left unfinished is begun again.

    Raises:
        MissingArtifact: there is no data artifact of this name.
        DataError: it has no train rows that can be learned from.
    """
    config = config or DemoBaseConfig()
    source = artifacts.locate(root, "data", data)
    code = artifacts.code_hash(artifacts.room_code(*(f"demo/{name}.py" for name in ("base", "pretrain", "rawtext"))))
    made_from = Identity(identity(config), {f"data/{data}": source.fingerprint}, code)
    try:
        begun = artifacts.begin(root, "bases", data, made_from, Policy())
    except IdentityMismatch:
        print(f"bases/{data}: made from other data or settings, so it is made again", flush=True)
        begun = artifacts.begin(root, "bases", data, made_from, Policy(again=True))
    if not isinstance(begun, Artifact):
        corpus = rawtext.select(rawtext.records_of(source))
        if not corpus.texts:
            raise DataError(f"data/{data}: no train row is left to pretrain on; hold out fewer rows")
        begun.finish(_make(begun.store, corpus, config))
    return f"artifact:bases/{data}"


def _make(store: Store, corpus: Corpus, config: DemoBaseConfig) -> dict[str, Any]:
    """Pretrain, write the model's files, and give the facts of the manifest."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        tokenizer = pretrain.tokenizer(corpus.texts, config.vocabulary)
        model = fresh(tokenizer, config)
        losses = pretrain.train(model, tokenizer, corpus.texts, config.budget)
    finally:
        torch.set_num_threads(before)
    save(model, tokenizer, store)
    return {
        "rows": len(corpus.texts),
        "left_out": corpus.left_out,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": config.budget.steps * config.budget.rows * config.budget.block_tokens,
        "first_loss": losses[0],
        "last_loss": sum(losses[-20:]) / len(losses[-20:]),
    }


def fresh(tokenizer: PreTrainedTokenizerFast, config: DemoBaseConfig) -> Qwen2ForCausalLM:
    """The model before its first step, drawn from the budget's seed; its head is tied to the embedding."""
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in pretrain.SPECIAL}
    end, pad = ids[END_OF_TEXT], ids[pretrain.PAD]
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
