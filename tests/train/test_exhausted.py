"""Memory that is exhausted: recognised, and answered with what to lower."""

from typing import Any

import pytest
import torch

from medtrain.train.exhausted import advice, is_exhausted
from medtrain.train.stage import StageConfig


def config(**settings: Any) -> StageConfig:
    return StageConfig.model_validate({"name": "x", "stage": 1, "tokens": "t", **settings})


def test_a_refused_allocation_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_exhausted(caught.value)
    assert is_exhausted(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_exhausted(RuntimeError("shape mismatch")) and not is_exhausted(MemoryError())


@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        ({"batch": {"layout": "packed", "micro_tokens": 4096}}, ["micro_tokens=4096"], ["micro_samples", "nf4"]),
        ({"batch": {"layout": "padded", "micro_samples": 4}}, ["micro_samples=4"], ["micro_tokens"]),
        ({"batch": {"layout": "padded", "micro_samples": 1}}, ["context_tokens"], ["micro_samples"]),
        ({"model": {"precision": "bf16"}}, ["model.precision: nf4 instead of bf16"], []),
        ({"engine": {"gradient_checkpointing": "whole"}}, [], ["gradient_checkpointing"]),
        ({"engine": {"gradient_checkpointing": "none"}}, ["engine.gradient_checkpointing: whole"], []),
    ],
)
def test_the_levers_that_are_left_are_named(settings: dict[str, Any], said: list[str], unsaid: list[str]) -> None:
    text = advice(config(**settings), torch.device("cpu"))
    assert text.startswith("out of memory on cpu: ") and text.endswith("--dry-run says what fits")
    assert all(part in text for part in said) and not any(part in text for part in unsaid)


def test_on_a_gpu_the_numbers_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the worker's own device, whichever is the process's first."""
    held = {torch.device("cuda", 0): (9, 9, 9), torch.device("cuda", 1): (3, 48, 39)}  # quarters of a GiB
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: tuple(n * 2**28 for n in held[device][:2]))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held[device][2] * 2**28)
    text = advice(config(), torch.device("cuda", 1))
    assert text.startswith("out of memory on cuda:1 (9.8 GiB allocated at the peak, 0.8 of 12.0 GiB free): ")
