"""Gradient checkpointing: which layers' activations are recomputed in the backward pass instead of kept."""

from typing import Any


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


def enable(model: Any, how: str) -> None:
    """Let a PEFT model on a Transformers base recompute layers; none changes nothing."""
    if how == "none":
        return
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    chosen = set(recomputed(len(layers), how))
    for number, layer in enumerate(layers):
        layer.gradient_checkpointing = number in chosen
