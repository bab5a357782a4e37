"""AdamW over the trainable tensors, and the learning rate as a pure function of the step."""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field

from medtrain.config import Config


class OptimizerConfig(Config):
    """AdamW and its schedule."""

    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
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


def build(config: OptimizerConfig, parameters: Iterable[torch.nn.Parameter]) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained."""
    return torch.optim.AdamW(
        [parameter for parameter in parameters if parameter.requires_grad],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
    )
