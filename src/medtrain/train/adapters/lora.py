"""LoRA, rsLoRA and DoRA through PEFT."""

from typing import Any, Literal

import torch
from pydantic import Field

from medtrain import config as base


class Config(base.Config):
    """A LoRA adapter; BioQwen's by default."""

    kind: Literal["lora"] = "lora"
    """This plug-in's name."""
    rank: int = Field(default=64, ge=1)
    """Rank r of A (r, in) and B (out, r)."""
    alpha: float = Field(default=16, gt=0)
    """Scale: the update is alpha / r * B A (rsLoRA: alpha / sqrt(r))."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Names of linear layers; `all-linear` is every one but the head."""
    rslora: bool = False
    """Scale by the root of the rank (Kalajdzievski 2023)."""
    dora: bool = False
    """Train magnitudes apart from directions (Liu et al. 2024)."""


def attach(model: torch.nn.Module, config: Config, seed: int) -> Any:
    """The model with a fresh adapter in float32; only the adapter is trainable.

    A is drawn from the seed, B is 0, so that the first output is the base's.
    """
    import peft

    targets = config.target_modules
    lora = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=config.rslora,
        use_dora=config.dora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    return peft.get_peft_model(model, lora, autocast_adapter_dtype=True)
