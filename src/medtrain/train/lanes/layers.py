"""The base with all lanes in it: each linear layer runs once, and every lane's product is added to its own rows."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from medtrain.errors import ConfigError
from medtrain.train.lanes.lowrank import Factors, Part, add_products
from medtrain.train.state import trainable

ADAPTER = "default"
"""The name that PEFT gives an adapter."""


@dataclass
class Present:
    """Which lanes the forward pass that is under way has; every shared layer looks here."""

    parts: list[Part] = field(default_factory=list)

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For gradient checkpointing: a recomputed layer draws the dropout that it drew first."""
        before: list[torch.Tensor] = []
        return self._note(before), self._repeat(before)

    @contextmanager
    def _note(self, before: list[torch.Tensor]) -> Iterator[None]:
        before += [part.generator.get_state() for part in self.parts]
        yield

    @contextmanager
    def _repeat(self, before: list[torch.Tensor]) -> Iterator[None]:
        now = [part.generator.get_state() for part in self.parts]
        for part, state in zip(self.parts, before, strict=True):
            part.generator.set_state(state)
        yield
        for part, state in zip(self.parts, now, strict=True):
            part.generator.set_state(state)


class SharedLinear(torch.nn.Module):
    """A frozen linear layer with the factors of the lanes that adapt it, which are held by the lanes' own models."""

    def __init__(self, base_layer: torch.nn.Module, present: Present):
        super().__init__()
        self.base_layer = base_layer
        self.factors: dict[str, Factors] = {}
        """By lane."""
        self._present = present

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, T, in) -> (1, T, out)."""
        parts = [part for part in self._present.parts if part.lane in self.factors]
        output: torch.Tensor = add_products(self.base_layer(x), x, parts, [self.factors[part.lane] for part in parts])
        return output


def install(shared: Any, present: Present, lane: str, model: Any) -> None:
    """Let the shared base run a lane's adapter.

    Args:
        shared: the base's twin that all lanes run in; layers that this lane adapts first are replaced in it.
        present: what its layers look at.
        lane: name of the lane.
        model: the lane's own PEFT model, over a twin of the same base.

    Raises:
        ConfigError: the adapter does something that lanes cannot share.
    """
    found = {name: layer for name, layer in model.get_base_model().named_modules() if hasattr(layer, "lora_A")}
    factors = {name: factors_of(name, layer) for name, layer in found.items()}
    shareable = {id(tensor) for f in factors.values() for tensor in (f.a, f.e, f.b)}
    other = [name for name, parameter in trainable(model).items() if id(parameter) not in shareable]
    if other:
        raise ConfigError(
            f"adapter: {other[0]} is trained, which lanes cannot share; train this adapter in its own run"
        )
    for name, own in factors.items():
        layer = shared.get_submodule(name)
        if not isinstance(layer, SharedLinear):
            parent, _, child = name.rpartition(".")
            layer = SharedLinear(layer, present)
            setattr(shared.get_submodule(parent), child, layer)
        layer.factors[lane] = own


def uninstall(shared: Any, lane: str) -> None:
    """Take a lane out of the shared base."""
    for layer in shared.modules():
        if isinstance(layer, SharedLinear):
            layer.factors.pop(lane, None)


def factors_of(name: str, layer: Any) -> Factors:
    """The factors that PEFT's LoRA or AdaLoRA layer holds.

    Raises:
        ConfigError: the layer computes something else than a low-rank product.
    """
    kind = "DoRA" if getattr(layer, "lora_variant", None) else ""
    if not isinstance(layer.get_base_layer(), torch.nn.Linear):
        kind = f"an adapter of {type(layer.get_base_layer()).__name__}"
    if kind:
        raise ConfigError(f"adapter: {name} is {kind}, which lanes cannot share; train this adapter in its own run")
    a, b, rate = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER], getattr(layer.lora_dropout[ADAPTER], "p", 0.0)
    if not hasattr(layer, "lora_E"):
        return Factors(a.weight, None, b.weight, layer.scaling[ADAPTER], rate)
    scale = layer.scaling[ADAPTER] / (layer.ranknum[ADAPTER].item() + 1e-5)
    return Factors(a, layer.lora_E[ADAPTER], b, scale, rate)
