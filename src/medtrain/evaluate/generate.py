"""Batched generation: prompts as token ids in, answers as text out; no Ray, no files.

Prompts are padded on the left here, with the padding token and a mask, so the tokenizer's own settings are never
touched.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig as HuggingFaceConfig

from medtrain.config import fingerprint
from medtrain.errors import ConfigError
from medtrain.evaluate.cases import Reply
from medtrain.evaluate.systems import GenerationConfig

STOPS = ("<|im_end|>", "<|endoftext|>")


def plan_batches(lengths: Sequence[int], batch_rows: int) -> list[list[int]]:
    """Row numbers in batches of similar length, longest first, so that padding is little and memory fails early."""
    order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    return [order[start : start + batch_rows] for start in range(0, len(order), batch_rows)]


def pad_left(prompts: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, both (rows, longest prompt), with the padding before each prompt."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad, dtype=torch.long)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def until_stop(tokens: Sequence[int], stops: frozenset[int]) -> tuple[list[int], bool]:
    """The tokens before the first stop, and whether there was none."""
    for place, token in enumerate(tokens):
        if token in stops:
            return list(tokens[:place]), False
    return list(tokens), True


def token_id(tokenizer: Any, token: str) -> int:
    """The id of a special token, found by its text.

    Raises:
        ConfigError: the tokenizer does not know the token.
    """
    found = tokenizer.get_vocab().get(token)  # convert_tokens_to_ids gives the unknown token, a stop in Qwen
    if found is None:
        raise ConfigError(
            f"tokenizer {type(tokenizer).__name__}: has no token {token}, which ends answers; "
            "use a base with ChatML tokens"
        )
    return int(found)


def generate(model: Any, tokenizer: Any, prompts: Sequence[Sequence[int]], config: GenerationConfig) -> list[Reply]:
    """A reply to each prompt (token ids), in the order of the prompts.

    A prompt that leaves no room for `max_new_tokens` in the model's positions gets an empty reply that says so.

    Raises:
        ConfigError: the tokenizer lacks a ChatML token.
    """
    stops = frozenset(token_id(tokenizer, stop) for stop in STOPS)
    pad = max(stops) if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)
    room = positions_of(model) - config.max_new_tokens
    fitting = [row for row, prompt in enumerate(prompts) if len(prompt) <= room]
    replies = [Reply("", 0, False, f"{len(prompt)} prompt tokens, at most {room} fit") for prompt in prompts]
    with own_settings(model), torch.inference_mode():
        for batch in plan_batches([len(prompts[row]) for row in fitting], config.batch_rows):
            rows = [fitting[place] for place in batch]
            for row, tokens in zip(
                rows, _continue(model, [prompts[row] for row in rows], config, pad, stops), strict=True
            ):
                kept, hit_limit = until_stop(tokens, stops)
                replies[row] = Reply(tokenizer.decode(kept, skip_special_tokens=True), len(kept), hit_limit)
    return replies


def positions_of(model: Any) -> int:
    """How many tokens the model has positions for."""
    return int(getattr(model.config, "max_position_embeddings", None) or sys.maxsize)


def _continue(
    model: Any, rows: Sequence[Sequence[int]], config: GenerationConfig, pad: int, stops: frozenset[int]
) -> list[list[int]]:
    """The tokens that the model writes after each prompt of one batch, stops and padding still on them."""
    ids, mask = (tensor.to(model.device) for tensor in pad_left(rows, pad))
    with drawn_from(config, rows):
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings_of(config, pad, stops))
    tokens: list[list[int]] = out[:, ids.shape[1] :].tolist()
    return tokens


def settings_of(config: GenerationConfig, pad: int, stops: frozenset[int]) -> HuggingFaceConfig:
    """transformers' settings for a config; every number of ours is given, nothing is left to a default."""
    drawn = {"temperature": config.temperature, "top_p": config.top_p, "top_k": 0} if config.temperature > 0 else {}
    return HuggingFaceConfig(
        max_new_tokens=config.max_new_tokens,
        do_sample=config.temperature > 0,
        num_beams=1,
        repetition_penalty=1.0,
        pad_token_id=pad,
        eos_token_id=sorted(stops),
        **drawn,
    )


@contextmanager
def own_settings(model: Any) -> Iterator[None]:
    """Evaluation mode and blank generation settings, both put back at the end.

    transformers fills every setting that is not given from the model's `generation_config`, and chat models ship
    sampling temperatures and repetition penalties there.
    """
    training, shipped = model.training, model.generation_config
    model.eval()
    model.generation_config = HuggingFaceConfig()
    try:
        yield
    finally:
        model.generation_config = shipped
        model.train(training)


@contextmanager
def drawn_from(config: GenerationConfig, rows: Sequence[Sequence[int]]) -> Iterator[None]:
    """A random state of this batch's own while sampling, so that an answer does not depend on what ran before."""
    if config.temperature == 0:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(int(fingerprint([config.seed, [list(row) for row in rows]]), 16) % 2**63)
        yield
