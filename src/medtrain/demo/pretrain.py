"""The pretraining of the demo's base in plain PyTorch: a tokenizer, a stream of tokens, next-token loss."""

import random
from collections.abc import Iterator, Sequence

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from medtrain.demo.base import Budget
from medtrain.tokens.recipe import SYSTEM_PROMPTS
from medtrain.tokens.template import END_OF_TEXT, IM_END, IM_START
from medtrain.tokens.words import wording
from medtrain.tracking import Progress

PAD = "<|padoftext|>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END, PAD)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer."""
FRAME_WEIGHT = 20
"""How often the frame counts beside the corpus: a part of it stands in every sample, so it should be few tokens."""
FRAME_TASKS = ("labels", "ner", "relations")
"""Whose phrasings belong to the frame; those of tasks that no demo has would take tokens away from the corpus."""


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
    trained.train_from_iterator([*texts, *frame() * FRAME_WEIGHT], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=trained,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=[IM_START, IM_END],
        clean_up_tokenization_spaces=False,
    )


def frame() -> list[str]:
    """What stands around the corpus in a sample: system prompts and the phrasings of instructions."""
    prompts = [f"system\n{prompt}user\nassistant\n" for prompt in SYSTEM_PROMPTS.values()]
    banks = [wording(task).INSTRUCTIONS for task in FRAME_TASKS]
    return prompts + [phrasing for bank in banks for phrasings in bank.values() for phrasing in phrasings]


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


def block_loss(model: Qwen2ForCausalLM, batch: torch.Tensor, end: int) -> torch.Tensor:
    """The mean next-token loss of a batch (B, T) in which every text sees itself alone, counted from position 0.

    A million weights find out in a minute that a name comes back only where all that they see is the same text.
    """
    ends = (batch == end).long()
    text = ends.cumsum(1) - ends  # (B, T): which text of its block a token belongs to
    count = torch.arange(batch.shape[1]).expand_as(batch)
    begins = torch.nn.functional.pad(ends[:, :-1], (1, 0)) * count  # (B, T): the place of a first token, else 0
    seen = (text[:, :, None] == text[:, None, :]).tril()[:, None]  # (B, 1, T, T)
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    logits = model(input_ids=batch, attention_mask=mask, position_ids=count - begins.cummax(1).values).logits
    wanted = batch[:, 1:].masked_fill(ends[:, :-1] == 1, -100)  # nothing foretells the next text's first token
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), wanted.flatten(), ignore_index=-100)


def train(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], budget: Budget
) -> list[float]:
    """Train the model in place and give the loss of every step."""
    ids: list[list[int]] = tokenizer(list(texts)).input_ids
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    batches = blocks(ids, end, budget)
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
        loss = block_loss(model, batch, end)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(float(loss.detach()))
        progress.advance(note=f"loss {losses[-1]:.3f}")
    model.eval()
    return losses
