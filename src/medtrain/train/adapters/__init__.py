"""Adapters: one file each, named by `adapter.kind`.

A plug-in has `Config` and `attach(model, config, seed)`. One that acts in training also has `rule(config, model,
steps)`, `refusal(config, zero_stage, keep, patience)` for what it does not go with, and `check_length(config, steps)`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch

from medtrain import plugins
from medtrain.config import Config, parse

Tensors = Mapping[str, torch.Tensor]


class Rule(Protocol):
    """What an adapter does around each optimizer step, counted from 1; see `train/allocator.py` for one."""

    def regulariser(self, parameters: Tensors) -> torch.Tensor: ...

    def reads_gradients(self, step: int) -> bool: ...

    def after_step(
        self, step: int, parameters: Tensors, gradients: Tensors, clipped: float
    ) -> dict[str, torch.Tensor]: ...

    def metrics(self) -> dict[str, float]: ...

    def state(self) -> dict[str, torch.Tensor]: ...

    def load(self, state: Tensors) -> None: ...

    def finish(self) -> None: ...


def validate(adapter: dict[str, Any]) -> Config:
    """The adapter's own config, by its `kind`.

    Raises:
        ConfigError: there is no such kind, or a setting is wrong.
    """
    module = plugins.load("train", "adapters", str(adapter.get("kind", "lora")))
    kind: type[Config] = module.Config
    return parse(kind, adapter)


def refusal(adapter: dict[str, Any], zero_stage: int, keep: str, patience: int) -> str:
    """Why an adapter does not go with a ZeRO stage, a choice of weights or an early stop; empty where it does."""
    module = plugins.load("train", "adapters", str(adapter.get("kind", "lora")))
    if not hasattr(module, "refusal"):
        return ""
    return str(module.refusal(validate(adapter), zero_stage, keep, patience))


def check_length(adapter: dict[str, Any], steps: int) -> None:
    """See before anything is loaded that a run of `steps` optimizer steps is long enough for its adapter.

    Raises:
        ConfigError: it is not; the message has the arithmetic.
    """
    module = plugins.load("train", "adapters", str(adapter.get("kind", "lora")))
    if hasattr(module, "check_length"):
        module.check_length(validate(adapter), steps)


def rule(adapter: dict[str, Any], model: Any, steps: int) -> Rule | None:
    """What an attached adapter does around each of a run's optimizer steps, if anything.

    Raises:
        ConfigError: the run is too short for it.
    """
    module = plugins.load("train", "adapters", str(adapter.get("kind", "lora")))
    made: Rule | None = module.rule(validate(adapter), model, steps) if hasattr(module, "rule") else None
    return made


def attach(model: Any, adapter: dict[str, Any], seed: int) -> Any:
    """The model with a fresh adapter of the configured kind, as a `peft.PeftModel`."""
    module = plugins.load("train", "adapters", str(adapter.get("kind", "lora")))
    return module.attach(model, validate(adapter), seed)
