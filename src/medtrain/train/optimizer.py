"""AdamW over the trainable tensors, and the learning rate as a pure function of the step."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from pydantic import Field

from medtrain.config import Config
from medtrain.errors import ConfigError

RATE_SCALE = "rate_scale"
"""Key of a parameter group: what the step's learning rate is multiplied with for it."""


class OptimizerConfig(Config):
    """AdamW and its schedule."""

    kind: Literal["adamw", "adamw8bit", "paged_adamw", "paged_adamw8bit"] = "adamw"
    """PyTorch's AdamW at any ZeRO stage; or bitsandbytes': moments in 8 bits, or paged out of a GPU's memory, or both.
    These need engine.zero_stage 0, where each state is that of one tensor; a resume on as many workers is exact."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
    lora_plus: float = Field(default=1.0, ge=1)
    """Learning rate of LoRA's B as a multiple of A's (LoRA+, Hayou et al. 2024, section 4: about 16)."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment."""
    clip: float = Field(default=0.3, ge=0)
    """Largest global gradient norm; 0 clips nothing."""
    warmup_fraction: float = Field(default=0.1, ge=0, le=1)
    """Part of all steps in which the rate rises linearly from 0."""
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    """What follows the warm-up: a linear fall to 0, no change, or half a cosine to 0."""


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The rate of optimizer step `step` (from 0) of `steps`.

    The warm-up's first step is not wasted on a rate of 0: step s of w warm-up steps has (s + 1) / w of the peak.
    """
    warmup = round(config.warmup_fraction * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    remaining = (steps - step) / max(1, steps - warmup)  # 1 at the peak, towards 0 at the end
    if config.schedule == "linear":
        return config.learning_rate * remaining
    return float(config.learning_rate * 0.5 * (1 - torch.cos(torch.tensor(torch.pi * remaining, dtype=torch.float64))))


def build(
    config: OptimizerConfig, parameters: Iterable[tuple[str, torch.nn.Parameter]], *, fused: bool = False
) -> torch.optim.Optimizer:
    """AdamW over the parameters that are trained.

    Args:
        config: kind and rates.
        parameters: (name, parameter) of a model; those named `lora_B` may have a rate of their own.
        fused: let PyTorch's AdamW update all tensors in one call.

    Raises:
        ConfigError: a paged optimizer without a GPU.
    """
    trained = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    if config.kind.startswith("paged") and any(parameter.device.type != "cuda" for _, parameter in trained):
        raise ConfigError(
            f"optimizer.kind={config.kind}: pages a GPU's memory out, and there is no GPU; "
            f"use {config.kind.removeprefix('paged_')}"
        )
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained if ("lora_B" in name) == fast], RATE_SCALE: scale}
        for fast, scale in ((False, 1.0), (True, config.lora_plus))
    ]
    if config.lora_plus == 1:
        groups = [{"params": [p for _, p in trained], RATE_SCALE: 1.0}]
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "betas": (config.beta1, config.beta2),
        "eps": config.epsilon,
        "weight_decay": config.weight_decay,
    }
    if config.kind == "adamw":
        settings["fused"] = fused
    return _class(config.kind)([group for group in groups if group["params"]], **settings)


def _class(kind: str) -> Any:
    if kind == "adamw":
        return torch.optim.AdamW
    from bitsandbytes import optim

    return {"adamw8bit": optim.AdamW8bit, "paged_adamw": optim.PagedAdamW, "paged_adamw8bit": optim.PagedAdamW8bit}[
        kind
    ]
