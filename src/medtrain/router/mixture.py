"""The frozen base with every expert's factors in it: a forward pass under any weights of theirs, or under many at once.

Nothing is fused or loaded for a candidate: its weights are a few numbers that every layer looks up. Candidates share
each layer's product and, on a 4-bit base, its dequantisation.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import linear

from medtrain.errors import ConfigError
from medtrain.experts.folder import Adapter, Factors
from medtrain.experts.fuse import Granularity
from medtrain.experts.merges import equal_rank
from medtrain.router.gate import places_of

Merge = Literal["cat", "lorahub"]
"""What weights mean, as in `experts/merges`: those of a sum of products, or of A and B each."""


@dataclass
class Present:
    """The weights of the forward pass that is under way; every layer looks here."""

    weights: torch.Tensor | None = None
    """(C, places, experts); None is the base alone."""


class MixedLinear(torch.nn.Module):
    """A frozen linear layer and the factors of the experts that adapt it, side by side, in float32.

    Args:
        base_layer: the layer as it was.
        held: (number of the expert, its factors here) of those that adapt it.
        spot: position of this layer's place among the places.
        merge: what weights mean.
        present: where they are looked up.
    """

    A: torch.Tensor
    """(sum r, in)."""
    B: torch.Tensor
    """(out, sum r)."""
    columns: torch.Tensor
    """(experts that adapt this, sum r): 1 where a column belongs to an expert."""

    def __init__(
        self,
        base_layer: torch.nn.Linear,
        held: Sequence[tuple[int, Factors]],
        spot: int,
        merge: Merge,
        present: Present,
    ):
        super().__init__()
        self.base_layer = base_layer
        self._spot, self._merge, self._present = spot, merge, present
        self._experts = [number for number, _ in held]
        device = base_layer.weight.device
        # The root on either side, so that both merges take the same factors.
        A = torch.cat([f.A.double() * f.scale**0.5 for _, f in held])
        B = torch.cat([f.B.double() * f.scale**0.5 for _, f in held], dim=1)
        ones = torch.block_diag(*(torch.ones(1, f.rank) for _, f in held))
        for name, tensor in (("A", A), ("B", B), ("columns", ones)):
            self.register_buffer(name, tensor.to(device, torch.float32), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(1, C * T, in) -> (1, C * T, out), the rows of each candidate under its own weights."""
        result: torch.Tensor = self.base_layer(x)
        if self._present.weights is None:
            return result
        weights = self._present.weights[:, self._spot, self._experts].to(self.A.dtype)  # (C, K)
        h = linear(x.to(self.A.dtype), self.A)  # (1, C * T, sum r)
        mixed = self._mixed(h.view(len(weights), -1, h.shape[-1]), weights)
        return (result + linear(mixed.view_as(h), self.B)).to(result.dtype)

    def _mixed(self, h: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """What B takes: (C, T, sum r)."""
        if self._merge == "lorahub":
            # (sum_j w_j B_j) (sum_i w_i A_i): each expert's B gets the weighted sum of what every A gave.
            apart = h.unflatten(-1, (len(self._experts), -1))  # (C, T, K, r)
            scale = weights[:, None, :, None]
            return (scale * (scale * apart).sum(2, keepdim=True)).flatten(2)
        # A product with zeros and ones, because the gradient of an indexed look-up has no fixed order of summation.
        return h * (weights @ self.columns)[:, None]


class Mixture:
    """A base that holds experts; its linear layers are replaced in the model that is given.

    Args:
        model: a causal language model; it is put in evaluation mode and frozen.
        experts: their adapters, in the order of the weights.
        granularity: what has weights of its own.
        merge: what weights mean.

    Raises:
        ConfigError: an expert does not fit the base, or the experts do not go with the merge.
    """

    def __init__(self, model: Any, experts: Sequence[Adapter], granularity: Granularity, merge: Merge = "cat"):
        self.model = model.eval().requires_grad_(False)
        self._present = Present()
        self.modules = places_of(experts, granularity)
        """Name of each adapted layer -> its place."""
        self.places = tuple(dict.fromkeys(self.modules.values()))
        for name, spot in self.modules.items():
            held = [(number, e.modules[name]) for number, e in enumerate(experts) if name in e.modules]
            if merge == "lorahub":
                equal_rank("lorahub", [factors for _, factors in held])
            layer = _checked(model, name, [factors for _, factors in held])
            parent, _, child = name.rpartition(".")
            mixed = MixedLinear(layer, held, self.places.index(spot), merge, self._present)
            setattr(model.get_submodule(parent), child, mixed)

    @contextmanager
    def weighted(self, weights: torch.Tensor) -> Iterator[None]:
        """Forward passes in here run under weights, through which gradients flow; those outside run the base alone.

        Args:
            weights: (C, places, experts). A packed row is then C runs of as many tokens, one for each candidate.
        """
        self._present.weights = weights
        try:
            yield
        finally:
            self._present.weights = None


def _checked(model: Any, name: str, held: Sequence[Factors]) -> torch.nn.Linear:
    """The layer of a name, if the experts' factors fit it.

    Raises:
        ConfigError: they do not, or it is the head.
    """
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        raise ConfigError(
            f"experts: they adapt {name}, which the base has not; give the base they were trained on"
        ) from None
    if not name.startswith("model.") or not isinstance(layer, torch.nn.Linear):
        raise ConfigError(
            f"experts: they adapt {name}, a {type(layer).__name__}; a router weighs the linear layers below the head "
            "alone, so train the experts on these"
        )
    for factors in held:
        given, wanted = (len(factors.B), factors.A.shape[1]), (layer.out_features, layer.in_features)
        if given != wanted:
            raise ConfigError(
                f"experts: an update of {name} is {given} (out, in) and the layer {wanted}; "
                "give the base they were trained on"
            )
    return layer
