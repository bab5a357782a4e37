"""The released scripts' text and mask, against the scripts' own arithmetic written out on strings."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medtrain.tokens.recipe import SYSTEM_PROMPTS, language_of
from medtrain.tokens.released import beginning
from medtrain.tokens.template import Piece

LIMIT = 260


def script(kit: Any, stage: int, instruction: str, given_input: str, output: str) -> tuple[list[int], list[int]] | None:
    """`tokenize_chatml` and the collator of the released scripts for one row; None where mask and tokens disagree."""
    system = f"<|im_start|>system\n{SYSTEM_PROMPTS[language_of(instruction)]}<|im_end|>\n"
    joined = instruction.strip() + (" " if stage == 1 else "") + given_input.strip()
    user = f"<|im_start|>user\n{joined}<|im_end|>\n<|im_start|>assistant\n"
    text = f"{system}{user}{output.strip()}<|im_end|>\n"
    minimum = len(kit.ids_of(system + user))
    while len(kit.ids_of(text)) > LIMIT:
        last = text.rfind("\n")
        if last > minimum:
            text = text[:last]
        else:
            text = text[:LIMIT]
            break
    if not text.endswith("<|im_end|>\n"):
        text += "<|im_end|>\n"
    text += "<|endoftext|>"
    ids = kit.ids_of(text)
    start = len(kit.ids_of(system)) + len(kit.ids_of(user))
    if not text.startswith(system + user):
        return None
    mask = [0] * start + [1] * (len(ids) - start)
    return ids[-LIMIT:], mask[-LIMIT:]


def ours(kit: Any, base: Path, stage: int, row: tuple[str, str, str]) -> tuple[list[int], list[int]] | None:
    renderer = kit.renderer(base, mode="released", stage=stage, context_tokens=LIMIT)
    sample, _ = renderer.sample(kit.record(*row, language="en"))
    if sample is None:
        return None
    mask = [0] * len(sample.input_ids)
    for start, stop in sample.trained:
        mask[start:stop] = [1] * (stop - start)
    return sample.input_ids.tolist(), mask


WORDS = st.text(st.sampled_from("ab 病药。.\n"), min_size=0, max_size=160)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stage=st.sampled_from([1, 2]), instruction=WORDS, given_input=WORDS, output=WORDS)
def test_text_and_mask_equal_the_script(
    kit: Any, byte_base: Path, stage: int, instruction: str, given_input: str, output: str
) -> None:
    row = ("q" + instruction, given_input, "r" + output)
    assert ours(kit, byte_base, stage, row) == script(kit, stage, *row)


@pytest.mark.parametrize(
    "row",
    [
        ("Why?", "", "One.\n" + "x" * 300),
        ("Why?", "", "x" * 400),
        ("Why?", "p\n" * 200, "So."),
        ("Why?", "p" * 400, "So."),
        ("Why?", "", "x" * 99 + "\n" + "y" * 20),
        ("为什么？", "病" * 200, "好。\n好。"),
    ],
)
@pytest.mark.parametrize("stage", [1, 2])
def test_over_long_rows_equal_the_script(kit: Any, byte_base: Path, stage: int, row: tuple[str, str, str]) -> None:
    assert ours(kit, byte_base, stage, row) == script(kit, stage, *row)


def test_the_second_end_of_a_text_one_token_too_long(kit: Any, byte_base: Path) -> None:
    prompt = len(kit.ids_of(kit.renderer(byte_base, mode="released").text(kit.record("Why?", "", "r")))) - 4
    exactly = "r" * (LIMIT + 1 - prompt - 2)
    sample, entries = kit.renderer(byte_base, mode="released", context_tokens=LIMIT).sample(
        kit.record("Why?", "", exactly)
    )
    assert kit.trained_texts(sample)[0].endswith("r<|im_end|><|im_end|>\n<|endoftext|>")
    assert [e.rule for e in entries] == ["released-cut"]


def test_a_torn_control_token_is_plain_text() -> None:
    pieces = [Piece("ab"), Piece("<|im_end|>", control=True), Piece("\n")]
    assert beginning(pieces, 5) == [Piece("ab"), Piece("<|i")]
    assert beginning(pieces, 12) == pieces[:2]
