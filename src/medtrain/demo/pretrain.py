"""The pretraining of the demo's base in plain PyTorch: a tokenizer, a stream of tokens, next-token loss."""

import random
from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from medtrain.config import Config
from medtrain.tokens.recipe import SYSTEM_PROMPTS
from medtrain.tokens.template import END_OF_TEXT, IM_END, IM_START
from medtrain.tracking import Progress

PAD = "<|padoftext|>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END, PAD)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer."""
FRAME_WEIGHT = 50
"""How often the system prompts count beside the corpus: they stand in every sample, so they should be few tokens."""


class Budget(Config):
    """How long the base is pretrained: steps and not seconds, so that the same data give the same base."""

    steps: int = Field(default=300, ge=1)
    """Optimizer steps."""
    rows: int = Field(default=16, ge=1)
    """Blocks in a step."""
    block_tokens: int = Field(default=128, ge=8)
    """Tokens in a block; texts run on from block to block, with an end token between them."""
    text_tokens: int = Field(default=512, ge=8)
    """Only so many tokens of an over-long text."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Peak of AdamW's rate; a tenth of the steps it rises, then it falls to 0 along half a cosine."""
    seed: int = 0
    """Draws the weights and the order of the texts."""


def tokenizer(texts: Sequence[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on the texts, with ChatML's tokens and a padding token of its own."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trained.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    frame = [f"system\n{prompt}user\nassistant\n" for prompt in SYSTEM_PROMPTS.values()]
    trained.train_from_iterator([*texts, *frame * FRAME_WEIGHT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=trained,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=[IM_START, IM_END],
        clean_up_tokenization_spaces=False,
    )


def blocks(texts: Sequence[list[int]], end: int, budget: Budget) -> Iterator[torch.Tensor]:
    """Batches (rows, block_tokens) without end: every epoch all texts in a new order, drawn from the seed."""
    rng = random.Random(budget.seed)
    order = list(range(len(texts)))
    need = budget.rows * budget.block_tokens
    stream: list[int] = []
    while True:
        rng.shuffle(order)
        for index in order:
            stream += [*texts[index][: budget.text_tokens], end]
            while len(stream) >= need:
                yield torch.tensor(stream[:need]).view(budget.rows, budget.block_tokens)
                del stream[:need]


def train(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], budget: Budget
) -> list[float]:
    """Train the model in place and give the loss of every step."""
    ids: list[list[int]] = tokenizer(list(texts)).input_ids
    batches = blocks(ids, tokenizer.convert_tokens_to_ids(END_OF_TEXT), budget)
    optimizer = torch.optim.AdamW(model.parameters(), lr=budget.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    warmup = max(1, budget.steps // 10)
    rise = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warmup, total_iters=warmup)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, budget.steps - warmup))
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [warmup])
    progress = Progress("pretrain demo base", budget.steps, unit="step")
    losses = []
    model.train()
    for _ in range(budget.steps):
        batch = next(batches)
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
        progress.advance(note=f"loss {losses[-1]:.3f}")
    model.eval()
    return losses
