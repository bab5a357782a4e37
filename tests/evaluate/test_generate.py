"""Batched generation against one prompt at a time and an argmax loop written here."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, models
from transformers import GenerationConfig as HuggingFaceConfig
from transformers import PreTrainedTokenizerFast

from medtrain.errors import ConfigError
from medtrain.evaluate.generate import generate, pad_left, plan_batches, token_id, until_stop
from medtrain.evaluate.systems import GenerationConfig

TEXTS = ["fever", "a much longer question about the dose of aspirin", "咳嗽", "x", "why does it hurt"]
SHORT = GenerationConfig(max_new_tokens=12, batch_rows=2)


@pytest.fixture
def prompts(tokenizer: Any) -> list[list[int]]:
    return [tokenizer.encode(text) for text in TEXTS]


def argmax_loop(model: Any, prompt: list[int], steps: int, stops: set[int]) -> list[int]:
    """Greedy decoding by its definition: no cache, no batch, no padding."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(steps):
            best = int(model(torch.tensor([ids])).logits[0, -1].argmax())
            if best in stops:
                break
            ids.append(best)
    return ids[len(prompt) :]


def test_batches_hold_every_row_once_longest_first() -> None:
    batches = plan_batches([3, 9, 3, 7, 1], 2)
    assert batches == [[1, 3], [0, 2], [4]]
    assert plan_batches([], 4) == []


def test_padding_is_before_the_prompt() -> None:
    ids, mask = pad_left([[5, 6], [7]], pad=0)
    assert ids.tolist() == [[5, 6], [0, 7]]
    assert mask.tolist() == [[1, 1], [0, 1]]


def test_an_answer_ends_before_the_first_stop() -> None:
    assert until_stop([4, 2, 5], frozenset({2, 3})) == ([4], False)
    assert until_stop([4, 5], frozenset({2})) == ([4, 5], True)


def test_batched_answers_equal_the_argmax_of_each_prompt_alone(model: Any, tokenizer: Any, prompts: Any) -> None:
    stops = {tokenizer.convert_tokens_to_ids(t) for t in ("<|im_end|>", "<|endoftext|>")}
    expected = [argmax_loop(model, prompt, 12, stops) for prompt in prompts]
    replies = generate(model, tokenizer, prompts, SHORT)
    assert [reply.text for reply in replies] == [tokenizer.decode(tokens) for tokens in expected]
    assert [reply.hit_limit for reply in replies] == [len(tokens) == 12 for tokens in expected]
    assert len({reply.text for reply in replies}) > 1


def test_order_and_batch_size_do_not_matter(model: Any, tokenizer: Any, prompts: Any) -> None:
    forward = generate(model, tokenizer, prompts, SHORT)
    backward = generate(model, tokenizer, prompts[::-1], SHORT.model_copy(update={"batch_rows": 5}))
    assert forward == backward[::-1]


def test_generation_stops_by_token(model: Any, tokenizer: Any, prompts: Any) -> None:
    """A head that always says <|im_end|> gives empty answers that are no length hits."""
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    bias = torch.full((len(tokenizer),), -100.0)
    bias[stop] = 100.0
    handle = model.lm_head.register_forward_hook(lambda module, inputs, output: output * 0 + bias)
    try:
        replies = generate(model, tokenizer, prompts, SHORT)
    finally:
        handle.remove()
    assert [(reply.text, reply.tokens, reply.hit_limit) for reply in replies] == [("", 0, False)] * len(TEXTS)


def test_the_models_own_generation_settings_are_not_used_and_are_put_back(
    model: Any, tokenizer: Any, prompts: Any
) -> None:
    plain = generate(model, tokenizer, prompts, SHORT)
    before = model.generation_config
    shipped = HuggingFaceConfig(do_sample=True, temperature=5.0, repetition_penalty=3.0, min_new_tokens=12)
    model.generation_config = shipped
    model.train()
    try:
        assert generate(model, tokenizer, prompts, SHORT) == plain
        assert model.generation_config is shipped and model.training
    finally:
        model.generation_config = before
        model.eval()


def test_sampling_depends_on_the_seed_and_on_nothing_before(model: Any, tokenizer: Any, prompts: Any) -> None:
    hot = SHORT.model_copy(update={"temperature": 2.0, "top_p": 0.9})
    first = generate(model, tokenizer, prompts, hot)
    torch.rand(7)
    assert generate(model, tokenizer, prompts, hot) == first
    assert generate(model, tokenizer, prompts, hot.model_copy(update={"seed": 1})) != first
    assert generate(model, tokenizer, prompts, SHORT) != first


def test_a_prompt_without_room_is_refused_alone(model: Any, tokenizer: Any, prompts: Any) -> None:
    long = [5] * 1020
    replies = generate(model, tokenizer, [prompts[0], long], SHORT)
    assert replies[0] == generate(model, tokenizer, prompts[:1], SHORT)[0]
    assert "1020 prompt tokens, at most 1012 fit" in replies[1].refused
    assert generate(model, tokenizer, [], SHORT) == []


def test_a_tokenizer_without_chatml_is_refused(model: Any) -> None:
    core = Tokenizer(models.BPE(vocab={"<|endoftext|>": 0, "a": 1}, merges=[]))
    other = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<|endoftext|>")
    with pytest.raises(ConfigError, match="im_end"):
        generate(model, other, [[1]], SHORT)


def test_the_unknown_token_may_be_a_stop(tokenizer: Any) -> None:
    """Qwen's tokenizers have `<|endoftext|>` as their unknown token."""
    qwen = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, unk_token="<|endoftext|>")
    assert token_id(qwen, "<|endoftext|>") == tokenizer.get_vocab()["<|endoftext|>"]


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"batch_rows": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        GenerationConfig.model_validate(wrong)
