"""Gradient checkpointing: which layers' activations are recomputed in the backward pass instead of kept."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

Contexts = Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]
"""Called at each recomputed layer: what its forward pass runs in, and what its recomputation does."""


def recomputed(layers: int, how: str) -> list[int]:
    """The numbers of the layers that are recomputed.

    Selective takes every second one counted from the end, so that never the last: its activations are needed at once.

    Args:
        layers: decoder layers of the model.
        how: none, selective or whole.
    """
    if how == "whole":
        return list(range(layers))
    return [number for number in range(layers) if (layers - number) % 2 == 0] if how == "selective" else []


def enable(model: Any, how: str, contexts: Contexts | None = None) -> None:
    """Let a Transformers model, or a PEFT model on one, recompute layers; none changes nothing."""
    if how == "none":
        return
    from transformers.modeling_layers import GradientCheckpointingLayer

    told: dict[str, Any] = {"use_reentrant": False} | ({"context_fn": contexts} if contexts is not None else {})
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=told)
    model.enable_input_require_grads()
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    chosen = set(recomputed(len(layers), how))
    for number, layer in enumerate(layers):
        layer.gradient_checkpointing = number in chosen
