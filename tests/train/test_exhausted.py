"""Memory that is exhausted: recognised, and answered with what to lower."""

from typing import Any

import pytest
import torch

from medtrain.train.exhausted import advice, host_advice, is_exhausted
from medtrain.train.stage import StageConfig


def config(**settings: Any) -> StageConfig:
    return StageConfig.model_validate({"name": "x", "stage": 1, "tokens": "t", **settings})


def test_a_refused_allocation_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_exhausted(caught.value)
    assert is_exhausted(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_exhausted(RuntimeError("CUDA error: out of memory")), "another try may find it free"
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
    text = advice(config(**settings), torch.device("cpu"), torch.OutOfMemoryError("no size"))
    assert text.startswith("out of memory on cpu: ") and text.endswith("--dry-run says what fits")
    assert all(part in text for part in said) and not any(part in text for part in unsaid)


def test_on_a_gpu_the_numbers_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the worker's own device, whichever is the process's first."""
    held = {torch.device("cuda", 0): (9, 9, 9), torch.device("cuda", 1): (3, 48, 39)}  # quarters of a GiB
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: tuple(n * 2**28 for n in held[device][:2]))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held[device][2] * 2**28)
    refused = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 1 has a total capacity of …")
    text = advice(config(), torch.device("cuda", 1), refused)
    numbers = "2.5 GiB refused; 9.8 GiB allocated at the peak, 0.8 of 12.0 GiB free"
    assert text.startswith(f"out of memory on cuda:1 ({numbers}): ")


def test_a_cpu_s_refused_size_is_said() -> None:
    """The one number that there is: it is in the allocator's own words."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.uint8)
    text = advice(config(), torch.device("cpu"), caught.value)
    assert text.startswith("out of memory on cpu (1,048,576.0 GiB refused): ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has", " (20.0 MiB refused): "),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1572864 bytes.", " (1.5 MiB refused): "),
        ("CUDA out of memory. Tried to allocate 512 bytes.", " (less than 1 MiB refused): "),
        ("CUDA error: out of memory", ": "),
    ],
)
def test_the_refused_size_is_the_error_s_own(error: str, said: str) -> None:
    assert advice(config(), torch.device("cpu"), RuntimeError(error)).startswith(f"out of memory on cpu{said}set ")


def test_what_a_gpu_worker_s_host_holds_less_with_is_not_what_its_gpu_does() -> None:
    """Neither its model nor its batches are there."""
    settings: dict[str, Any] = {"checkpoint": {"memory_every_steps": 8}, "engine": {"offload_optimizer": True}}
    told = "set checkpoint.memory_every_steps: 0 instead of 8; set engine.offload_optimizer: false; "
    assert host_advice(config(**settings), gpu=True) == (
        f"out of the memory of a worker's host: {told}lower runtime.workers, if several share a node"
    )
    on_cpu = host_advice(config(**settings, batch={"micro_tokens": 4096}), gpu=False)
    assert "lower batch.micro_tokens=4096" in on_cpu and told in on_cpu


def test_what_is_not_set_is_no_lever() -> None:
    text = host_advice(config(checkpoint={"memory_every_steps": 0}), gpu=True)
    assert text == "out of the memory of a worker's host: lower runtime.workers, if several share a node"
