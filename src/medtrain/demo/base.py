"""A tiny base model of Qwen2's architecture, pretrained on the spot on the train rows of a data artifact.

It stands in for a published base where there is none: it has its own byte-level BPE tokenizer with ChatML's tokens, and
has read the corpus as plain text, so that fine-tuning meets words and facts that it knows in a form that it does not.
"""

from typing import Any

from pydantic import Field

from medtrain import artifacts
from medtrain.artifacts import Artifact, Identity, Policy
from medtrain.config import Config, identity, knob
from medtrain.demo import rawtext
from medtrain.demo.rawtext import Corpus
from medtrain.errors import DataError
from medtrain.storage import Store


class Budget(Config):
    """How long the base is pretrained: steps and not seconds, so that the same data give the same base."""

    steps: int = Field(default=600, ge=1)
    """Optimizer steps."""
    rows: int = Field(default=8, ge=1)
    """Blocks in a step."""
    block_tokens: int = Field(default=128, ge=8)
    """Tokens in a block: texts one after the other, each with an end token; they do not see each other."""
    text_tokens: int = Field(default=512, ge=8)
    """Only so many tokens of an over-long text."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak of AdamW's rate; a tenth of the steps it rises, then it falls to 0 along half a cosine."""
    seed: int = 0
    """Draws the weights and the order of the texts."""


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
    budget: Budget = Budget()
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
    code = artifacts.code_hash(
        artifacts.room_code(*(f"demo/{name}.py" for name in ("base", "model", "pretrain", "rawtext")))
    )
    made_from = Identity(identity(config), {f"data/{data}": source.fingerprint}, code)
    begun = artifacts.begin_cache(root, "bases", data, made_from, Policy())
    if not isinstance(begun, Artifact):
        for note in begun.notes:
            print(note, flush=True)
        corpus = rawtext.select(rawtext.records_of(source))
        if not corpus.texts:
            raise DataError(f"data/{data}: no train row is left to pretrain on; hold out fewer rows")
        begun.finish(_make(begun.store, corpus, config))
    return f"artifact:bases/{data}"


def _make(store: Store, corpus: Corpus, config: DemoBaseConfig) -> dict[str, Any]:
    """Pretrain, write the model's files, and give the facts of the manifest."""
    import torch

    from medtrain.demo import model as shape
    from medtrain.demo import pretrain

    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        tokenizer = pretrain.tokenizer(corpus.texts, config.vocabulary)
        model = shape.fresh(tokenizer, config)
        losses = pretrain.train(model, tokenizer, corpus.texts, config.budget)
    finally:
        torch.set_num_threads(before)
    shape.save(model, tokenizer, store)
    return {
        "rows": len(corpus.texts),
        "left_out": corpus.left_out,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": config.budget.steps * config.budget.rows * config.budget.block_tokens,
        "first_loss": losses[0],
        "last_loss": sum(losses[-20:]) / len(losses[-20:]),
    }
